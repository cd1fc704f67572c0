"""Worker pools that serve some workspaces run nothing of the others, whatever tags an author names."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Role, User
from apps.fleet import reach
from apps.fleet.models import Worker, WorkerLimit
from apps.jobs import ledger
from apps.jobs.models import Attempt, Step
from apps.jobs.transitions import claims, units
from apps.jobs.upkeep import sweeps
from engine.lifecycle import OwnerKind
from engine.spec.tags import action_key
from tests.apps.jobs.builders import DONE, Hand, fresh, start, workspace
from tests.apps.jobs.test_admin import client_of, person

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("readers")]
FLOW = """\
actions:
  work: {type: script, script: "true", tags: [vault]}
tasks:
  main:
    flow:
      a: {action: work}
      b: {action: work}
      c: {action: work, depends_on: [a]}
"""


class Pool(Hand):
    """A worker by hand that serves some workspaces."""

    def __init__(self, *workspaces: str, name: str = "pool") -> None:
        self.tags = ("script", "vault")
        self.id = ledger.register(
            name=name, tags=self.tags, slots=4, version="test", workspaces=workspaces
        )
        self.seen = []

    @property
    def sets(self) -> list[int]:
        return [ref.id for ref in ledger.covered(self.tags)]


def test_a_pool_takes_no_step_of_another_workspace_that_names_its_tags(tmp_path: Path) -> None:
    mine, theirs = (workspace(tmp_path, FLOW, name=name) for name in ("team-a", "team-b"))
    start(theirs)
    pool = Pool("team-a")
    assert pool.claim() is None
    job = start(mine)
    start(theirs)
    seen = set()
    while (claim := pool.claim()) is not None:
        assert pool.start(claim)
        seen.add((claim.workspace, claim.step_name))
        pool.finish(claim)
    assert seen == {("team-a", "a"), ("team-a", "b"), ("team-a", "c")}
    assert fresh(job).status == "completed"
    assert Attempt.objects.exclude(job_id=job.id).count() == 0


def test_nor_with_the_claim_that_follows_a_finish(tmp_path: Path) -> None:
    mine, theirs = (workspace(tmp_path, FLOW, name=name) for name in ("team-a", "team-b"))
    start(mine)
    start(theirs)
    pool = Pool("team-a")
    following = pool.claim()
    taken = []
    while following is not None:
        taken.append(following.workspace)
        assert pool.start(following)
        report = ledger.Report(following, DONE)
        following = ledger.finish(report, claim_for=pool.sets, worker_id=pool.id).next
    assert taken == ["team-a"] * 3


def test_nor_commands_of_workflow_actions(tmp_path: Path) -> None:
    jobs = [start(workspace(tmp_path, FLOW, name=name)) for name in ("team-b", "team-a")]
    for job in jobs:
        key = action_key(("script",))
        units.add(
            job.pk, OwnerKind.ACTION, 10**9, "x", kind="commands",
            tag_set_id=reach.tag_set_ids([key])[key], timeout_s=None,
        )  # fmt: skip
    pool = Pool("team-a")
    sets = [ref.id for ref in ledger.covered_actions(pool.tags)]
    serves = reach.workspaces_of(pool.id)
    taking = partial(claims.claim, pool.id, sets, lease_s=30.0, are_units=True, serves=serves)
    assert taking().job_id == jobs[1].pk
    assert taking() is None


def test_patterns_match_whole_names_only(tmp_path: Path) -> None:
    for name in ("infra", "infra-net", "my-infra-net", "team-ax", "infraxnet"):
        start(workspace(tmp_path, FLOW, name=name))
    pool, taken = Pool("team-a", "infra-*"), set()
    while (claim := pool.claim()) is not None:
        taken.add(claim.workspace)
        pool.start(claim)
        pool.finish(claim)
    assert taken == {"infra-net"}


def test_a_worker_without_the_key_asks_the_database_what_it_asked_before(tmp_path: Path) -> None:
    start(workspace(tmp_path, FLOW))
    hand = Pool()
    sets = hand.sets
    ledger.claim(hand.id, sets)
    with CaptureQueriesContext(connection) as asked:
        assert ledger.claim(hand.id, sets) is not None
    assert all("workspaces_workspace" not in query["sql"] for query in asked.captured_queries)
    for are_units in (False, True):
        taking = claims.claiming(are_units=are_units, serves_some=False, is_one_set=False)
        assert "workspaces_workspace" not in taking


def test_a_step_whose_pool_serves_others_fails_with_the_reason(tmp_path: Path) -> None:
    mine, theirs = (workspace(tmp_path, FLOW, name=name) for name in ("team-a", "team-b"))
    good, bad = start(mine), start(theirs)
    Pool("team-a", "infra-*")
    Step.objects.update(ready_at=F("ready_at") - timedelta(seconds=31))
    assert sweeps.unmatched_steps() == 2
    assert fresh(good).status != "failed"
    assert (
        Step.objects.get(job_id=bad.id, name="a").error
        == "No active worker with required tags to run this step. Of those with its tags, none"
        " serves the workspace 'team-b': pool serves team-a, infra-*"
    )


@pytest.mark.long
def test_import_and_validate_warn_where_no_worker_serves_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "workflow.yaml").write_text(FLOW)
    warning = (
        "warning: of the live workers, none serves the workspace 'team-b': pool serves team-a. Its"
        " steps will wait for one that does (`workspaces` in the worker's configuration)"
    )
    Pool("team-a")
    for name, is_warned in (("team-b", True), ("team-a", False)):
        out, err = StringIO(), StringIO()
        call_command("import_workspace", name, str(tmp_path), stdout=out, stderr=err)
        assert (warning in err.getvalue()) is is_warned
        out = StringIO()
        call_command("validate", str(tmp_path), workspace=name, stdout=out)
        assert (warning in out.getvalue()) is is_warned
    Worker.objects.all().delete()
    err = StringIO()
    call_command("import_workspace", "team-b", str(tmp_path), stdout=StringIO(), stderr=err)
    assert err.getvalue() == ""


def everything(pool: Pool) -> set[str]:
    """The workspaces of all the steps that the pool can get."""
    taken = set()
    while (claim := pool.claim()) is not None:
        taken.add(claim.workspace)
        pool.start(claim)
        pool.finish(claim)
    return taken


def limit(workers: str, *workspaces: str) -> WorkerLimit:
    return WorkerLimit.objects.create(workers=workers, workspaces=list(workspaces))


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ((), [("pool", "team-a")], {"team-a"}),
        (("team-*",), [("pool", "*-a", "other")], {"team-a"}),
        (("team-a",), [("po*", "team-b")], set()),
        (("team-a",), [("another", "team-b")], {"team-a"}),
        ((), [("*", "team-*"), ("pool", "*-b")], {"team-b"}),
        (("team-a", "team-b"), [("POOL", "none")], {"team-a", "team-b"}),
    ],
)
def test_a_worker_serves_what_both_its_file_and_the_admin_say(
    tmp_path: Path, own: tuple[str, ...], limits: list[tuple[str, ...]], expected: set[str]
) -> None:
    for each in limits:
        limit(*each)
    for name in ("team-a", "team-b", "team-ab"):
        start(workspace(tmp_path, FLOW, name=name))
    assert everything(Pool(*own)) == expected


def test_a_limit_holds_from_the_next_heartbeat_and_for_every_kind_of_claim(tmp_path: Path) -> None:
    for name in ("team-a", "team-b"):
        start(workspace(tmp_path, FLOW, name=name))
    pool = Pool()
    first = pool.claim()
    assert first is not None and pool.start(first)
    kept = limit("pool", "team-a" if first.workspace == "team-b" else "team-b")
    ledger.renew(pool.id, {first.attempt_id: first.fence}, 1)
    report = ledger.Report(first, DONE)
    following = ledger.finish(report, claim_for=pool.sets, worker_id=pool.id).next
    assert following is not None and following.workspace == kept.workspaces[0]
    assert pool.start(following)
    pool.finish(following)
    assert everything(pool) == {kept.workspaces[0]}
    kept.delete()
    ledger.renew(pool.id, {}, 0)
    assert everything(pool) == {first.workspace}


def test_the_reason_names_what_the_admin_allows(tmp_path: Path) -> None:
    limit("pool", "team-a", "x-*")
    start(workspace(tmp_path, FLOW, name="team-b"))
    Pool("team-*")
    Step.objects.update(ready_at=F("ready_at") - timedelta(seconds=31))
    assert sweeps.unmatched_steps() == 2
    told = "none serves the workspace 'team-b': pool serves team-* within team-a, x-*"
    assert Step.objects.get(name="a").error.endswith(told)


def test_superusers_alone_set_limits_and_the_workers_page_shows_them() -> None:
    pool = Pool("team-*")
    root = client_of(User.objects.create_superuser("root@example.org"))
    form = {"workers": "po*", "workspaces": "team-a, x-*"}
    address = "/admin/fleet/workerlimit/add/"
    assert client_of(person(Role.ADMIN)).post(address, form).status_code == 403
    assert root.post(address, {**form, "workspaces": "a b"}).status_code == 200  # with the reason
    assert root.post(address, {**form, "workspaces": ""}).status_code == 200
    assert not WorkerLimit.objects.exists()
    assert root.post(address, form).status_code == 302
    assert WorkerLimit.objects.get().workspaces == ["team-a", "x-*"]
    page = root.get(f"/admin/fleet/worker/{pool.id}/change/").content.decode()
    assert "team-*; at most team-a, x-*" in page
    assert "team-a, x-*" in root.get("/admin/fleet/workerlimit/").content.decode()
