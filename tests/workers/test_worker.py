"""The loop: bells and polls bring steps, a finish brings the next one, and a stop ends it in
order."""

from __future__ import annotations

import threading
import time

import pytest

from apps.jobs import bells
from apps.jobs.ledger import TagSetRef
from engine.orders import Line, StepOutcome, Verdict
from engine.resources import Offer
from tests.workers.fakes import FakeLedger, FakeRunner, claim, until_stopped
from workers.bells import Ear
from workers.packing import Packing

OK = StepOutcome(Verdict.SUCCEEDED, 0)


def eventually(condition, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def hear(bench) -> None:
    """Waits until the broker is connected, so that a bell is heard and no poll comes first."""
    eventually(lambda: bench.worker.is_listening)


def quiet(bench):
    """A worker for which nothing came for long: with `poll_interval_secs` it looks once, then when
    rung for."""
    bench.steps._last_work = time.monotonic() - 3600
    return bench


@pytest.mark.delivery
def test_a_bell_starts_a_step_at_once(bench):
    ledger = FakeLedger()
    parts = quiet(bench(ledger, poll_interval_secs=3600.0)).start()
    hear(parts)
    ledger.wait_for(lambda: ledger.calls.count("claim") >= 1)  # the one poll of the start
    ledger.ready.append(claim(1))
    began = time.monotonic()
    bells.ring({"script": 1})
    ledger.wait_for(lambda: len(ledger.reports) == 1)
    assert time.monotonic() - began < 0.5


def test_without_a_broker_polling_finds_the_work(bench, celery_app):
    celery_app.conf.broker_url = "redis://127.0.0.1:1/0"
    ledger = FakeLedger(*(claim(n) for n in range(1, 6)))
    parts = bench(ledger).start()
    ledger.wait_for(lambda: len(ledger.reports) == 5, timeout_s=4)
    assert not parts.worker.is_listening


def test_a_slot_takes_the_next_step_with_the_report_of_the_last(bench):
    ledger = FakeLedger(*(claim(n) for n in range(1, 51)))
    bench(ledger, slots=1).start()
    ledger.wait_for(lambda: len(ledger.reports) == 50)
    with ledger.changed:
        assert ledger.calls.count("finish") == 50
        assert ledger.calls.count("claim") <= 3


def test_one_find_wakes_every_slot(bench):
    together = threading.Barrier(4)

    def meet(order, lines, stop):
        together.wait(5)
        return OK

    ledger = FakeLedger(*(claim(n) for n in range(1, 5)))
    # looks once by itself
    quiet(bench(ledger, FakeRunner(meet), slots=4, poll_interval_secs=3600.0)).start()
    ledger.wait_for(lambda: len(ledger.reports) == 4)
    assert {report.outcome.verdict for report in ledger.reports} == {Verdict.SUCCEEDED}


def test_the_last_ready_step_wakes_nobody(bench):
    ledger = FakeLedger(claim(1), claim(2))
    quiet(bench(ledger, FakeRunner(until_stopped), slots=4, poll_interval_secs=3600.0)).start()
    ledger.wait_for(lambda: ledger.calls.count("started") == 2)
    time.sleep(0.2)  # nothing is to happen, which no condition can tell
    assert ledger.calls.count("claim") == 2


def test_a_worker_that_packs_wakes_the_next_slot_for_every_tag_set(bench):
    ledger = FakeLedger(claim(1, tag_set_id=1), claim(2, tag_set_id=2))
    ledger.tag_sets = [TagSetRef(1, "script"), TagSetRef(2, "gpu+script")]
    parts = quiet(
        bench(
            ledger,
            FakeRunner(until_stopped),
            slots=4,
            tags=["script", "gpu"],
            poll_interval_secs=3600.0,
        )
    )
    parts.steps._packing = Packing(Offer(num_cpus=4))
    parts.start()
    ledger.wait_for(lambda: ledger.calls.count("started") == 2)


def test_a_finish_wakes_as_many_slots_as_steps_became_ready(bench):
    ledger = FakeLedger(claim(1, name="first"))
    go = threading.Event()

    def work(order, lines, stop):
        if order.step_name == "first":
            ledger.ready.extend([claim(2), claim(3), claim(4)])
            ledger.bells = {"script": 2}  # one of the three is taken with the report
            return OK
        go.wait(20)
        return OK

    quiet(bench(ledger, FakeRunner(work), slots=5, poll_interval_secs=3600.0)).start()
    ledger.wait_for(lambda: ledger.calls.count("started") == 4)
    time.sleep(0.2)  # nothing more is to happen
    assert ledger.calls.count("claim") == 3
    go.set()


def test_bells_follow_one_another_without_a_pause(bench, broker_client):
    ledger = FakeLedger()
    ledger.delay_s = 0.01  # long enough for the consumer's loop to fall asleep meanwhile
    parts = quiet(bench(ledger, slots=1, poll_interval_secs=3600.0)).start()
    hear(parts)
    bells.ring({"script": 16})
    began = time.monotonic()
    ledger.wait_for(lambda: ledger.calls.count("claim") >= 16)
    assert time.monotonic() - began < 1.5


def test_never_more_steps_at_once_than_slots(bench):
    lock, running, most = threading.Lock(), [0], [0]

    def count(order, lines, stop):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        stop.wait(0.01)
        with lock:
            running[0] -= 1
        return OK

    ledger = FakeLedger(*(claim(n) for n in range(1, 41)))
    parts = bench(ledger, FakeRunner(count), slots=3).start()
    hear(parts)
    bells.ring({"script": 16})
    ledger.wait_for(lambda: len(ledger.reports) == 40)
    assert most[0] == 3


@pytest.mark.delivery
def test_bells_that_come_ten_times_or_for_nothing_change_nothing(bench):
    ledger = FakeLedger(claim(1))
    parts = bench(ledger).start()
    hear(parts)
    for _ in range(5):
        bells.ring({"script": 10, "docker": 3})
    ledger.wait_for(lambda: ledger.calls.count("claim") >= 10)
    assert [report.claim.step_id for report in ledger.reports] == [1]


def test_steps_that_became_ready_are_taken_by_free_slots_and_rung_for_others(
    bench, broker_client, monkeypatch
):
    rung: list[dict] = []
    monkeypatch.setattr(bells, "ring", lambda keys: rung.append(dict(keys)) or 0)
    hold = threading.Event()

    def first_holds(order, lines, stop):
        hold.wait(5)
        return OK

    ledger = FakeLedger(claim(1))
    parts = bench(ledger, FakeRunner(first_holds), slots=2).start()
    ledger.wait_for(lambda: "started" in ledger.calls)
    eventually(lambda: parts.slots.busy == 1)
    ledger.bells = {"script": 5, "docker": 2}
    looks = ledger.calls.count("claim")
    hold.set()
    eventually(lambda: any("docker" in keys for keys in rung))
    assert rung[-1] == {"docker": 1, "script": 1}  # whoever hears one wakes the next
    eventually(lambda: ledger.calls.count("claim") > looks)


@pytest.mark.delivery
def test_a_new_tag_set_is_heard_while_running(bench):
    ledger = FakeLedger()
    parts = bench(ledger, tags=("script", "gpu", "a", "b", "c", "d"), lease_s=1.2).start()
    hear(parts)
    assert "a+b+c+d+gpu+script" not in parts.worker.queues
    ledger.tag_sets.append(TagSetRef(2, "a+b+c+d+gpu+script"))
    eventually(lambda: "a+b+c+d+gpu+script" in parts.worker.queues)
    ledger.ready.append(claim(1, tag_set_id=2))
    bells.ring({"a+b+c+d+gpu+script": 1})
    ledger.wait_for(lambda: len(ledger.reports) == 1)


@pytest.mark.delivery
def test_the_first_bell_of_a_tag_set_that_the_worker_did_not_know_is_understood(bench):
    ledger = FakeLedger()
    ledger.tag_sets.clear()
    parts = bench(ledger, tags=("script", "gpu")).start()
    hear(parts)
    ledger.tag_sets.append(TagSetRef(9, "gpu+script"))
    ledger.ready.append(claim(1, tag_set_id=9))
    began = time.monotonic()
    bells.ring({"gpu+script": 1})
    ledger.wait_for(lambda: len(ledger.reports) == 1)
    assert time.monotonic() - began < 0.5


def test_a_worker_hears_again_after_its_connection_was_cut(bench, broker_client):
    ledger = FakeLedger()
    parts = quiet(bench(ledger, poll_interval_secs=3600.0)).start()
    hear(parts)
    ledger.wait_for(lambda: ledger.calls.count("claim") >= 1)
    for number in (1, 2):
        broker_client.flushall()
        broker_client.client_kill_filter(_type="normal", skipme=True)
        eventually(lambda: any(c["cmd"] == "brpop" for c in broker_client.client_list()))
        ledger.ready.append(claim(number))
        bells.ring({"script": 1})
        ledger.wait_for(lambda number=number: len(ledger.reports) == number, timeout_s=5)


def test_a_full_worker_leaves_bells_to_others(bench, broker_client, monkeypatch):
    go = threading.Event()
    answers = []

    def may_take(ear, real=Ear.may_take):
        answers.append(real(ear))
        return answers[-1]

    monkeypatch.setattr(Ear, "may_take", may_take)

    def hold(order, lines, stop):
        go.wait(20)
        return OK

    ledger = FakeLedger(claim(1), claim(2))
    parts = bench(ledger, FakeRunner(hold), slots=2).start()
    hear(parts)
    ledger.wait_for(lambda: ledger.calls.count("started") == 2)
    # A request that was decided on before the last slot was taken may still get one; it ends in a
    # moment.
    before = len(answers)
    eventually(lambda: False in answers[before:])
    eventually(
        lambda: (
            not any(c["cmd"] == "brpop" and c["flags"] == "b" for c in broker_client.client_list())
        )
    )
    bells.ring({"script": 3})
    for _ in range(25):
        assert broker_client.llen("stroem:steps.script") == 3
        time.sleep(0.02)
    go.set()
    eventually(lambda: broker_client.llen("stroem:steps.script") == 0, timeout_s=3)


def test_draining_lets_running_steps_end_and_takes_no_more(bench):
    def brief(order, lines, stop):
        stop.wait(0.3)
        return OK

    ledger = FakeLedger(*(claim(n) for n in range(1, 10)))
    parts = bench(ledger, FakeRunner(brief), slots=2).start()
    ledger.wait_for(lambda: ledger.calls.count("started") >= 2)
    assert parts.drain(10.0) == 0
    assert len(ledger.reports) == ledger.calls.count("started") <= 3
    assert len(ledger.reports) + len(ledger.ready) == 9
    assert {report.outcome.verdict for report in ledger.reports} == {Verdict.SUCCEEDED}
    assert ledger.retired == [parts.presence.worker_id]


def test_what_outlives_the_drain_is_stopped_and_reported_lost(bench):
    ledger = FakeLedger(claim(1), claim(2))
    parts = bench(ledger, FakeRunner(until_stopped), slots=2).start()
    ledger.wait_for(lambda: ledger.calls.count("started") == 2)
    began = time.monotonic()
    assert parts.drain(0.2) == 2
    assert time.monotonic() - began < 5
    assert [report.outcome.verdict for report in ledger.reports] == [Verdict.LOST, Verdict.LOST]


def test_a_drain_can_be_hurried(bench):
    ledger = FakeLedger(claim(1))
    parts = bench(ledger, FakeRunner(until_stopped)).start()
    ledger.wait_for(lambda: "started" in ledger.calls)
    hurry = threading.Event()
    threading.Timer(0.2, hurry.set).start()
    began = time.monotonic()
    parts.is_drained = True
    assert parts.worker.drain(60.0, hurry) == 1
    assert time.monotonic() - began < 5


def test_a_drain_ends_in_time_though_the_broker_hangs(bench, celery_app):
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        celery_app.conf.broker_url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        parts = bench(FakeLedger()).start()
        began = time.monotonic()
        parts.drain(0)
        assert time.monotonic() - began < 5


def test_the_lines_of_a_long_step_arrive_while_it_runs(bench):
    def talk(order, lines, stop):
        for number in range(3):
            lines(Line(time.time(), "stdout", f"line {number}"))
        assert stop.wait(20)
        return StepOutcome(Verdict.CANCELLED, 143)

    ledger, one = FakeLedger(claim(1)), claim(1)
    bench(ledger, FakeRunner(talk), lease_s=3.0).start()
    ledger.wait_for(lambda: len(ledger.lines_of(one)) == 3, timeout_s=2)
    ledger.cancelled.add(one.attempt_id)
    ledger.wait_for(lambda: len(ledger.reports) == 1)
    assert ledger.reports[0].outcome.verdict is Verdict.CANCELLED


def test_a_step_without_output_costs_no_log_write(bench):
    ledger = FakeLedger(claim(1))
    bench(ledger).start()
    ledger.wait_for(lambda: len(ledger.reports) == 1)
    assert "append" not in ledger.calls and ledger.batches == {}


def test_the_last_lines_travel_with_the_report(bench):
    def talk(order, lines, stop):
        lines(Line(1.0, "stdout", "only line"))
        return OK

    ledger = FakeLedger(claim(1))
    bench(ledger, FakeRunner(talk)).start()
    ledger.wait_for(lambda: len(ledger.reports) == 1)
    assert "append" not in ledger.calls and ledger.lines_of(claim(1)) == ["only line"]


def test_a_database_that_is_away_for_a_moment_costs_no_step(bench):
    ledger = FakeLedger(*(claim(n) for n in range(1, 4)))
    parts = bench(
        ledger, FakeRunner(lambda o, lines, s: (lines(Line(1.0, "stdout", "said")), OK)[1])
    )
    assert parts.presence.register()
    parts.worker.start()
    for name in ("material", "started", "finish", "claim", "renew"):
        ledger.outages[name] = 2
    ledger.wait_for(lambda: len(ledger.reports) == 3, timeout_s=15)
    assert {report.outcome.verdict for report in ledger.reports} == {Verdict.SUCCEEDED}
    assert ledger.lines_of(claim(3)) == ["said"]


def test_a_report_that_came_too_late_does_not_stop_the_slot(bench):
    ledger = FakeLedger(claim(1), claim(2))
    finish = ledger.finish

    def late(report, **options):
        settled = finish(report, **options)
        return type(settled)(accepted=False, next=settled.next)

    ledger.finish = late
    bench(ledger, slots=1).start()
    ledger.wait_for(lambda: len(ledger.reports) == 2)


def test_a_worker_whose_schema_is_not_its_own_takes_nothing_and_says_so(bench, caplog):
    ledger = FakeLedger(claim(1))
    ledger.problem = "the database lacks migrations"
    parts = bench(ledger)
    assert not parts.presence.register()
    assert "this worker claims nothing: the database lacks migrations" in caplog.text
    assert "register" not in ledger.calls


def test_a_claim_that_is_under_way_when_the_worker_leaves_is_given_back(bench):
    ledger = FakeLedger()
    ledger.delay_s = 0.5
    parts = bench(ledger, FakeRunner(until_stopped), slots=1).start()
    ledger.wait_for(lambda: "claim" in ledger.calls)
    ledger.ready.append(claim(1))  # what this claim, asked for already, will bring
    assert parts.drain(0) == 0
    assert [one.step_id for one in ledger.given_back] == [1] and ledger.reports == []
