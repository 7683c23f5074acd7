"""The OpenAPI 3.1 document of a table of routes, and a page that shows it without a network.

Both are made once, when the server starts.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from html import escape
from typing import Any

from apihour_http.endpoint import Endpoint
from apihour_http.response import Response
from apihour_http.routing.paths import parameters_of, parse_path
from apihour_http.routing.routes import Routes
from apihour_http.routing.validation import Plan, is_model, msgspec

__all__ = ["add_to", "document", "page"]

_CONVERTER_SCHEMAS: dict[str, dict[str, Any]] = {
    "int": {"type": "integer"}, "float": {"type": "number"},
    "uuid": {"type": "string", "format": "uuid"},
}
_PROBLEM = {"description": "Problem document (RFC 9457)",
            "content": {"application/problem+json": {"schema": {"type": "object"}}}}
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;
color:#1c2733;background:#fff}details{border:1px solid #d5dde5;border-radius:6px;margin:.5rem 0}
summary{padding:.5rem .8rem;cursor:pointer}summary b{display:inline-block;width:5rem}
details div{padding:0 .8rem .8rem}pre{background:#f4f6f8;padding:.6rem;overflow:auto}
table{border-collapse:collapse}td,th{text-align:left;padding:.2rem .8rem .2rem 0}
@media(prefers-color-scheme:dark){body{color:#dfe7ee;background:#12181f}pre{background:#1c252e}
details{border-color:#33414e}}"""


def document(
    endpoints: Iterable[tuple[Endpoint, Plan | None]], title: str, version: str
) -> dict[str, Any]:
    """The document for `endpoints` and what is known of their arguments."""
    known = [(e, plan) for e, plan in endpoints if e.options.get("include_in_schema", True)]
    schemas, components = _schemas([plan for _, plan in known if plan is not None])
    paths: dict[str, dict[str, Any]] = {}
    for endpoint, plan in known:
        place = paths.setdefault(_template(endpoint.path), {})
        place[endpoint.method.lower()] = _operation(endpoint, plan, schemas)
    found: dict[str, Any] = {
        "openapi": "3.1.0", "info": {"title": title, "version": version}, "paths": paths,
    }
    if components:
        found["components"] = {"schemas": components}
    return found


def _schemas(plans: list[Plan]) -> tuple[dict[int, Any], dict[str, Any]]:
    """The schema of every annotation, by its id, and the components they refer to."""
    kinds: list[Any] = []
    for plan in plans:
        kinds += [p.kind for p in plan.parameters]
        if is_model(plan.returns):
            kinds.append(plan.returns)
    if not kinds:
        return {}, {}
    made, components = msgspec().json.schema_components(
        kinds, ref_template="#/components/schemas/{name}")
    return {id(kind): schema for kind, schema in zip(kinds, made, strict=True)}, components


def _template(path: str) -> str:
    parts = [p if isinstance(p, str) else "{" + p[0] + "}" for p in parse_path(path)]
    return "/" + "/".join(parts)


def _operation(endpoint: Endpoint, plan: Plan | None, schemas: dict[int, Any]) -> dict[str, Any]:
    text = inspect.getdoc(endpoint.function) or ""
    options = endpoint.options
    operation: dict[str, Any] = {"operationId": f"{endpoint.method.lower()} {endpoint.name}"}
    summary = options.get("summary") or text.partition("\n")[0]
    description = options.get("description") or text.partition("\n")[2].strip()
    for key, value in (("summary", summary), ("description", description),
                       ("tags", options.get("tags"))):
        if value:
            operation[key] = value
    parameters = _path_parameters(endpoint, plan, schemas)
    answers: dict[str, Any] = {str(options.get("status", 200)): {"description": "Success"}}
    if plan is not None:
        parameters += _query_parameters(plan, schemas)
        body = next((p for p in plan.parameters if p.source == "body"), None)
        if body is not None:
            operation["requestBody"] = {
                "required": body.required,
                "content": {"application/json": {"schema": schemas[id(body.kind)]}}}
        if is_model(plan.returns):
            next(iter(answers.values()))["content"] = {
                "application/json": {"schema": schemas[id(plan.returns)]}}
        answers["422"] = _PROBLEM
    if parameters:
        operation["parameters"] = parameters
    operation["responses"] = answers
    return operation


def _path_parameters(
    endpoint: Endpoint, plan: Plan | None, schemas: dict[int, Any]
) -> list[dict[str, Any]]:
    known = {p.name: schemas[id(p.kind)] for p in plan.parameters} if plan is not None else {}
    return [
        {"name": name, "in": "path", "required": True,
         "schema": known.get(name) or _CONVERTER_SCHEMAS.get(converter, {"type": "string"})}
        for name, converter in parameters_of(endpoint.path)
    ]


def _query_parameters(plan: Plan, schemas: dict[int, Any]) -> list[dict[str, Any]]:
    found = []
    for parameter in plan.parameters:
        if parameter.source == "query":
            found.append({"name": parameter.name, "in": "query", "required": parameter.required,
                          "schema": schemas[id(parameter.kind)]})
        elif parameter.source == "fields":
            found.append({"name": parameter.name, "in": "query", "style": "form", "explode": True,
                          "required": parameter.required, "schema": schemas[id(parameter.kind)]})
    return found


def page(found: dict[str, Any]) -> str:
    """The document as one page of HTML: no script, no font, no address but its own."""
    info = found["info"]
    rows = [
        _section(method, path, operation)
        for path, methods in found["paths"].items() for method, operation in methods.items()
    ]
    models = json.dumps(found.get("components", {}).get("schemas", {}), indent=2)
    title = f"{escape(info['title'])} {escape(info['version'])}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style><h1>{title}</h1>{''.join(rows)}"
        f"<h2>Models</h2><pre>{escape(models)}</pre>"
        f"<p><a href=openapi.json>openapi.json</a></p></html>"
    )


def _section(method: str, path: str, operation: dict[str, Any]) -> str:
    details = {k: v for k, v in operation.items() if k in ("parameters", "requestBody",
                                                           "responses")}
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> "
        f"{escape(operation.get('summary', ''))}</summary>"
        f"<div><p>{escape(operation.get('description', ''))}</p>"
        f"<pre>{escape(json.dumps(details, indent=2))}</pre></div></details>"
    )


def add_to(
    endpoints: list[Endpoint], plans: dict[Endpoint, Plan | None], title: str, version: str
) -> list[Endpoint]:
    """Return endpoints for ``/openapi.json`` and ``/docs``, unless these are declared."""
    found = document([(e, plans[e]) for e in endpoints], title, version)
    text = json.dumps(found).encode()
    html = page(found).encode()
    taken = {(e.method, e.path) for e in endpoints}
    routes = Routes()

    if ("GET", "/openapi.json") not in taken:
        @routes.get("/openapi.json")
        def openapi(request: Any) -> Response:
            return Response(200, {"Content-Type": "application/json"}, text)

    if ("GET", "/docs") not in taken:
        @routes.get("/docs")
        def docs(request: Any) -> Response:
            return Response(200, {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            }, html)

    return list(routes)
