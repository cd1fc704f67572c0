"""Health of the parts, and metrics."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError
from rest_framework.test import APIClient

from apps.accounts.models import Role
from apps.api import metrics
from apps.api.views import public
from apps.fleet import presence
from apps.fleet.models import Scheduler, Worker
from apps.jobs.models import Job
from apps.jobs.upkeep import retention
from stroem_project.config import Metrics
from tests.apps.api.callers import caller, error
from tests.apps.jobs.builders import Hand, start

pytestmark = pytest.mark.django_db
TOKEN = "f3c1a0b4d2e5968778695a4b3c2d1e0f"
SAMPLE = re.compile(r"^([a-z_]+)\{(.*)\} (\S+)$")


@pytest.fixture
def monitoring(monkeypatch: pytest.MonkeyPatch) -> Iterator[APIClient]:
    with_token = dataclasses.replace(django_settings.STROEM, metrics=Metrics(token=TOKEN))
    monkeypatch.setattr(django_settings, "STROEM", with_token)
    monkeypatch.setattr(metrics.ended, "_most", {})
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {TOKEN}")
    return client


def samples(client: APIClient) -> dict[tuple[str, str], float]:
    answer = client.get("/metrics", HTTP_ACCEPT="application/openmetrics-text")
    assert answer.status_code == 200, answer.content
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = {}
    for line in answer.content.decode().splitlines():
        if not line.startswith("# "):
            name, labels, value = SAMPLE.match(line).groups()  # type: ignore[union-attr]
            first = re.sub(r',?replica_id="[^"]+"', "", labels)
            assert first != labels
            found[name, first] = float(value)
    return found


def test_health_names_what_is_missing(monitoring: APIClient) -> None:
    answer = monitoring.get("/healthz/detail")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["checks"] | {"broker": ""} == {
        "db": "ok", "broker": "", "scheduler": "stopped", "recovery": "stopped", "schedulers": 0,
        "workers": 0,
    }  # fmt: skip
    presence.scheduler_beats(uuid4())
    Hand()
    checks = monitoring.get("/healthz/detail").json()["checks"]
    assert (checks["scheduler"], checks["schedulers"], checks["workers"]) == ("ok", 1, 1)


def test_a_scheduler_that_stopped_beating_is_stopped_and_forgotten(monitoring: APIClient) -> None:
    presence.scheduler_beats(uuid4())
    Scheduler.objects.update(heartbeat_at="2026-01-01T00:00Z")
    assert monitoring.get("/healthz/detail").json()["checks"]["scheduler"] == "stopped"
    assert presence.forget_schedulers() == 1


def test_health_is_503_without_a_database(
    monitoring: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(public, "_ping", gone)
    answer = monitoring.get("/healthz/detail")
    assert (answer.status_code, answer.json()) == (
        503,
        {"status": "unhealthy", "checks": {"db": "error"}},
    )


def test_metrics_count_jobs_steps_workers_and_requests(
    monitoring: APIClient, shop: Any, operator: APIClient
) -> None:
    job = start(shop, name="x")
    Hand()
    operator.get(f"/api/jobs/{job.pk}")
    operator.get("/api/jobs/x")
    found = samples(monitoring)
    route = "/api/jobs/<str:job>"
    for key, value in {
        ("stroem_jobs_in_flight", 'status="running"'): 1,
        ("stroem_jobs_in_flight", 'status="pending"'): 0,
        ("stroem_steps_ready", ""): 1,
        ("stroem_workers_active", ""): 1,
        ("stroem_workers", 'state="live"'): 1,
        ("stroem_schedulers", ""): 0,
        ("stroem_jobs_completed_total", 'status="completed"'): 0,
        ("stroem_scrape_failures", ""): 0,
    }.items():
        assert found[key] == value, key
    assert sum(n for (name, _), n in found.items() if name == "stroem_jobs_created_total") == 1
    for status in ("200", "400"):
        key = f'method="GET",route="{route}",status="{status}"'
        assert found["stroem_http_requests_total", key] >= 1
    bound = f'route="{route}",le="+Inf"'
    total = found["stroem_http_request_duration_seconds_count", f'route="{route}"']
    assert found["stroem_http_request_duration_seconds_bucket", bound] == total >= 2


def test_counters_of_jobs_survive_retention(monitoring: APIClient, shop: Any) -> None:
    job = start(shop, name="x")
    ended = {"status": "completed", "completed_at": "2026-01-01T00:00Z"}
    Job.objects.filter(pk=job.pk).update(**ended)
    names = ("stroem_jobs_created_total", "stroem_jobs_completed_total")
    before = {key: value for key, value in samples(monitoring).items() if key[0] in names}
    assert retention.remove_tree(job.pk, 0) == 1
    assert Job.objects.count() == 0
    after = {key: value for key, value in samples(monitoring).items() if key[0] in names}
    assert before == after
    assert after["stroem_jobs_completed_total", 'status="completed"'] == 1


def test_a_metric_that_the_database_cannot_answer_is_left_out(
    monitoring: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.jobs import counts

    def slow() -> int:
        raise OperationalError("canceling statement due to statement timeout")

    monkeypatch.setattr(counts, "steps_ready", slow)
    found = samples(monitoring)
    assert ("stroem_steps_ready", "") not in found
    assert found["stroem_scrape_failures", ""] == 1
    assert ("stroem_workers_active", "") in found


def test_who_may_monitor(monitoring: APIClient) -> None:
    for path in ("/metrics", "/healthz/detail"):
        assert monitoring.get(path).status_code == 200
        assert caller(is_superuser=True).get(path).status_code == 200
        for client, status, text in (
            (APIClient(), 401, "Authentication required"),
            (caller(Role.ADMIN), 403, "Admin privileges required"),
        ):
            answer = client.get(path)
            assert (answer.status_code, error(answer)) == (status, text)
        other = APIClient()
        other.credentials(HTTP_AUTHORIZATION=f"Bearer {TOKEN}0")
        assert other.get(path).status_code == 401
    assert Worker.objects.count() == 0


def test_the_token_opens_nothing_else(monitoring: APIClient) -> None:
    assert monitoring.get("/api/jobs").status_code == 401
    assert monitoring.get("/api/users").status_code == 401


def test_metrics_can_be_public(monkeypatch: pytest.MonkeyPatch) -> None:
    public_metrics = dataclasses.replace(django_settings.STROEM, metrics=Metrics(public=True))
    monkeypatch.setattr(django_settings, "STROEM", public_metrics)
    assert APIClient().get("/metrics").status_code == 200
    assert APIClient().get("/healthz/detail").status_code == 401
