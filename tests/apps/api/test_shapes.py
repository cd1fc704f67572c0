"""Shapes render faster than DRF, with the same result."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer

from apps.api.shapes.jobs import JobShape
from apps.api.shapes.workspaces import TriggerRow, TriggerShape
from engine.spec.model import Trigger

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
JOB = {
    "id": uuid4(),
    "workspace__name": "shop",
    "task_name": "main",
    "mode": None,
    "status": "running",
    "source_type": "user",
    "source_id": "",
    "revision__label": "",
    "revision__digest": "d1",
    "created_at": NOW,
    "started_at": NOW,
    "completed_at": None,
    "retry_of_id": None,
    "retry_job_id": None,
    "retry_attempt": 0,
    "max_attempts": 3,
}
NIGHTLY = TriggerRow("nightly", Trigger("scheduler", {"cron": "@daily", "task": "main"}))


@pytest.mark.parametrize(("shape", "row"), [(JobShape, JOB), (TriggerShape, NIGHTLY)])
def test_a_shape_says_what_drf_would_say(shape: Any, row: Any) -> None:
    slow = serializers.Serializer.to_representation(shape(row), row)
    assert JSONRenderer().render(shape(row).data) == JSONRenderer().render(slow)


def test_what_is_not_required_is_left_out_and_what_is_stays_as_null() -> None:
    assert TriggerShape(NIGHTLY).data == {
        "name": "nightly",
        "type": "scheduler",
        "cron": "@daily",
        "task": "main",
        "enabled": True,
        "input": {},
    }
    said = JobShape(JOB).data
    assert said["source_id"] is None and said["completed_at"] is None and said["max_retries"] == 2
