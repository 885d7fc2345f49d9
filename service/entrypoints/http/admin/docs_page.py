"""GET /docs: the admin API for people, as one page that loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse

__all__ = ["docs_page"]

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { margin-top: 3rem; border-bottom: 1px solid #ccc }
summary { cursor: pointer; padding: .3rem 0 }
details { border-bottom: 1px solid #eee }
code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { background: #f6f6f6; padding: .7rem; overflow: auto }
table { border-collapse: collapse; margin: .5rem 0 }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0 }
b.method { display: inline-block; width: 4.5rem }
"""


async def docs_page(request: Request) -> HTMLResponse:
    """The page, made of what OpenAPI says."""
    page = "".join(_page(request.app.openapi()))
    # Nothing of it runs, and nothing is fetched for it.
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(page, headers=policy)


def _page(api: Mapping[str, Any]) -> Iterator[str]:
    info = api["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>'
    yield f'<p>{_text(info["description"])}</p><p>For programs: <a href="/openapi.json">openapi.json</a>.</p>'
    operations = [
        (method.upper(), path, operation) for path, methods in api["paths"].items() for method, operation in methods.items()
    ]
    for tag in api["tags"]:
        tagged = [one for one in operations if tag["name"] in one[2].get("tags", ())]
        if tagged:
            yield f"<h2>{escape(tag['name'])}</h2><p>{_text(tag['description'])}</p>"
        for method, path, operation in tagged:
            yield from _operation(method, path, operation, api["components"]["responses"])
    yield "<h2>schemas</h2>"
    for name, schema in sorted(api["components"]["schemas"].items()):
        shown = escape(json.dumps(schema, indent=2, ensure_ascii=False))
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{shown}</pre></details>'


def _operation(method: str, path: str, operation: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[str]:
    scopes = " or ".join(f"<code>{escape(scope)}</code>" for one in operation.get("security", ()) for scope in one.get("key", ()))
    summary = escape(operation["summary"])
    yield f'<details><summary><b class="method">{method}</b> <code>{escape(path)}</code> {summary}</summary>'
    yield f"<p>{_text(operation.get('description', ''))}</p><p>Key with {scopes}.</p>"
    if parameters := operation.get("parameters"):
        yield "<table>"
        for one in parameters:
            yield f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}<td>{_text(one.get('description', ''))}"
        yield "</table>"
    if (body := operation.get("requestBody")) is not None:
        yield f"<p>Body: {_schema(body['content'])}</p>"
    yield "<table>"
    for status, described in operation["responses"].items():
        answer = shared[described["$ref"].rpartition("/")[2]] if "$ref" in described else described
        yield f"<tr><td>{escape(status)}<td>{_text(answer['description'])}<td>{_schema(answer.get('content', {}))}"
    yield "</table></details>"


def _schema(content: Mapping[str, Any]) -> str:
    """Links to what a body of any of these media types is."""
    references = (_references(media.get("schema", {})) for media in content.values())
    names = dict.fromkeys(name for found in references for name in found)
    return ", ".join(f'<a href="#{escape(name)}"><code>{escape(name)}</code></a>' for name in names)


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            yield schema["$ref"].rpartition("/")[2]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _text(text: str) -> str:
    """Words, with what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
