"""Units that other rooms own are no steps: no page, route, command, counter or sweep of the flow sees
one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.urls import reverse

from apps.accounts.models import Role
from apps.conductor import services as conductor
from apps.fleet import reach
from apps.jobs import ledger, services
from apps.jobs.flow import contexts
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.log import tails
from apps.jobs.models import Attempt, Job, Step, Unit
from apps.jobs.pages import hub
from apps.jobs.transitions import rows, units
from apps.jobs.upkeep import sweeps
from console import follower
from console.database import Database
from engine.lifecycle import OwnerKind, StepStatus
from engine.spec.tags import action_key
from tests.apps.api.callers import caller
from tests.apps.jobs.builders import Hand, failed, fresh, start, statuses, workspace
from tests.apps.jobs.test_admin import client_of, page, person

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
actions: { go: { type: script, script: "true" } }
tasks:
  main:
    flow:
      a: { action: go }
      b: { action: go, depends_on: [a] }
      each: { action: go, depends_on: [a], for_each: [1, 2] }
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return start(workspace(tmp_path, FLOW))


def plant(job: Job, hand: Hand) -> list[Unit]:
    """A unit in every status, one of them in the worker's hand, all of them as old as can be."""
    found = []
    for number, status in enumerate(StepStatus):
        found.append(add(job, number))
        Unit.objects.filter(pk=found[-1].pk).update(
            status=status,
            error="planted",
            output={"planted": 1},
            has_output=True,
            ready_at="2020-01-01T00:00Z",
            started_at="2020-01-01T00:00Z",
            completed_at="2020-01-01T00:00Z",
            worker_id=hand.id,
        )
    return found


def add(job: Job, number: int, **values: Any) -> Unit:
    key = action_key(("script",))
    unit_id = units.add(
        job.pk,
        OwnerKind.ACTION,
        10**9,
        f"planted/{number}",
        kind="commands",
        tag_set_id=reach.tag_set_ids([key])[key],
        timeout_s=None,
        **values,
    )
    return Unit.objects.get(pk=unit_id)


def told(job: Job, hand: Hand) -> dict[str, Any]:
    """What the JSON routes and the readers of rows tell of the job's steps."""
    client, api = client_of(person(Role.ADMIN)), caller(Role.ADMIN)
    answer = api.get(f"/api/jobs/{job.pk}").json()
    row = Job.objects.get(pk=job.pk)
    plan = tails.step_rows([job.pk], list(range(1, 1 + max(every_id(job)))))
    out = io.StringIO()
    call_command("jobs", str(job.pk), stdout=out)
    return {
        "api": {**answer, "workflow_actions": None},
        "worker": api.get(f"/api/workers/{hand.id}").json()["steps"],
        "stats": api.get("/api/stats").json(),
        "steps": client.get(page(job, "steps/")).json(),
        "timeline": client.get(page(job, "timeline/")).json(),
        "live": json.loads(hub.state_item(row).text.partition("data: ")[2]),
        "changed": {
            str(key): sorted(step["name"] for step in found) for key, found in plan.items()
        },
        "waiting": rows.waiting_steps(job.pk),
        "outputs": contexts.outputs_of(job.pk, ["a", "b", "each"])[0],
        "command": out.getvalue(),
        "answer": follower.answer(Database(), Database().result(row.pk)),
    }


def every_id(job: Job) -> list[int]:
    return [*Step.objects.values_list("pk", flat=True), *Unit.objects.values_list("pk", flat=True)]


@pytest.mark.long
def test_no_page_and_no_route_shows_a_unit(job: Job) -> None:
    hand = Hand()
    hand.finish(hand.take("a"))
    before = told(job, hand)
    planted = plant(job, hand)
    assert len(planted) == len(StepStatus) and told(job, hand) == before
    admin = client_of(person(Role.ADMIN, is_superuser=True))
    for path in pages_of(job, hand):
        answer = admin.get(path)
        assert answer.status_code == 200, path
        assert "planted" not in answer.content.decode(), path
    unit = planted[0]
    assert admin.get(page(job, f"steps/{unit.pk}/")).status_code == 404
    assert admin.get(f"/admin/jobs/{job.pk}/live/?log={unit.pk}").status_code == 404
    api = caller(Role.ADMIN)
    for rest in ("logs", "approval"):
        answer = api.get(f"/api/jobs/{job.pk}/steps/{unit.name.replace('/', '%2F')}/{rest}")
        assert answer.status_code == 404


