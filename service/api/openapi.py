"""Make an OpenAPI 3.1 document of the schemas that aiohttp-apispec's decorators put on the handlers.

aiohttp-apispec 3.0.0b2 itself writes Swagger 2.0 and changes its own metadata while doing so; what stands here reads
the same metadata and leaves it as it was.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from aiohttp_apispec import AiohttpApiSpec
from aiohttp_apispec.aiohttp_apispec import get_path, get_path_keys, resolver
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from service.api.answers import ProblemSchema
from service.api.described import HEADERS, LINKS, PARAMETERS, TAGS, examples, headers_of, tag_of
from service.api.parsing import ContractParser
from service.api.problems import CODES, CONTENT_TYPE
from service.api.requests import Form

_METHODS = ("get", "post", "delete", "put", "patch")
_ALIASES = ("/v1/quote", "/v1/execute")


class OpenApi(AiohttpApiSpec):  # type: ignore[misc]
    """The document of one application."""

    def __init__(self, app: web.Application, *, title: str, version: str, description: str) -> None:
        """Read the routes of *app* when it starts, and let its requests be parsed by the contract."""
        super().__init__(url=None, app=None, title=title, version=version)
        self.plugin: Any = MarshmallowPlugin(schema_name_resolver=resolver)
        self.spec = APISpec(
            title=title,
            version=version,
            openapi_version="3.1.0",
            plugins=[self.plugin],
            info={"description": description, "license": {"name": "MIT", "identifier": "MIT"}},
            servers=[{"url": "/"}],
            tags=[{"name": tag.name, "description": tag.description} for tag in TAGS],
        )
        components = self.spec.components
        components.security_scheme("header", {"type": "apiKey", "in": "header", "name": "X-API-Key"})
        components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
        components.schema("Problem", schema=ProblemSchema)
        for name, header in HEADERS.items():
            components.header(name, dict(header))
        for name, parameter in PARAMETERS.items():
            components.parameter(name, str(parameter["in"]), {"name": name, **parameter})
        with warnings.catch_warnings():
            # The library keeps plain strings as keys of the application.
            warnings.simplefilter("ignore")
            self.register(app)
            app["_apispec_parser"] = ContractParser()
        self._document: bytes | None = None

    def document(self) -> bytes:
        """Give the document as JSON; it is made once."""
        if self._document is None:
            self._document = orjson.dumps(self.spec.to_dict())
        return self._document

    def _register(self, app: web.Application) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super()._register(app)

    def _register_route(self, route: web.AbstractRoute, method: str, view: Any) -> None:
        """Describe a handler that is marked for it; HEAD is GET without a body."""
        if not hasattr(view, "__apispec__") or method not in _METHODS:
            return
        data, path = view.__apispec__, get_path(route)
        scopes, named = getattr(view, "__scopes__", ()), getattr(view, "__named_by__", ())[:1]
        name = data["summary"].lower().replace(" ", "_")
        operation: dict[str, Any] = {
            "operationId": f"v1_{name}" if path in _ALIASES else name,
            "tags": [tag_of(path)],
            "summary": data["summary"],
            "description": data["description"],
            "security": [{scheme: list(scopes)} for scheme in ("header", "bearer")]
            if scopes
            else data.get("security", []),
            "parameters": self._parameters(name, data, path) + (["Idempotency-Key"] if named else []),
        }
        for schema in data["schemas"]:
            if schema["location"] == "json":
                operation["requestBody"] = self._body(name, schema["schema"], named)
        operation["responses"] = {
            code: self._response(name, int(code), response, keyed=bool(scopes))
            for code, response in sorted(data["responses"].items())
        }
        self.spec.path(path=path, operations={method: operation})

    def _parameters(self, name: str, data: Mapping[str, Any], path: str) -> list[dict[str, Any] | str]:
        """Give parameters, those that operations share by their names."""
        parameters: list[dict[str, Any]] = []
        for schema in data["schemas"]:
            if schema["location"] != "json":
                parameters += self.plugin.converter.schema2parameters(schema["schema"], location=schema["location"])
        named = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
        parameters += [
            {"in": "path", "name": key, "required": True, "schema": {"type": "string"}}
            for key in get_path_keys(path)
            if key not in named
        ]
        asked = next((example.request for example in examples() if example.operation == name), {})
        for parameter in parameters:
            given = asked.get(parameter["in"], {})
            if parameter["name"] in given:
                text = given[parameter["name"]]
                whole = parameter["schema"].get("type") == "integer"
                parameter["example"] = int(text) if whole else text
        return [*parameters, "X-Request-Id", "traceparent"]

    def _body(self, name: str, schema: Any, elsewhere: Sequence[str]) -> dict[str, Any]:
        """Describe a body; fields that may stand *elsewhere* are not required in it."""
        resolved = self.plugin.converter.resolve_nested_schema(schema)
        whole = self.spec.components.schemas[resolved["$ref"].rpartition("/")[2]]
        if schema.forms and "oneOf" not in whole:
            whole["required"] = [field for field in whole.get("required", ()) if field not in elsewhere]
            self._take_apart(whole, schema.forms)
        content: dict[str, Any] = {"schema": resolved}
        bodies = {
            example.name: {"summary": example.summary, "value": example.request["body"]}
            for example in examples()
            if example.operation == name and "body" in example.request
        }
        if bodies:
            content["examples"] = bodies
        return {"required": True, "content": {"application/json": content}}

    def _take_apart(self, whole: dict[str, Any], forms: Mapping[str, Form]) -> None:
        """Make a message's schema a choice of schemas, one for each of its forms."""
        properties, required = whole["properties"], whole["required"]
        whole.clear()
        whole["oneOf"] = [{"$ref": f"#/components/schemas/{name}"} for name in forms]
        for name, form in forms.items():
            described = {
                "type": "object",
                "title": form.title,
                "properties": {key: value for key, value in properties.items() if key not in form.without},
                "required": [*required, *(key for key in form.required if key not in required)],
                "additionalProperties": False,
            }
            self.spec.components.schema(name, copy.deepcopy(described))

    def _response(self, name: str, status: int, response: Mapping[str, Any], *, keyed: bool) -> dict[str, Any]:
        description = response.get("description") or HTTPStatus(status).phrase
        content: dict[str, Any] = {"schema": self.plugin.converter.resolve_nested_schema(response["schema"])}
        answers = {
            example.name: {"summary": example.summary, "value": example.answer}
            for example in examples()
            if (example.operation, example.status) == (name, status)
        }
        if answers:
            content["examples"] = answers
        described = {
            "description": description,
            "headers": headers_of(name, status, description, keyed=keyed),
            "content": {CONTENT_TYPE if status >= 400 else "application/json": content},
        }
        links = LINKS.get((name, status))
        return {**described, "links": copy.deepcopy(links)} if links else described


def describe_codes(codes: tuple[str, ...]) -> dict[int, str]:
    """Group codes of the contract by status, each group as one description."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code].status, []).append(f"`{code}`: {CODES[code].meaning}")
    return {status: " ".join(lines) for status, lines in by_status.items()}
