"""The API keeps to its own description: whatever is sent, no answer is undocumented and none is a
failure of the server."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import requests
import schemathesis
from asgiref.sync import async_to_sync
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient
from schemathesis import checks
from schemathesis.core import NotSet
from schemathesis.specs.openapi import checks as openapi
from urllib3 import HTTPResponse

from apps.artifacts.state.keeping import Writer
from engine.state import Change
from tests.apps.api.callers import client_of, user
from tests.apps.api.test_access import FLOW
from tests.apps.artifacts.remembering import remember
from tests.apps.jobs.builders import start, workspace
from tests.house import ROOT

pytestmark = pytest.mark.django_db
EXAMPLES, MANY = 20, 400  # requests for each operation, both signed in and not
WRITTEN = ROOT / "docs" / "reference" / "openapi.json"
CHECKS = [
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_schema_conformance,
]
RAW = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # the package's own
DESCRIBED = schemathesis.openapi.from_dict(RAW)
BY_A_PROCESS = "/api/workspaces/{workspace}/refresh"  # which must see the workspace's row
OPERATIONS = [
    pytest.param(path, method, marks=pytest.mark.django_db(transaction=path == BY_A_PROCESS))
    for path, found in RAW["paths"].items()
    for method in found
]


def test_the_written_description_is_the_servers() -> None:
    """`manage.py spectacular --format openapi-json --file docs/reference/openapi.json` writes it."""
    text = OpenApiJsonRenderer().render(RAW, renderer_context={}).decode()
    assert json.loads(WRITTEN.read_text()) == json.loads(text)


def test_the_description_has_no_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # the package's own
    assert capsys.readouterr().err == ""
    assert RAW["openapi"] == "3.1.0"


@pytest.mark.sample(10)
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=str)
def test_no_answer_is_undocumented(tmp_path: Path, path: str, method: str) -> None:
    keeps_to_the_description(tmp_path, path, method, EXAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=str)
def test_no_answer_to_50000_requests_is_undocumented(
    tmp_path: Path, path: str, method: str
) -> None:
    keeps_to_the_description(tmp_path, path, method, MANY)


@pytest.fixture(autouse=True)
def read_by_a_process(request: pytest.FixtureRequest) -> None:
    if BY_A_PROCESS in request.node.name:
        request.getfixturevalue("readers")


def keeps_to_the_description(tmp_path: Path, path: str, method: str, examples: int) -> None:
    """Each request comes twice: first from nobody, which must change nothing for the second."""
    own = workspace(tmp_path, FLOW, "own")
    job = start(own)
    for task in ("main", ""):
        remember(own.pk, task, Change(0, {"n": 1}), Writer("step"))
    person = user(is_superuser=True)
    known = {"workspace": "own", "task": "main", "job": str(job.pk), "step": "gate"}
    known["version"] = "1"
    known["user"] = str(person.pk)
    clients = (client_of(None), client_of(person))
    operation = DESCRIBED[path][method.upper()]

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), is_known=st.booleans())
    def conforms(case: Any, is_known: bool) -> None:
        named = dict(case.path_parameters or {})
        if is_known:  # else most of it is about things that do not exist
            named |= {name: value for name, value in known.items() if name in named}
        for client in clients:
            case.validate_response(answer_to(client, case, path, named), checks=CHECKS)

    conforms()


def as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.serializer("application/gzip")
def of_archives(context: Any, value: Any) -> bytes:
    return as_bytes(value)


def content_of(told: Any) -> bytes:
    async def read() -> bytes:
        return b"".join([piece async for piece in told.streaming_content])

    content: bytes = async_to_sync(read)() if told.streaming else told.content
    return content


def answer_to(client: APIClient, case: Any, path: str, named: dict[str, Any]) -> requests.Response:
    """What the server says, in the words of `requests`."""
    for name, value in named.items():
        path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
    query = urlencode(case.query or {}, doseq=True)
    body = {} if isinstance(case.body, NotSet) else {"data": case.body, "format": "json"}
    if case.media_type == "application/gzip" and body:
        body = {"data": as_bytes(case.body), "content_type": case.media_type}
    told = getattr(client, case.method.lower())(f"{path}?{query}", **body)
    answer = requests.Response()
    answer.status_code, answer._content = told.status_code, content_of(told)
    answer.headers.update(told.headers)
    answer.raw = HTTPResponse(headers=dict(told.headers), status=told.status_code)
    answer.elapsed = timedelta()
    answer.request = requests.Request(case.method, f"http://testserver{path}?{query}").prepare()
    return answer
