"""What steps remember: when it counts, who sees it, and what becomes of two writers."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from apps.artifacts import blobs
from apps.artifacts.models import Blob, FileSet, State, StateFile, StateVersion
from apps.artifacts.state import history
from apps.jobs import ledger, services
from apps.jobs.flow import finishing
from apps.jobs.models import Job, Step
from apps.jobs.upkeep import sweeps
from apps.workspaces.models import Workspace
from apps.workspaces.secrets import store_secret
from engine.errors import NotFound
from engine.masking import MASK
from engine.orders import StepOutcome, Verdict
from engine.state import Change, Left
from engine.state import StateFile as File
from tests.apps.jobs.builders import DONE, Hand, failed, fresh, start, statuses, workspace
from workers.rendering import render

pytestmark = pytest.mark.django_db(transaction=True)

COUNT = """
tasks:
  main:
    {rule}
    flow:
      count: {{type: script, script: 'echo "STATE: {{}}"', {more}}}
  other:
    flow: {{peek: {{type: script, script: 'echo {{{{ global_state.all }}}} {{{{ state.n }}}}'}}}}
"""


def shop(folder: Path, rule: str = "", more: str = "") -> Workspace:
    return workspace(folder, COUNT.format(rule=rule, more=more))


def material(claim: ledger.Claim) -> ledger.Material:
    found = ledger.material(claim)
    assert isinstance(found, ledger.Material)
    return found


def seen(claim: ledger.Claim) -> dict[str, Any]:
    """The values of the task, as this step sees them."""
    found = material(claim).state
    assert found is not None
    return dict(found[0].values)


def leaving(claim: ledger.Claim, values: dict[str, Any], **more: Any) -> ledger.Report:
    """A report with lines of state, by a worker that has looked."""
    found = material(claim).state
    assert found is not None
    left = Left(Change(found[0].version, values), Change(found[1].version, more.pop("wide", {})))
    return ledger.Report(claim, DONE, left=left, **more)


def taken(hand: Hand) -> ledger.Claim:
    claim = hand.claim()
    assert claim is not None and hand.start(claim)
    return claim


def values_of(shop: Workspace, task: str = "main") -> Any:
    return history.newest(history.find(shop.pk, task)).values


# When it counts


def test_a_step_that_succeeds_leaves_state_for_the_next_job(tmp_path: Path) -> None:
    own, hand = shop(tmp_path), Hand()
    start(own)
    claim = taken(hand)
    assert seen(claim) == {}
    ledger.finish(leaving(claim, {"n": 1, "at": "now"}, wide={"all": [1]}))
    start(own)
    assert seen(taken(hand)) == {"n": 1, "at": "now"}
    start(own, "other")
    found = material(taken(hand)).state
    assert found is not None and found[0].values == {} and found[1].values == {"all": [1]}


def test_a_step_sees_what_an_earlier_step_of_its_job_has_left(tmp_path: Path) -> None:
    own = workspace(
        tmp_path,
        """
        tasks:
          main:
            flow:
              one: {type: script, script: 'echo "STATE: {}"'}
              two: {type: script, script: 'echo {{ state.n }}', depends_on: [one]}
              far: {type: script, script: "true", depends_on: [one], when: "{{ state.n > 5 }}"}
        """,
    )
    hand, job = Hand(), start(own)
    ledger.finish(leaving(taken(hand), {"n": 3}))
    claim = taken(hand)
    assert render(claim, material(claim)).script == "echo 3"
    hand.finish(claim)
    assert statuses(job) == {"one": "completed", "two": "completed", "far": "skipped"}


def test_keys_add_up_and_every_change_is_a_version(tmp_path: Path) -> None:
    own, hand = shop(tmp_path), Hand()
    for values in ({"a": 1}, {"b": 2}, {"a": 3}):
        start(own)
        ledger.finish(leaving(taken(hand), values))
    state = history.find(own.pk, "main")
    assert state is not None and state.values == {"a": 3, "b": 2}
    shown = [(row.number, row.values, row.written, row.base) for row in state.versions.all()]
    assert shown == [
        (3, {"a": 3, "b": 2}, ["a"], 2),
        (2, {"a": 1, "b": 2}, ["b"], 1),
        (1, {"a": 1}, ["a"], 0),
    ]


@pytest.mark.parametrize("outcome", [failed(), StepOutcome(Verdict.TIMED_OUT, error="late")])
def test_a_step_that_fails_leaves_nothing(tmp_path: Path, outcome: StepOutcome) -> None:
    own, hand = shop(tmp_path), Hand()
    start(own)
    report = leaving(taken(hand), {"n": 1})
    ledger.finish(replace(report, outcome=outcome))
    assert State.objects.count() == 0


def test_a_late_report_leaves_nothing(tmp_path: Path) -> None:
    own, hand = (
        shop(tmp_path, more="retry: {max_attempts: 3, delay: 1s}, on_worker_lost: retry"),
        Hand(),
    )
    start(own)
    late = leaving(taken(hand), {"n": "zombie"})
    finishing.lose(late.claim.attempt_id)
    again = taken(hand)
    assert not ledger.finish(late).accepted
    assert State.objects.count() == 0
    assert ledger.finish(leaving(again, {"n": 1})).accepted
    assert not ledger.finish(leaving(again, {"n": 2})).accepted
    assert values_of(own) == {"n": 1}


def test_the_end_of_a_step_and_its_state_are_one(tmp_path: Path, monkeypatch: Any) -> None:
    own, hand = shop(tmp_path), Hand()
    job = start(own)
    report = leaving(taken(hand), {"n": 1})

    def breaks(*given: Any) -> None:
        raise RuntimeError("the process dies here")

    with monkeypatch.context() as patch:
        patch.setattr(finishing, "_succeed", breaks)
        with pytest.raises(RuntimeError):
            ledger.finish(report)
    assert State.objects.count() == 0 and statuses(job) == {"count": "running"}
    assert ledger.finish(report).accepted
    assert values_of(own) == {"n": 1} and statuses(job) == {"count": "completed"}


# Two writers


def two_jobs(own: Workspace) -> tuple[ledger.Report, ledger.Report]:
    """Two jobs that have both read 0 and want to write 1."""
    hand = Hand()
    start(own), start(own)
    first, second = taken(hand), taken(hand)
    return leaving(first, {"n": 1}), leaving(second, {"n": 1})


def test_the_second_of_two_writers_fails_and_is_told_key_version_and_cure(tmp_path: Path) -> None:
    own = shop(tmp_path)
    first, second = two_jobs(own)
    ledger.finish(first)
    assert ledger.finish(second).accepted
    step = Step.objects.get(job_id=second.claim.job_id)
    assert step.status == "failed" and fresh(step.job).status == "failed"
    for part in (
        "key 'n'",
        "version 0",
        "version 1",
        str(first.claim.job_id),
        "serialize",
        "retry",
    ):
        assert part in step.error
    assert values_of(own) == {"n": 1} and StateVersion.objects.count() == 1


def test_a_retry_sees_the_new_value_and_loses_nothing(tmp_path: Path) -> None:
    own = shop(tmp_path, more="retry: {max_attempts: 2, delay: 1s}")
    first, second = two_jobs(own)
    ledger.finish(first), ledger.finish(second)
    Step.objects.filter(status="pending").update(retry_at=Now())
    sweeps.due_steps()
    again = taken(Hand())
    ledger.finish(leaving(again, {"n": seen(again)["n"] + 1}))
    assert values_of(own) == {"n": 2}


def test_other_keys_are_no_conflict(tmp_path: Path) -> None:
    own = shop(tmp_path)
    first, second = two_jobs(own)
    ledger.finish(first)
    other = replace(second, left=Left(Change(0, {"m": 1})))
    ledger.finish(other)
    assert values_of(own) == {"n": 1, "m": 1}


def test_last_wins_takes_the_last(tmp_path: Path) -> None:
    own = shop(tmp_path, "state: {on_conflict: last_wins}")
    first, second = two_jobs(own)
    ledger.finish(first), ledger.finish(second)
    assert values_of(own) == {"n": 1} and StateVersion.objects.count() == 2


def test_a_step_that_has_not_looked_conflicts_with_what_came_since_its_claim(
    tmp_path: Path,
) -> None:
    own = shop(tmp_path)
    first, second = two_jobs(own)
    ledger.finish(first)
    blind = replace(second, left=Left(Change(None, {"n": 5})))
    ledger.finish(blind)
    assert Step.objects.get(job_id=second.claim.job_id).status == "failed"
    start(own)
    claim = taken(Hand())
    ledger.finish(ledger.Report(claim, DONE, left=Left(Change(None, {"n": 5}))))
    assert values_of(own) == {"n": 5}


def test_nothing_is_kept_of_a_step_when_one_of_its_two_states_conflicts(tmp_path: Path) -> None:
    own, hand = shop(tmp_path), Hand()
    start(own), start(own)
    first, second = taken(hand), taken(hand)
    one = leaving(first, {}, wide={"all": 1})
    two = leaving(second, {"mine": 1}, wide={"all": 2})
    ledger.finish(one), ledger.finish(two)
    assert values_of(own) == {} and values_of(own, "") == {"all": 1}
    assert "the workspace" in Step.objects.get(job_id=second.job_id).error


def increment(own: Workspace) -> None:
    """Work as a worker does, until no job of the workspace is open."""
    hand = Hand()
    while Job.objects.filter(workspace=own, status__in=("pending", "running")).exists():
        claim = hand.claim()
        if claim is None:
            continue
        hand.start(claim)
        found = material(claim).state
        assert found is not None
        change = Change(found[0].version, {"n": found[0].values.get("n", 0) + 1})
        ledger.finish(ledger.Report(claim, DONE, left=Left(change)))
    connection.close()


def together(own: Workspace, jobs: int, workers: int = 4) -> None:
    for _ in range(jobs):
        services.start_job(own.name, "main", {})
    threads = [threading.Thread(target=increment, args=(own,)) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


@pytest.mark.parametrize("jobs", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_jobs_that_count_at_once_lose_nothing_when_they_are_serial(
    tmp_path: Path, jobs: int
) -> None:
    own = shop(tmp_path, "state: {on_conflict: serialize}")
    together(own, jobs)
    assert values_of(own) == {"n": jobs}
    assert set(Job.objects.values_list("status", flat=True)) == {"completed"}


@pytest.mark.parametrize("jobs", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_jobs_that_count_at_once_are_told_of_every_loss(tmp_path: Path, jobs: int) -> None:
    own = shop(tmp_path)
    together(own, jobs)
    lost = list(Step.objects.filter(status="failed").values_list("error", flat=True))
    assert values_of(own)["n"] + len(lost) == jobs
    assert all("key 'n'" in error and "serialize" in error for error in lost)
    assert Job.objects.filter(status="failed").count() == len(lost)


def test_tasks_that_start_each_other_one_at_a_time_do_not_wait_for_each_other(
    tmp_path: Path,
) -> None:
    """Two jobs of tasks that call each other, each of which may run once."""
    own = workspace(
        tmp_path,
        """
        actions:
          call a: {type: task, task: a}
          call b: {type: task, task: b}
        tasks:
          a:
            state: {on_conflict: serialize}
            input: {deep: {type: boolean, default: true}}
            flow:
              work: {type: script, script: "true"}
              down: {action: call b, when: "{{ input.deep }}", input: {deep: false}, depends_on: [work]}
          b:
            state: {on_conflict: serialize}
            input: {deep: {type: boolean, default: true}}
            flow:
              work: {type: script, script: "true"}
              down: {action: call a, when: "{{ input.deep }}", input: {deep: false}, depends_on: [work]}
        """,
    )
    jobs = [start(own, "a"), start(own, "b")]
    Hand().work()
    assert [fresh(job).status for job in jobs] == ["completed", "completed"]
    assert Job.objects.count() == 4


# Cost


def test_tasks_without_state_pay_nothing(tmp_path: Path) -> None:
    own = workspace(
        tmp_path, "tasks: {main: {flow: {a: {type: script, script: 'echo $STATE of affairs'}}}}"
    )
    hand, _ = Hand(), (start(own), start(own))
    for _ in range(2):
        claim = taken(hand)
        with CaptureQueriesContext(connection) as found:
            told = material(claim)
        assert told.state is None
        hand.finish(claim)
        assert not any("artifacts_" in one["sql"] for one in found)
    assert State.objects.count() == 0


def test_a_file_of_the_workspace_that_uses_directories_of_state_is_found(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "work.py").write_text("import os; os.environ['STATE_DIR']")
    (tmp_path / "files" / "flow.yaml").write_text(
        "tasks: {main: {flow: {a: {type: script, source: work.py}}}}"
    )
    from apps.workspaces.services import import_folder

    start(import_folder("files", tmp_path / "files"))
    assert material(taken(Hand())).state is not None


# Secrets, limits, what is kept


def test_secret_values_are_masked_for_people_and_clear_for_steps(tmp_path: Path) -> None:
    own, hand = shop(tmp_path), Hand()
    store_secret(own, "pw", "canary-4711", by="x")
    start(own)
    report = leaving(taken(hand), {"token": "is canary-4711", "n": 1}, masks=("canary-4711",))
    ledger.finish(report)
    assert values_of(own) == {"token": f"is {MASK}", "n": 1}
    start(own)
    claim = taken(hand)
    assert seen(claim) == {"token": "is canary-4711", "n": 1}
    assert "canary-4711" in material(claim).masks
    ledger.finish(leaving(claim, {"n": 2}))
    assert values_of(own) == {"token": f"is {MASK}", "n": 2}
    rows = [str(row) for model in (State, StateVersion) for row in model.objects.values()]
    assert not any("canary" in row for row in rows)


def test_values_beyond_the_limit_fail_the_step(tmp_path: Path) -> None:
    own, hand = shop(tmp_path), Hand()
    start(own)
    claim = taken(hand)
    ledger.finish(leaving(claim, {"n": "x" * 1_000_001}))
    step = Step.objects.get(job_id=claim.job_id)
    assert step.status == "failed" and "STATE_OUT_DIR" in step.error
    assert State.objects.get().version == 0 if State.objects.exists() else True


def test_what_no_database_holds_is_replaced(tmp_path: Path) -> None:
    own, hand = shop(tmp_path), Hand()
    start(own)
    ledger.finish(leaving(taken(hand), {"a\0": "b\ud800", "n": 1e22}))
    assert values_of(own) == {"a\ufffd": "b\ufffd", "n": 1e22}
    assert isinstance(values_of(own)["n"], float)


def stored(path: str, text: str) -> File:
    found = blobs.put(io.BytesIO(text.encode()))
    return File(path, found.size, found.digest, False, found.id)


def with_files(claim: ledger.Claim, *files: File) -> ledger.Report:
    found = material(claim).state
    assert found is not None
    return ledger.Report(claim, DONE, left=Left(Change(found[0].version, {"n": 1}, (), files)))


def test_files_are_a_set_that_a_later_one_replaces_and_values_leave_alone(
    tmp_path: Path, directory: Path
) -> None:
    own, hand = shop(tmp_path), Hand()
    for files in ((stored("a", "1"), stored("b/c", "2")), (), (stored("d", "1"),)):
        start(own)
        claim = taken(hand)
        ledger.finish(with_files(claim, *files) if files else leaving(claim, {"n": 2}))
    shown = [
        [file.path for file in history.version(history.find(own.pk, "main"), number).files]
        for number in (1, 2, 3)
    ]
    assert shown == [["a", "b/c"], ["a", "b/c"], ["d"]]
    assert FileSet.objects.count() == 2 and Blob.objects.count() == 2


def test_old_versions_go_and_their_files_after_them(
    tmp_path: Path, directory: Path, settings: Any
) -> None:
    limits = replace(settings.STROEM.state_storage, max_snapshots=2)
    settings.STROEM = replace(settings.STROEM, state_storage=limits)
    own, hand = shop(tmp_path), Hand()
    for number in range(4):
        start(own)
        ledger.finish(with_files(taken(hand), stored("a", str(number))))
    state = history.find(own.pk, "main")
    assert state is not None
    assert [row.number for row in state.versions.all()] == [4, 3]
    assert FileSet.objects.count() == StateFile.objects.count() == 2
    with pytest.raises(NotFound, match="Version 1 of this state is not kept"):
        history.version(state, 1)


def test_the_workspace_may_keep_another_number_of_versions(tmp_path: Path, settings: Any) -> None:
    limits = replace(settings.STROEM.state_storage, max_snapshots=3, global_max_snapshots=1)
    settings.STROEM = replace(settings.STROEM, state_storage=limits)
    own, hand = shop(tmp_path), Hand()
    for number in range(4):
        start(own)
        ledger.finish(leaving(taken(hand), {"n": number}, wide={"n": number}))
    counts = [history.versions(history.find(own.pk, name)).count() for name in ("main", "")]
    assert counts == [3, 1]


# For people


def test_an_older_version_comes_back_as_a_new_one(tmp_path: Path, directory: Path) -> None:
    own, hand = shop(tmp_path), Hand()
    start(own)
    ledger.finish(with_files(taken(hand), stored("a", "1")))
    start(own)
    claim = taken(hand)
    ledger.finish(
        ledger.Report(claim, DONE, left=Left(Change(1, {"m": 2}, ("n",), (stored("b", "2"),))))
    )
    made = history.restore(own.pk, "main", 1, by="ada@example.org")
    assert (made.number, made.source, made.by) == (3, "restore", "ada@example.org")
    shown = history.newest(history.find(own.pk, "main"))
    assert shown.values == {"n": 1} and [file.path for file in shown.files] == ["a"]
    with pytest.raises(NotFound):
        history.restore(own.pk, "main", 9, by="x")


def test_a_step_under_way_conflicts_with_a_restore(tmp_path: Path) -> None:
    own, hand = shop(tmp_path), Hand()
    start(own)
    ledger.finish(leaving(taken(hand), {"n": 1}))
    start(own)
    report = leaving(taken(hand), {"n": 2})
    history.restore(own.pk, "main", 1, by="ada@example.org")
    ledger.finish(report)
    assert (
        "ada@example.org has made version 2" in Step.objects.get(job_id=report.claim.job_id).error
    )


def test_what_is_forgotten_is_gone_and_numbers_go_on(tmp_path: Path, directory: Path) -> None:
    own, hand = shop(tmp_path), Hand()
    start(own)
    ledger.finish(with_files(taken(hand), stored("a", "1")))
    assert history.forget(own.pk, "main") == 1
    assert StateVersion.objects.count() == StateFile.objects.count() == 0
    start(own)
    claim = taken(hand)
    assert seen(claim) == {}
    ledger.finish(leaving(claim, {"n": 5}))
    assert history.newest(history.find(own.pk, "main")).version == 3


def test_two_versions_differ_also_by_secrets_which_stay_masked(tmp_path: Path) -> None:
    own, hand = shop(tmp_path), Hand()
    for word in ("first-secret", "second-secret"):
        start(own)
        report = leaving(taken(hand), {"token": word}, masks=("first-secret", "second-secret"))
        ledger.finish(report)
    (found,) = history.compare(history.find(own.pk, "main"), 1, 2)
    assert (found.name, found.what, found.before, found.after) == ("token", "changed", MASK, MASK)


def test_a_workspace_takes_its_states_with_it(tmp_path: Path, directory: Path) -> None:
    from apps.jobs.upkeep.removal import remove_workspace

    own, hand = shop(tmp_path), Hand()
    start(own)
    ledger.finish(with_files(taken(hand), stored("a", "1")))
    remove_workspace(own.name)
    assert not any(model.objects.exists() for model in (State, StateVersion, FileSet, StateFile))


@pytest.mark.parametrize("rule", ["", "state: {on_conflict: last_wins}"])
def test_a_key_with_a_version_of_its_own_is_compared_with_that_one(
    tmp_path: Path, rule: str
) -> None:
    """Whatever the rule of the task: who names a version, wants to be told."""
    own = shop(tmp_path, rule)
    first, second = two_jobs(own)
    ledger.finish(first)
    stale = replace(second, left=Left(Change(0, {"n": 5}, bases={"n": 0})))
    ledger.finish(stale)
    step = Step.objects.get(job_id=second.claim.job_id)
    assert step.status == "failed" and "key 'n'" in step.error and values_of(own) == {"n": 1}
    start(own)
    aware = Left(Change(0, {"n": 6}, bases={"n": 1}))
    ledger.finish(ledger.Report(taken(Hand()), DONE, left=aware))
    assert values_of(own) == {"n": 6}
