"""What the API answers while the database or the broker is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.jobs.models import Job
from tests.acceptance.house import free_port
from tests.acceptance.serving import Served
from tests.apps.jobs.builders import until, workspace
from tests.house import House

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
tasks: {main: {flow: {one: {type: script, script: "true"}}}}
"""


@pytest.fixture
def house(tmp_path: Path, process_env: dict[str, str]) -> Iterator[House]:
    found = House(tmp_path, process_env)
    yield found
    found.close()


def test_a_job_starts_while_the_broker_is_away(house: House, tmp_path: Path) -> None:
    workspace(tmp_path / "sources", FLOW, "shop")
    house.worker("bench")  # it also looks by itself
    house.env = {**house.env, "STROEM__BROKER__URL": f"redis://127.0.0.1:{free_port()}/0"}
    served = Served(house)
    job_id = served.execute("shop", "main")
    until(lambda: Job.objects.get(pk=job_id).status == "completed", within_s=60)
    status, health = served.ask("/healthz/detail")
    assert (status, health["checks"]["broker"], health["status"]) == (200, "error", "degraded")


def _listens(served: Served) -> bool:
    try:
        return served.fetch("/healthz")[0] == 503
    except OSError:
        return False


@pytest.mark.long
def test_a_request_without_a_database_is_503_and_may_be_repeated(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Served, "_answers", _listens)
    house.env = {
        **house.env,
        "STROEM__DB__URL": f"postgresql://u:p@127.0.0.1:{free_port()}/gone",
        "STROEM__METRICS__TOKEN": "f3c1a0b4d2e5968778695a4b3c2d1e0f",
    }
    served = Served(house)
    status, said = served.ask("/api/jobs")
    assert (status, said["code"]) == (503, "unavailable")
    served.token = "f3c1a0b4d2e5968778695a4b3c2d1e0f"
    status, health = served.ask("/healthz/detail")
    assert (status, health) == (503, {"status": "unhealthy", "checks": {"db": "error"}})
