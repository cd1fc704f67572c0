"""Completes the OpenAPI description: the answers that every route can give, typed ids, and what all
lists take."""

from __future__ import annotations

from typing import Any

from apps.api.paging import FURTHEST, MOST, USUAL

ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorShape"}}}
TYPED = {"job": "uuid", "worker": "uuid"}
# of query parameters that say nothing of their own
SAID = {
    "limit": f"{USUAL} if it is left out, {MOST} at most: more counts as {MOST}",
    "offset": f"Rows to leave out, {FURTHEST} at most",
    "cursor": "`next` of an earlier answer; empty: from the beginning",
    "after": "`next` of an earlier answer; empty: from the beginning",
}
MAY_BE_EMPTY = {"cursor", "after", "known"}
TEXTS = {
    "400": "The request is wrong; the sentence says what to change",
    "401": "Nobody is signed in, or the token is invalid or expired",
    "403": "The caller may not do this",
    "404": "There is no such thing, or the caller must not see it",
    "413": "The body is larger than 1 MB",
    "415": "The body is not JSON",
    "503": "The database is away or took too long; `Retry-After` says when to try again",
    "429": "Too many requests; `Retry-After` says when the next one may follow",
}


def without_versions(endpoints: list[Any]) -> list[Any]:
    """A preprocessing hook: the routes under `/api/v1/` are the same again."""
    return [endpoint for endpoint in endpoints if not endpoint[0].startswith("/api/v1/")]


def complete(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular."""
    _allow_anything(result["components"])
    for operations in result["paths"].values():
        for operation in operations.values():
            parameters = operation.get("parameters", ())
            for parameter in parameters:
                if parameter["in"] == "path" and parameter["name"] in TYPED:
                    parameter["schema"] = {"type": "string", "format": TYPED[parameter["name"]]}
                if parameter["in"] == "query":
                    _complete_query(parameter)
            _add_answers(operation, any(one["in"] == "path" for one in parameters))
    return result


def _complete_query(parameter: dict[str, Any]) -> None:
    """A parameter that is given needs a value."""
    name, schema = parameter["name"], parameter["schema"]
    if schema == {"type": "integer"} and name in SAID:
        schema["minimum"] = 0 if name == "offset" else 1
    if schema == {"type": "string"} and name not in MAY_BE_EMPTY:
        schema["minLength"] = 1
    if name in SAID:
        parameter.setdefault("description", SAID[name])


def _allow_anything(schema: Any) -> None:
    """A field for any value also takes null: saying so again makes null match twice."""
    for inner in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(inner, dict | list):
            _allow_anything(inner)
    if isinstance(schema, dict) and schema.get("oneOf") == [{}, {"type": "null"}]:
        del schema["oneOf"]


def _add_answers(operation: dict[str, Any], has_object: bool) -> None:
    codes = ["400", "503"]
    if {} not in operation.get("security", [{}]):
        codes += ["401", "403"]
    if has_object:
        codes.append("404")
    if "requestBody" in operation:
        codes += ["413", "415"]
    for code in codes:
        operation["responses"].setdefault(code, {"content": ERROR, "description": ""})
    for code, said in operation["responses"].items():
        if not said.get("description") and code in TEXTS:
            said["description"] = TEXTS[code]
    operation["responses"] = dict(sorted(operation["responses"].items()))
