"""Make an OpenAPI 3.1 document of the schemas that aiohttp-apispec's decorators put on the handlers.

aiohttp-apispec 3.0.0b2 itself writes Swagger 2.0 and changes its own metadata while doing so; what stands here reads
the same metadata and leaves it as it was.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from aiohttp_apispec import AiohttpApiSpec
from aiohttp_apispec.aiohttp_apispec import get_path_keys, resolver
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from service.api.answers import ProblemSchema
from service.api.parsing import ContractParser
from service.api.problems import CODES, CONTENT_TYPE

_METHODS = ("get", "post", "delete", "put", "patch")


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
            security=[{"header": []}, {"bearer": []}],
        )
        self.spec.components.security_scheme("header", {"type": "apiKey", "in": "header", "name": "X-API-Key"})
        self.spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
        self.spec.components.schema("Problem", schema=ProblemSchema)
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

    def _update_paths(self, data: Mapping[str, Any], method: str, url_path: str) -> None:
        if method not in _METHODS:
            return  # HEAD is GET without a body.
        operation: dict[str, Any] = {
            name: copy.deepcopy(value)
            for name, value in data.items()
            if name not in ("schemas", "parameters", "responses", "produces", "consumes")
        }
        prefix = "v1_" if url_path in ("/v1/quote", "/v1/execute") else ""
        operation["operationId"] = prefix + operation["summary"].lower().replace(" ", "_")
        operation["parameters"] = self._parameters(data, url_path)
        for schema in data["schemas"]:
            if schema["location"] == "json":
                resolved = self.plugin.converter.resolve_nested_schema(schema["schema"])
                operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": resolved}}}
        operation["responses"] = {
            code: self._response(code, response) for code, response in sorted(data["responses"].items())
        }
        self.spec.path(path=url_path, operations={method: operation})

    def _parameters(self, data: Mapping[str, Any], url_path: str) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = []
        for schema in data["schemas"]:
            if schema["location"] != "json":
                parameters += self.plugin.converter.schema2parameters(schema["schema"], location=schema["location"])
        named = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
        parameters += [
            {"in": "path", "name": name, "required": True, "schema": {"type": "string"}}
            for name in get_path_keys(url_path)
            if name not in named
        ]
        for parameter in parameters:
            # apispec leaves a parameter's example inside its schema.
            if "example" in parameter.get("schema", {}):
                parameter["example"] = parameter["schema"].pop("example")
        return parameters

    def _response(self, code: str, response: Mapping[str, Any]) -> dict[str, Any]:
        content_type = CONTENT_TYPE if int(code) >= 400 else "application/json"
        return {
            "description": response.get("description") or HTTPStatus(int(code)).phrase,
            "content": {content_type: {"schema": self.plugin.converter.resolve_nested_schema(response["schema"])}},
        }


def describe_codes(codes: tuple[str, ...]) -> dict[int, str]:
    """Group codes of the contract by status, each group as one description."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code].status, []).append(f"`{code}`: {CODES[code].meaning}")
    return {status: " ".join(lines) for status, lines in by_status.items()}
