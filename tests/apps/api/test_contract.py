"""The API keeps to its own description: whatever is sent, no answer is undocumented and none is a
failure of the server."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import requests
import schemathesis
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient
from schemathesis import checks
from schemathesis.core import NotSet
from schemathesis.specs.openapi import checks as openapi
from urllib3 import HTTPResponse

from tests.apps.api.callers import client_of, user
from tests.apps.api.test_access import FLOW
from tests.apps.jobs.builders import start, workspace

pytestmark = pytest.mark.django_db
CHECKS = [
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_schema_conformance,
]
RAW = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # the package's own
OPERATIONS = [(path, method) for path, found in RAW["paths"].items() for method in found]


@pytest.mark.parametrize("is_signed_in", [True, False], ids=["somebody", "nobody"])
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=str)
def test_no_answer_is_undocumented(
    tmp_path: Path, path: str, method: str, is_signed_in: bool
) -> None:
    job = start(workspace(tmp_path, FLOW, "own"))
    known = {"workspace": "own", "task": "main", "job": str(job.pk), "step": "gate"}
    client = client_of(user(is_superuser=True) if is_signed_in else None)
    operation = schemathesis.openapi.from_dict(RAW)[path][method.upper()]

    @settings(
        max_examples=12,
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
        case.validate_response(answer_to(client, case, path, named), checks=CHECKS)

    conforms()


def answer_to(client: APIClient, case: Any, path: str, named: dict[str, Any]) -> requests.Response:
    """What the server says, in the words of `requests`."""
    for name, value in named.items():
        path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
    query = urlencode(case.query or {}, doseq=True)
    body = {} if isinstance(case.body, NotSet) else {"data": case.body, "format": "json"}
    told = getattr(client, case.method.lower())(f"{path}?{query}", **body)
    answer = requests.Response()
    answer.status_code, answer._content = told.status_code, told.content
    answer.headers.update(told.headers)
    answer.raw = HTTPResponse(headers=dict(told.headers), status=told.status_code)
    answer.elapsed = timedelta()
    answer.request = requests.Request(case.method, f"http://testserver{path}?{query}").prepare()
    return answer