def pages_of(job: Job, hand: Hand) -> list[str]:
    step = Step.objects.filter(job_id=job.pk, name="a").get()
    return [
        "/admin/",
        reverse("admin:jobs_job_changelist"),
        page(job),
        page(job, "details/"),
        page(job, f"steps/{step.pk}/"),
        reverse("admin:fleet_worker_change", args=[hand.id]),
        reverse("admin:fleet_worker_changelist"),
    ]


def test_the_flow_goes_on_as_if_there_were_no_units(job: Job) -> None:
    hand = Hand()
    planted = plant(job, hand)
    assert job.open_steps == fresh(job).open_steps == 3
    hand.work({"b": failed()})
    row = fresh(job)
    assert (row.status, row.open_steps, row.bad_steps) == ("failed", 0, 1)
    assert "planted" not in row.error
    restart_failed(job.pk)
    assert fresh(job).open_steps == 1
    services.cancel_job(job.pk, actor="me")
    assert fresh(job).status == "cancelled" and statuses(job)["b"] == "cancelled"
    assert [one.status for one in Unit.objects.order_by("pk")] == list(StepStatus)
    assert len(planted) == Unit.objects.count()


def test_no_sweep_of_the_flow_touches_a_unit(job: Job) -> None:
    unit = add(job, 1)
    Unit.objects.update(ready_at="2020-01-01T00:00Z")
    for sweep in (
        sweeps.unmatched_steps,
        sweeps.missed_advances,
        sweeps.overdue_children,
        conductor.tidy,
    ):
        sweep()
    unit.refresh_from_db()
    assert unit.status == StepStatus.READY and set(statuses(job)) == {"a", "b", "each"}


def test_a_slot_for_steps_never_gets_a_unit_and_the_other_way_round(job: Job) -> None:
    hand = Hand("script", "@actions")
    unit = add(job, 1)
    assert not {ref.id for ref in ledger.covered(hand.tags)} & {
        ref.id for ref in ledger.covered_actions(hand.tags)
    }
    assert [hand.take("a").owner_kind, hand.claim()] == [OwnerKind.STEP, None]
    unit.refresh_from_db()
    assert unit.status == StepStatus.READY


def test_a_unit_is_for_the_worker_that_it_is_bound_to(job: Job) -> None:
    sets = [ref.id for ref in ledger.covered_actions(("script",))]
    one, other = Hand(name="one"), Hand(name="other")
    bound = add(job, 1, bound_to=one.id)
    free = add(job, 2)
    taken = claim_ids(other.id, sets)
    assert taken == [free.pk]
    free_again = add(job, 3)
    assert claim_ids(one.id, sets, only_bound=True) == [bound.pk]
    assert claim_ids(one.id, sets) == [free_again.pk]


def claim_ids(worker_id: UUID, sets: list[int], **values: Any) -> list[int]:
    """Ids of all that the worker can take, by the pen alone: these units belong to no action."""
    from apps.jobs.transitions import claims

    found = []
    while row := claims.claim(worker_id, sets, lease_s=30.0, are_units=True, **values):
        found.append(row.step_id)
    return found


def test_retention_takes_the_units_of_a_job_along(job: Job) -> None:
    sets = [ref.id for ref in ledger.covered_actions(("script",))]
    add(job, 1)
    assert claim_ids(Hand().id, sets) and Attempt.objects.filter(job_id=job.pk).exists()
    from apps.jobs.upkeep.retention import _remove_rows

    _remove_rows([job.pk])
    assert not Unit.objects.exists() and not Attempt.objects.exists()
