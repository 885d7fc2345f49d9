// node validate.mjs FILE: prints what the official AsyncAPI parser finds, as a JSON array of "severity: where: what".
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const SEVERITIES = ["error", "warning", "information", "hint"];
const file = process.argv[2];
const { document, diagnostics } = await new Parser().parse(await readFile(file, "utf8"), { source: file });
const found = diagnostics.map(
  ({ severity, path, message }) => `${SEVERITIES[severity]}: ${path.join(".")}: ${message}`,
);
process.stdout.write(
  JSON.stringify({
    found,
    version: document?.version() ?? null,
    operations: document?.operations().all().map((operation) => operation.id()) ?? [],
    messages: document?.messages().all().map((message) => message.name()) ?? [],
  }) + "\n",
);
