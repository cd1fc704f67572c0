"""`manage.py schema`, and the same schema from a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from engine.spec import json_schema


def test_it_writes_the_schema_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "workflow.json"
    call_command("schema", "--out", str(file))
    assert json.loads(file.read_text()) == json.loads(json.dumps(json_schema.build()))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot write .*/none/w\.json: No such file"):
        call_command("schema", "--out", str(tmp_path / "none" / "w.json"))


@pytest.mark.django_db
def test_a_server_publishes_it_without_sign_in() -> None:
    assert APIClient().get("/api/schema/workflow.json").json() == json.loads(
        json.dumps(json_schema.build())
    )
