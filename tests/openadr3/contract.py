"""The published OpenAPI documents of OpenADR 3, and whether an exchange keeps to one of them.

They lie in `../shared/data/openadr3` beside the repository and are no part of it. The schemas of OpenAPI
3.0 are JSON Schema of draft 4 but for `nullable`, which is taken care of here.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft4Validator, FormatChecker

from tests.requirement import missing

DOCUMENTS = Path(__file__).parents[3] / "shared" / "data" / "openadr3"
_FORMATS = FormatChecker(formats=("date-time",))


class Contract:
    """One version's document."""

    def __init__(self, version: str) -> None:
        file = DOCUMENTS / version / "openadr3.yaml"
        if not file.exists():
            missing("openadr3-documents", f"{file} is not there")
        self.version = version
        self._document = _document(file)

    def request_faults(
        self, method: str, path: str, query: Sequence[tuple[str, str]], media: str, body: Any
    ) -> Iterator[str]:
        """What is wrong with a request, `path` from the base URL on: `events/7`. `media` is what its body is
        said to be.
        """
        operation, item = self._operation(method, path)
        if operation is None:
            yield f"{method} {path} is no operation of {self.version}"
            return
        parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
        known = {p["name"]: p for p in map(self._resolved, parameters) if p["in"] == "query"}
        for name in dict.fromkeys(name for name, _ in query):
            if name not in known:
                yield f"query {name} is none of {method} {path}"
                continue
            schema = self._resolved(known[name].get("schema", {}))
            yield from self._faults(
                schema, _typed(schema, [v for n, v in query if n == name]), name
            )
        content = operation.get("requestBody", {}).get("content", {})
        if body is None:
            if content:
                yield f"{method} {path} without a body"
        elif media not in content:
            yield f"{method} {path} with a body of {media}"
        else:
            yield from self._faults(content[media]["schema"], body, "body")

    def answer_faults(self, method: str, path: str, status: int, body: Any) -> Iterator[str]:
        """What is wrong with an answer."""
        operation, _ = self._operation(method, path)
        if operation is None:
            yield f"{method} {path} is no operation of {self.version}"
            return
        answer = operation["responses"].get(str(status))
        if answer is None:
            yield f"{status} is no answer to {method} {path}"
            return
        schema = self._resolved(answer).get("content", {}).get("application/json", {}).get("schema")
        if schema is not None:
            yield from self._faults(schema, body, "answer")

    def operation(self, method: str, path: str) -> str:
        """What a request is, by the document: `GET /events/{eventID}`; empty where it is none of it."""
        found = (
            f"{method} {template}"
            for template, item in self._document["paths"].items()
            if _fits(template, path) and method.lower() in item
        )
        return next(found, "")

    def _operation(self, method: str, path: str) -> tuple[Any, Any]:
        named, _, template = self.operation(method, path).partition(" ")
        item = self._document["paths"].get(template, {})
        return item.get(named.lower()), item

    def _resolved(self, node: Any) -> Any:
        while "$ref" in node:
            node = functools.reduce(
                lambda inner, key: inner[key], node["$ref"][2:].split("/"), self._document
            )
        return node

    def _faults(self, schema: Any, value: Any, where: str) -> Iterator[str]:
        whole = {"allOf": [schema], "components": self._document["components"]}
        for error in Draft4Validator(whole, format_checker=_FORMATS).iter_errors(value):
            yield f"{where}: {error.json_path}: {error.message[:300]}"


def _fits(template: str, path: str) -> bool:
    pattern = re.sub(r"\{[^}]+\}", "[^/]+", template.strip("/"))
    return re.fullmatch(pattern, path.strip("/")) is not None


@functools.cache
def _document(file: Path) -> Any:
    # A slip of the pen in 3.1.0, which makes a text of "no default".
    text = file.read_text(encoding="utf-8").replace("default: null          -", "default: null")
    document = _with_null(yaml.safe_load(text))
    for name in ("BlVenRequest", "BlResourceRequest"):
        # What is answered is a request, too, and would have to be of two object types at once.
        if (schema := document["components"]["schemas"].get(name)) is not None:
            schema["properties"]["objectType"]["enum"] += ["VEN", "RESOURCE"]
    return document


def _with_null(node: Any) -> Any:
    """JSON Schema's way to say what OpenAPI 3.0 says with `nullable`."""
    if isinstance(node, list):
        return [_with_null(each) for each in node]
    if not isinstance(node, dict):
        return node
    inner = {key: _with_null(value) for key, value in node.items()}
    if inner.get("nullable") is True and isinstance(inner.get("type"), str):
        inner["type"] = [inner["type"], "null"]
    return inner


def _typed(schema: Any, values: list[str]) -> Any:
    """Query values as what their schema has them to be."""
    if schema.get("type") == "array":
        return values
    if schema.get("type") == "integer" and re.fullmatch(r"-?\d+", values[0]):
        return int(values[0])
    if schema.get("type") == "boolean" and values[0] in ("true", "false"):
        return values[0] == "true"
    return values[0]
