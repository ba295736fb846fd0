"""The OpenAPI 3.1 description, made from the route table and the types on the wire. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from overlay.documents import schema
from overlay.keys.bech32m import MAX_TEXT_CHARS
from overlay.peers import registry_wire as wire
from overlay.registry.routes import ROUTES, Auth, Route

REF = "#/components/schemas/{name}"
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

# The envelope as it stands in JSON; its payload is one of the documents below.
_ENVELOPE: dict[str, Any] = {
    "type": "object",
    "description": "A DSSE envelope. `payload` is a document in base64.",
    "required": ["payloadType", "payload", "signatures"],
    "additionalProperties": False,
    "properties": {
        "payloadType": {
            "enum": [schema.payload_type(kind) for kind in schema.KINDS],
        },
        "payload": {"type": "string", "pattern": _BASE64},
        "signatures": {
            "type": "array",
            "minItems": 1,
            "maxItems": 16,
            "items": {
                "type": "object",
                "required": ["keyid", "sig"],
                "additionalProperties": False,
                "properties": {
                    "keyid": {"type": "string", "maxLength": MAX_TEXT_CHARS},
                    "sig": {"type": "string", "pattern": "^[A-Za-z0-9+/]{86}==$"},
                },
            },
        },
    },
}
_QUERY: dict[str, dict[str, Any]] = {
    "kind": {"required": True, "schema": {"enum": list(schema.KINDS)}},
    "network": {"schema": {"type": "string", "pattern": "^net1[0-9a-z]{38}$"}},
    "limit": {"schema": {"type": "integer", "minimum": 1, "maximum": wire.MAX_PAGE_DOCUMENTS}},
    "after": {"schema": {"type": "string", "pattern": wire.KEY_PATTERN}},
    "from": {"schema": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}},
}
_ID_PATTERN = {
    "farm": "^farm1[0-9a-z]{58}$",
    "node": "^node1[0-9a-z]{58}$",
    "network": "^net1[0-9a-z]{38}$",
}


@lru_cache(maxsize=1)
def describe() -> bytes:
    """The description as JSON."""
    return msgspec.json.encode(_description())


def _description() -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "zos registry",
            "version": "1",
            "description": "A directory of signed documents. Nobody has to trust it.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": _SECURITY},
    }


_SECURITY = {
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": (
            'ZOS-EdDSA id="...",time="<unix ms>",signature="<base64>": ed25519 over registry id, '
            "time, method, path with query, and SHA-256 of the body, joined by line feeds."
        ),
    }
}


def _schemas() -> dict[str, Any]:
    types = (
        wire.DocumentFrame,
        wire.BookmarkFrame,
        wire.SnapshotFrame,
        wire.Accepted,
        wire.Page,
        wire.Problem,
        *schema.KINDS.values(),
    )
    _, schemas = msgspec.json.schema_components(types, schema_hook=_raw_schema, ref_template=REF)
    return {**schemas, "Envelope": _ENVELOPE}


def _raw_schema(type_: type) -> dict[str, Any]:
    if type_ is msgspec.Raw:
        return _ref("Envelope")
    raise NotImplementedError


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF.format(name=name)}


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.action}_{route.kind}".rstrip("_"),
        "summary": route.summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": {**_success(route), **_failures(route)},
    }
    if route.auth is Auth.SIGNED:
        operation["security"] = [{"token": []}]
    if route.action == "put":
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref("Envelope")}},
        }
    return operation


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": _ID_PATTERN[name]},
        }
        for name in names
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", **_QUERY[name]} for name in route.query]


def _success(route: Route) -> dict[str, Any]:
    content: dict[str, Any]
    match route.action:
        case "put":
            content = {"application/json": {"schema": _ref("Accepted")}}
        case "get":
            content = {"application/json": {"schema": _ref("DocumentFrame")}}
        case "list":
            content = {"application/json": {"schema": _ref("Page")}}
        case "watch":
            frames = ("DocumentFrame", "BookmarkFrame", "SnapshotFrame")
            content = {wire.NDJSON_TYPE: {"x-line-schema": {"oneOf": [_ref(f) for f in frames]}}}
        case "metrics":
            content = {"text/plain": {"schema": {"type": "string"}}}
        case _:
            content = {"application/json": {"schema": {"type": "object"}}}
    return {"200": {"description": "Done", "content": content}}


def _failures(route: Route) -> dict[str, Any]:
    statuses = {"400", "405", "408", "431", "500", "503"}
    if route.auth is not Auth.PUBLIC:
        statuses |= {"401", "403", "429"}
    if route.action in ("get", "list", "put"):
        statuses |= {"404"}
    if route.action == "put":
        statuses |= {"409", "413", "415"}
    problem = {wire.PROBLEM_TYPE: {"schema": _ref("Problem")}}
    return {s: {"description": "RFC 9457 problem", "content": problem} for s in sorted(statuses)}
