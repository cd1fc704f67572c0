"""The API keeps to its own description: whatever is sent, no answer is undocumented and none is a
failure of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from apps.accounts import tokens
from tests.apps.api.callers import user
from tests.apps.api.test_access import FLOW
from tests.apps.jobs.builders import start, workspace

pytestmark = pytest.mark.django_db
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]
RAW = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # the package's own
OPERATIONS = [(method, path) for path, found in RAW["paths"].items() for method in found]


@pytest.mark.parametrize("is_signed_in", [True, False])
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=str)
def test_no_answer_is_undocumented(
    tmp_path: Path, method: str, path: str, is_signed_in: bool
) -> None:
    job = start(workspace(tmp_path, FLOW, "own"))
    known = {"workspace": "own", "task": "main", "job": str(job.pk), "step": "gate"}
    schema = schemathesis.openapi.from_dict(RAW)
    schema.app = get_wsgi_application()
    headers = {}
    if is_signed_in:
        from django.utils import timezone

        headers["Authorization"] = (
            f"Bearer {tokens.issue_access(user(is_superuser=True), timezone.now())}"
        )

    @settings(
        max_examples=15,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method.upper()].as_strategy(), is_known=...)
    def conforms(case: Any, is_known: bool) -> None:
        if is_known:  # else everything is about things that do not exist
            case.path_parameters = {
                name: known.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
        case.call_and_validate(headers=headers, checks=CHECKS)

    conforms()
