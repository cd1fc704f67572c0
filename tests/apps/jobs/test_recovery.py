"""Lost workers, passed deadlines, missing tags: what the sweep makes of the rows."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connections
from django.db.models import F

from apps.conductor import partitions
from apps.conductor import services as conductor
from apps.fleet.models import Worker
from apps.jobs import ledger, services
from apps.jobs.log.cursors import Choice, Cursor, Whose, read
from apps.jobs.models import Attempt, Job, LogChunk, Step
from apps.jobs.upkeep import sweeps
from engine.orders import Line, StepOutcome, Verdict
from tests.apps.jobs.builders import Hand, failed, fresh, start, statuses, workspace

pytestmark = pytest.mark.django_db(transaction=True)

ONE = """
actions:
  work: {type: script, script: "true" %s}
tasks:
  main: {flow: {a: {action: work}, b: {action: work, depends_on: [a]}}}
"""


def run_out() -> None:
    """Let every lease end now."""
    Attempt.objects.filter(ended_at=None).update(lease_until=F("claimed_at") - timedelta(seconds=1))


def test_a_lost_attempt_that_had_not_started_is_repeated(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, ONE % ""))
    hand = Hand()
    hand.take("a")
    run_out()
    assert sweeps.lost_attempts() == 1
    assert statuses(job)["a"] == "ready"
    assert hand.take("a").number == 1


def test_a_lost_attempt_that_had_started_fails_and_names_its_worker(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, ONE % ""))
    hand = Hand(name="node-7")
    hand.start(hand.take("a"))
    run_out()
    sweeps.lost_attempts()
    assert statuses(job) == {"a": "failed", "b": "skipped"}
    assert Step.objects.get(job_id=job.id, name="a").error == "Worker node-7 was lost"


def test_with_on_worker_lost_retry_it_is_repeated_twice_and_no_more(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, ONE % ", on_worker_lost: retry"))
    hand = Hand()
    for _ in range(3):
        assert statuses(job)["a"] == "ready"
        claim = hand.take("a")
        assert claim.number == 1
        hand.start(claim)
        run_out()
        sweeps.lost_attempts()
    assert statuses(job)["a"] == "failed"


STOPPED = StepOutcome(Verdict.LOST, 143, is_handed_back=True)


def test_a_worker_that_its_operator_stops_is_no_loss_however_often(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, ONE % ", on_worker_lost: retry"))
    hand = Hand()
    for _ in range(4):
        claim = hand.take("a")
        assert claim.number == 1
        hand.start(claim)
        hand.finish(claim, STOPPED)
        step = Step.objects.get(job_id=job.id, name="a")
        assert (step.status, step.losses) == ("ready", 0)
    for losses in (1, 2):  # what is really lost counts as before
        hand.start(hand.take("a"))
        run_out()
        sweeps.lost_attempts()
        assert Step.objects.get(job_id=job.id, name="a").losses == losses
    claim = hand.take("a")
    hand.start(claim)
    hand.finish(claim, STOPPED)
    assert statuses(job)["a"] == "ready"


def test_the_retry_of_a_step_applies_to_a_lost_attempt_as_to_any_failure(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, ONE % ", retry: {max_attempts: 2, delay: 1s}"))
    hand = Hand()
    hand.start(hand.take("a"))
    run_out()
    sweeps.lost_attempts()
    step = Step.objects.get(job_id=job.id, name="a")
    assert step.status == "pending" and step.retry_at is not None


def test_two_sweeps_settle_a_lost_attempt_once(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, ONE % ", on_worker_lost: retry"))
    hand = Hand()
    hand.start(hand.take("a"))
    run_out()

    def sweep() -> None:
        sweeps.lost_attempts()
        connections.close_all()

    threads = [threading.Thread(target=sweep) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    step = Step.objects.get(job_id=job.id, name="a")
    assert (step.status, step.losses, step.attempts) == ("ready", 1, 0)


def test_a_renewal_keeps_a_lease_and_tells_what_was_lost(tmp_path: Path) -> None:
    start(workspace(tmp_path, ONE % ""))
    hand = Hand()
    claim = hand.take("a")
    before = Attempt.objects.get(id=claim.attempt_id).lease_until
    renewal = ledger.renew(hand.id, {claim.attempt_id: claim.fence, 999_999: 1}, 1)
    assert renewal.is_known and renewal.lost == {999_999} and not renewal.cancelled
    assert Attempt.objects.get(id=claim.attempt_id).lease_until > before
    ledger.retire(hand.id)
    assert not ledger.renew(hand.id, {}, 0).is_known


def test_a_step_whose_tags_nobody_has_fails_after_the_time_out_with_the_sentence(
    tmp_path: Path,
) -> None:
    job = start(workspace(tmp_path, ONE % ", tags: [arm]"))
    Hand()
    assert sweeps.unmatched_steps() == 0
    Step.objects.filter(job_id=job.id, name="a").update(
        ready_at=F("ready_at") - timedelta(seconds=31)
    )
    assert sweeps.unmatched_steps() == 1
    assert (
        Step.objects.get(job_id=job.id, name="a").error
        == "No active worker with required tags to run this step. It needs arm, script; of the live"
        " workers, hand lacks arm"
    )
    assert fresh(job).status == "failed"


def test_a_step_that_nobody_may_run_says_in_its_own_log_what_each_live_worker_lacks(
    tmp_path: Path,
) -> None:
    job = start(workspace(tmp_path, ONE % ", tags: [arm, gpu]"))
    step = Step.objects.get(job_id=job.id, name="a")
    for number in range(5):
        Hand("script", name=f"plain-{number}")
    Hand("script", "gpu", name="fast")
    ledger.retire(Hand("script", "gpu", name="left").id)
    Step.objects.filter(id=step.id).update(ready_at=F("ready_at") - timedelta(seconds=31))
    sweeps.unmatched_steps()
    sentence = (
        "No active worker with required tags to run this step. It needs arm, gpu, script; of the"
        " live workers, fast lacks arm; plain-0, plain-1, plain-2 and 2 more lack arm, gpu"
    )
    assert fresh(job).error == f"Step 'a': {sentence}"
    (chunk,) = read([job.id], Cursor(), Choice.of(Whose.STEP, step.id)).chunks
    assert f"[recovery] Step 'a' has waited too long. {sentence}" in chunk[1]


def test_without_any_worker_the_sentence_says_so(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, ONE % ", tags: [arm]"))
    Step.objects.filter(job_id=job.id, name="a").update(
        ready_at=F("ready_at") - timedelta(seconds=31)
    )
    sweeps.unmatched_steps()
    assert fresh(job).error.endswith("It needs arm, script; no worker is alive")


def test_a_worker_with_the_tags_keeps_the_step_waiting(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, ONE % ", tags: [arm]"))
    Step.objects.filter(job_id=job.id, name="a").update(
        ready_at=F("ready_at") - timedelta(seconds=31)
    )
    late = Hand("script", "arm")
    assert sweeps.unmatched_steps() == 0
    assert late.claim() is not None


def test_a_worker_claims_only_what_its_tags_cover(tmp_path: Path) -> None:
    start(workspace(tmp_path, ONE % ", tags: [gpu]"))
    assert Hand("script").claim() is None
    assert Hand("gpu").claim() is None
    assert Hand("script", "gpu", "x").claim() is not None


def test_a_missed_advance_is_made_up_from_the_rows(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, ONE % ""))
    Step.objects.filter(job_id=job.id, name="a").update(deps_left=0, status="pending")
    assert sweeps.missed_advances() == 1
    assert Hand().work() == 2
    assert fresh(job).status == "completed"


def test_a_job_past_its_time_out_has_failed(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, (ONE % "").replace("main: {", "main: {timeout: 5m, ")))
    assert sweeps.overdue_jobs() == 0
    Job.objects.filter(id=job.id).update(deadline_at=F("created_at"))
    sweeps.overdue_jobs()
    assert fresh(job).status == "failed" and fresh(job).error == "Job timed out after 5m"


def test_an_attempt_past_its_time_out_is_settled_even_if_its_worker_says_nothing(
    tmp_path: Path,
) -> None:
    job = start(workspace(tmp_path, ONE % ", timeout: 60"))
    hand = Hand()
    claim = hand.take("a")
    assert claim.timeout_s == 60
    Attempt.objects.update(deadline_at=F("claimed_at") - timedelta(seconds=60))
    sweeps.overdue_attempts()
    assert statuses(job)["a"] == "failed"
    assert "timed out after 60s" in Step.objects.get(job_id=job.id, name="a").error
    assert ledger.renew(hand.id, {claim.attempt_id: claim.fence}, 1).lost == {claim.attempt_id}


def test_cancel_during_back_off_ends_the_step_for_good(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, ONE % ", retry: {max_attempts: 3, delay: 1s}"))
    hand = Hand()
    hand.finish(hand.take("a"), failed())
    services.cancel_job(job.id, actor="me")
    Step.objects.filter(job_id=job.id).update(retry_at=F("ready_at"))
    assert sweeps.due_steps() == 0
    assert fresh(job).status == "cancelled" and hand.claim() is None


def test_a_failure_reported_after_cancel_is_a_cancellation_and_never_a_retry(
    tmp_path: Path,
) -> None:
    job = start(workspace(tmp_path, ONE % ", retry: {max_attempts: 3, delay: 1s}"))
    hand = Hand()
    claim = hand.take("a")
    services.cancel_job(job.id, actor="me")
    hand.finish(claim, failed())
    assert statuses(job)["a"] == "cancelled" and fresh(job).status == "cancelled"


def test_a_batch_of_lines_sent_twice_is_stored_once_and_a_late_one_is_refused(
    tmp_path: Path,
) -> None:
    partitions.prepare()
    job = start(workspace(tmp_path, ONE % ""))
    hand = Hand()
    claim = hand.take("a")
    lines = [Line(1.0, "stdout", "hello"), Line(2.0, "stderr", "nul \x00 and half \ud800")]
    assert ledger.append(claim, 1, lines)
    assert ledger.append(claim, 1, lines)
    assert LogChunk.objects.filter(job_id=job.id).count() == 1
    hand.finish(claim)
    assert not ledger.append(claim, 2, lines)


def test_the_conductor_s_rounds_run_on_an_empty_and_on_a_busy_database(tmp_path: Path) -> None:
    for _ in range(2):
        conductor.tick()
        conductor.sweep()
        conductor.tidy()
        start(workspace(tmp_path, ONE % ""))


def test_a_row_that_breaks_one_phase_keeps_no_other_from_its_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(workspace(tmp_path, ONE % ""))
    Step.objects.filter(name="a").update(tag_set_id=32_000)  # no such tag set
    conductor.sweep()
    assert "ring_ready failed; the other phases continue" in caplog.text


def test_a_worker_not_seen_for_long_counts_as_gone() -> None:
    Hand()
    Worker.objects.update(heartbeat_at=F("heartbeat_at") - timedelta(seconds=31))
    conductor.sweep()
    assert Worker.objects.get().stopped_at is not None


def test_many_claimers_never_share_a_step(tmp_path: Path) -> None:
    steps = "".join(f"      s{i}: {{action: work}}\n" for i in range(200))
    text = (
        f'actions:\n  work: {{type: script, script: "true"}}\ntasks:\n  main:\n    flow:\n{steps}'
    )
    job = start(workspace(tmp_path, text))
    taken: list[str] = []

    def claim_all() -> None:
        hand = Hand()
        hand.work()
        taken.extend(hand.seen)
        connections.close_all()

    threads = [threading.Thread(target=claim_all) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 200
    assert fresh(job).status == "completed" and fresh(job).open_steps == 0


def test_a_join_of_many_racing_branches_runs_exactly_once(tmp_path: Path) -> None:
    steps = "".join(f"      s{i}: {{action: work}}\n" for i in range(32))
    names = ", ".join(f"s{i}" for i in range(32))
    text = (
        f'actions:\n  work: {{type: script, script: "true"}}\ntasks:\n  main:\n    flow:\n{steps}'
        f"      join: {{action: work, depends_on: [{names}]}}\n"
    )
    found = workspace(tmp_path, text)
    for _ in range(5):
        job = start(found)
        hands = [Hand() for _ in range(8)]
        claims = [[hand.claim() for _ in range(4)] for hand in hands]
        barrier = threading.Barrier(8)

        def finish(
            hand: Hand, mine: list[ledger.Claim], barrier: threading.Barrier = barrier
        ) -> None:
            barrier.wait()
            for claim in mine:
                hand.finish(claim)
            connections.close_all()

        threads = [
            threading.Thread(target=finish, args=pair) for pair in zip(hands, claims, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        join = Step.objects.get(job_id=job.id, name="join")
        assert (join.status, join.deps_left, join.deps_completed) == ("ready", 0, 32)
        assert Hand().work() == 1


def test_of_several_tag_sets_the_best_step_is_claimed_first(tmp_path: Path) -> None:
    text = """
    actions:
      work: {type: script, script: "true"}
    tasks:
      main:
        flow:
          low: {action: work, priority: 1}
          high: {action: work, tags: [gpu], priority: 5}
          mid: {action: work, tags: [arm], priority: 3}
    """
    start(workspace(tmp_path, text))
    hand = Hand("script", "gpu", "arm")
    hand.work()
    assert hand.seen == ["high", "mid", "low"]
