"""Whether a JSON Schema may take the place of a released one without a new version of its message.

Inbound: what a producer could send before must still be accepted, and no field it may send is dropped silently.
Outbound: what is sent now must be what a consumer could expect before; fields may be added, since consumers ignore those they
do not know. Keywords that the checker does not understand may only disappear from the accepting side or stay as they are.
"""

from typing import Any, Literal

Schema = dict[str, Any]

ANNOTATIONS = {"title", "description", "default", "examples", "deprecated", "$comment", "$schema", "$id", "$defs", "$ref"}
LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
STRUCTURE = {"type", "enum", "const", "properties", "required", "items", "additionalProperties"}
UNDERSTOOD = ANNOTATIONS | STRUCTURE | {*LOWER_BOUNDS, *UPPER_BOUNDS}


def breaking_changes(old: Schema, new: Schema, direction: Literal["inbound", "outbound"]) -> list[str]:
    """What makes `new` incompatible with the released `old`, one line each; none means compatible."""
    if direction == "inbound":
        return Comparison(sent=old, accepted=new, direction=direction).run()
    return Comparison(sent=new, accepted=old, direction=direction).run()


class Comparison:
    """Finds what `sent` allows and `accepted` does not."""

    def __init__(self, sent: Schema, accepted: Schema, direction: Literal["inbound", "outbound"]) -> None:
        self.sent_root = sent
        self.accepted_root = accepted
        self.inbound = direction == "inbound"

    def run(self) -> list[str]:
        return self.compare(self.sent_root, self.accepted_root, "$", frozenset())

    def compare(self, sent: Schema, accepted: Schema, path: str, open_refs: frozenset[tuple[str, str]]) -> list[str]:
        pair = (sent.get("$ref", ""), accepted.get("$ref", ""))
        if all(pair):
            if pair in open_refs:
                return []
            open_refs |= {pair}
        sent = resolved(sent, self.sent_root)
        accepted = resolved(accepted, self.accepted_root)
        ways, doors = alternatives(sent), alternatives(accepted)
        if ways == [sent] and doors == [accepted]:
            return self.compare_one(sent, accepted, path, open_refs)
        problems: list[str] = []
        for way in ways:
            found = [self.compare(way, door, path, open_refs) for door in doors]
            if all(found):
                # The nearest alternative explains best.
                problems += min(found, key=len)
        return problems

    def compare_one(self, sent: Schema, accepted: Schema, path: str, open_refs: frozenset[tuple[str, str]]) -> list[str]:
        problems = self.compare_types(sent, accepted, path)
        if problems:
            return problems
        problems += self.compare_values(sent, accepted, path)
        problems += self.compare_bounds(sent, accepted, path)
        problems += [
            f"{path}: {keyword} changed"
            for keyword in sorted(accepted.keys() - UNDERSTOOD)
            if sent.get(keyword) != accepted[keyword]
        ]
        problems += self.compare_objects(sent, accepted, path, open_refs)
        if isinstance(accepted.get("items"), dict):
            problems += self.compare(sent.get("items", {}), accepted["items"], f"{path}[]", open_refs)
        return problems

    def compare_types(self, sent: Schema, accepted: Schema, path: str) -> list[str]:
        if not (allowed := types(accepted)):
            return []
        if "number" in allowed:
            allowed |= {"integer"}
        given = types(sent)
        if given and given <= allowed:
            return []
        return [f"{path}: type {sorted(given) or 'any'} does not fit {sorted(allowed)}"]

    def compare_values(self, sent: Schema, accepted: Schema, path: str) -> list[str]:
        if (allowed := values(accepted)) is None:
            return []
        if (given := values(sent)) is None:
            return [f"{path}: any value does not fit {allowed}"]
        return [f"{path}: {value!r} is not among {allowed}" for value in given if value not in allowed]

    def compare_bounds(self, sent: Schema, accepted: Schema, path: str) -> list[str]:
        low = [key for key in LOWER_BOUNDS if key in accepted and not (key in sent and sent[key] >= accepted[key])]
        high = [key for key in UPPER_BOUNDS if key in accepted and not (key in sent and sent[key] <= accepted[key])]
        return [f"{path}: {key} {sent.get(key)} does not fit {accepted[key]}" for key in low + high]

    def compare_objects(self, sent: Schema, accepted: Schema, path: str, open_refs: frozenset[tuple[str, str]]) -> list[str]:
        may_send, known = sent.get("properties", {}), accepted.get("properties", {})
        removed = may_send.keys() - known.keys() if self.inbound else known.keys() - may_send.keys()
        problems = [f"{path}.{name}: removed" for name in sorted(removed)]
        must = set(accepted.get("required", ())) - set(sent.get("required", ())) - removed
        word = "required now" if self.inbound else "not always sent any more"
        problems += [f"{path}.{name}: {word}" for name in sorted(must)]
        for name in sorted(may_send.keys() & known.keys()):
            problems += self.compare(may_send[name], known[name], f"{path}.{name}", open_refs)
        return problems + self.compare_others(sent, accepted, path, open_refs)

    def compare_others(self, sent: Schema, accepted: Schema, path: str, open_refs: frozenset[tuple[str, str]]) -> list[str]:
        others, allowed = sent.get("additionalProperties", True), accepted.get("additionalProperties", True)
        if others is False or allowed is True:
            return []
        if isinstance(others, dict) and isinstance(allowed, dict):
            return self.compare(others, allowed, f"{path}.*", open_refs)
        return [f"{path}: other fields do not fit"]


def resolved(schema: Schema, root: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    prefix, name = reference.rsplit("/", 1)
    assert prefix == "#/$defs", f"{reference}: only references into $defs are understood"
    target: Schema = root["$defs"][name]
    return resolved({**target, **{key: value for key, value in schema.items() if key != "$ref"}}, root)


def alternatives(schema: Schema) -> list[Schema]:
    """The branches of a schema that is nothing but a choice; beside other keywords, anyOf is one condition more."""
    if "anyOf" in schema and schema.keys() - ANNOTATIONS == {"anyOf"}:
        return list(schema["anyOf"])
    return [schema]


def types(schema: Schema) -> set[str]:
    declared = schema.get("type", [])
    return {declared} if isinstance(declared, str) else set(declared)


def values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None
