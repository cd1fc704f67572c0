"""Leases: renewed together, given up in time, never held for somebody else."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from engine.orders import StepOutcome, Verdict
from tests.standalone.processes import eventually
from tests.workers.fakes import FakeLedger, FakeRunner, claim, until_stopped
from workers.attempts import Stop, Timing


@pytest.mark.parametrize("lease_s", [3.0, 10.0, 30.0, 120.0])
@pytest.mark.parametrize("grace_s", [0.0, 5.0, 7.0])
def test_the_worker_gives_up_before_the_guard_kills_and_the_guard_before_the_lease_ends(
    lease_s, grace_s
):
    timing = Timing.of(lease_s, grace_s)
    assert timing.renew_s * 3 < timing.give_up_s + 0.01
    assert timing.give_up_s <= lease_s - timing.guard_margin_s
    assert 0 < timing.guard_margin_s < lease_s


def test_defaults_are_those_of_the_documentation():
    assert Timing.of(30.0, 5.0) == Timing(
        lease_s=30.0, renew_s=5.0, give_up_s=22.0, guard_margin_s=4.0
    )


def test_one_statement_renews_all_attempts_and_beats_the_guard(bench):
    ledger = FakeLedger(claim(1), claim(2))
    named: list[dict] = []
    renew = ledger.renew
    ledger.renew = lambda worker_id, live, busy, progress: (
        named.append(dict(live)),
        renew(worker_id, live, busy, progress),
    )[1]
    parts = bench(ledger, FakeRunner(until_stopped), lease_s=4.0).start()
    ledger.wait_for(lambda: ledger.calls.count("started") == 2)
    seen = len(named)
    ledger.wait_for(lambda: len(named) >= seen + 2)
    assert named[-1] == {1001: 1, 1002: 1}
    assert len(parts.guard.beats) >= 3
    ledger.cancelled |= {1001, 1002}
    ledger.wait_for(lambda: len(ledger.reports) == 2)
    assert {report.outcome.verdict for report in ledger.reports} == {Verdict.CANCELLED}


def test_an_attempt_that_is_not_ours_any_more_is_stopped(bench):
    ledger = FakeLedger(claim(1))
    parts = bench(ledger, FakeRunner(until_stopped), lease_s=1.8).start()
    ledger.wait_for(lambda: "started" in ledger.calls)
    ledger.lost.add(1001)
    ledger.wait_for(lambda: len(ledger.reports) == 1)
    assert ledger.reports[0].outcome.verdict is Verdict.LOST
    eventually(lambda: not parts.attempts.all())


def test_a_worker_that_was_given_up_ends_its_steps_and_comes_back_as_a_new_one(bench):
    ledger = FakeLedger(claim(1))
    parts = bench(ledger, FakeRunner(until_stopped), lease_s=1.8).start()
    ledger.wait_for(lambda: "started" in ledger.calls)
    before = parts.presence.worker_id
    ledger.is_known = False
    ledger.wait_for(lambda: len(ledger.reports) == 1)
    assert ledger.reports[0].outcome.verdict is Verdict.LOST
    ledger.wait_for(lambda: ledger.calls.count("register") == 2)
    assert parts.presence.worker_id != before
    parts.runner.act = lambda order, lines, stop: StepOutcome(Verdict.SUCCEEDED, 0)
    ledger.ready.append(claim(2))
    ledger.wait_for(lambda: len(ledger.reports) == 2)


def test_what_cannot_be_renewed_is_stopped_before_its_lease_ends(bench):
    ledger = FakeLedger(claim(1))
    stopped_at = []

    def wait(order, lines, stop):
        assert stop.wait(20)
        stopped_at.append((time.monotonic(), stop.reason))
        return StepOutcome(Verdict.LOST, 143)

    parts = bench(ledger, FakeRunner(wait), lease_s=3.0, stop_grace_secs=0.5).start()
    ledger.wait_for(lambda: "started" in ledger.calls)
    (attempt,) = parts.attempts.all()
    ledger.outages["*"] = 10**9
    with ledger.changed:
        pass
    deadline = time.monotonic() + 5
    while not stopped_at and time.monotonic() < deadline:
        time.sleep(0.01)
    at, reason = stopped_at[0]
    assert reason == "lost"
    assert at - attempt.renewed_at < 3.0
    beats = len(parts.guard.beats)
    assert not parts.presence.may_claim or time.monotonic() - attempt.renewed_at < 1.5
    ledger.outages.clear()
    ledger.ready.append(claim(2))
    parts.runner.act = lambda order, lines, stop: StepOutcome(Verdict.SUCCEEDED, 0)
    ledger.wait_for(lambda: any(report.claim.step_id == 2 for report in ledger.reports))
    assert len(parts.guard.beats) > beats, "nothing is claimed before the guard heard a beat again"


def test_nothing_is_claimed_while_leases_cannot_be_renewed(bench):
    ledger = FakeLedger()
    parts = bench(ledger, lease_s=1.2).start()
    ledger.outages["renew"] = 10**9
    deadline = time.monotonic() + 5
    while parts.presence.may_claim and time.monotonic() < deadline:
        time.sleep(0.01)
    with ledger.changed:
        claims = ledger.calls.count("claim")
    parts.worker.hear("script")
    assert ledger.calls.count("claim") == claims


def test_a_stop_signal_is_set_once_and_tells_everybody():
    stop, heard = Stop(), []
    stop.on_set(lambda: heard.append("early"))
    assert not stop.wait(0.01) and stop.reason is None
    stop.set("cancel")
    stop.set("lost")
    stop.on_set(lambda: heard.append("late"))
    assert stop.reason == "cancel" and stop.wait(0) and heard == ["early", "late"]


def test_a_job_out_of_time_is_asked_about_before_the_next_renewal(bench):
    """With a lease of ten minutes, the next renewal is 100 s away."""
    ledger = FakeLedger(replace(claim(1), job_ends_in_s=0.0))
    ledger.cancelled.add(1001)
    bench(ledger, FakeRunner(until_stopped), lease_s=600.0).start()
    ledger.wait_for(lambda: len(ledger.reports) == 1)
    assert ledger.reports[0].outcome.verdict is Verdict.CANCELLED
