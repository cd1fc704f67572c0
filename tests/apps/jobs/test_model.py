"""Jobs of random flows on the database, under any order of claims, ends, losses, restarts,
time-outs and cancellations.

After every event the counters of all rows are counted again from the statuses; at the end the job
must have ended as its flow says, whatever happened on the way.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apps.conductor import services as conductor
from apps.hooks.models import HookRun
from apps.jobs import ledger, services
from apps.jobs.flow import blueprints
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.flow.starting import Origin
from apps.jobs.models import Attempt, Job, Step, StepEvent
from apps.jobs.upkeep import sweeps
from engine.orders import StepOutcome, Verdict
from engine.spec.model import Hook, Hooks, Retry, Task
from engine.spec.model import Step as FlowStep
from tests.apps.jobs.builders import Hand, fresh, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)
from tests.engine.dags import Flow, Node, flows

pytestmark = pytest.mark.django_db(transaction=True)

WHENS = {
    "none": None,
    "true": "{{ input.yes }}",
    "false": "{{ not input.yes }}",
    "error": "{{ input.no.way }}",
}
ENDS = ("completed", "failed", "skipped", "cancelled")
LOST_RETRIES = 2
HOME = """
actions:
  work: {type: script, script: "true", on_worker_lost: retry}
  call: {type: task, task: inner}
  note: {type: script, script: "true"}
tasks:
  inner: {flow: {inside: {action: work}}}
"""


def task_of(flow: Flow) -> Task:
    def step_of(node: Node) -> FlowStep:
        return FlowStep(
            action="call" if node.is_child else "work",
            depends_on=node.needs,
            when=WHENS[node.when],
            for_each=None if node.items is None else tuple(range(node.items)),
            max_parallel=node.width,
            sequential=node.sequential,
            continue_on_failure=node.tolerates,
            retry=Retry(max_attempts=node.runs, delay_s=3600) if node.runs > 1 else None,
        )

    return Task(flow={node.name: step_of(node) for node in flow.nodes})


class Jobs(RuleBasedStateMachine):
    """One job, and one worker by hand who holds any number of its steps."""

    home: Any = None
    hand: Hand

    @initialize(flow=flows(with_server_steps=True))
    def begin(self, flow: Flow) -> None:
        from apps.workspaces.revisions import definition_of

        self.flow = flow
        self.held: list[ledger.Claim] = []
        self.old: list[ledger.Claim] = []
        self.losses: Counter[str] = Counter()
        self.stopped = ""  # the status in which a cancel or a time-out lets the job end
        self.is_restarted = False
        revision = self.home.current
        hooks = Hooks(
            **{event: (Hook("note"),) for event in ("on_success", "on_error", "on_cancel")}
        )
        body = blueprints.body(task_of(flow), definition_of(revision.id), hooks)
        plan_id = blueprints.store(body)
        self.job = services.launch(
            revision, "main", plan_id, {"yes": True}, Origin("api"), allow_unknown=True
        )

    # What can happen

    def _take(self, data: Any, claims: list[ledger.Claim]) -> ledger.Claim:
        return claims.pop(data.draw(st.integers(0, len(claims) - 1)))

    @rule()
    def claim(self) -> None:
        claim = self.hand.claim()
        if claim is not None:
            self.held.append(claim)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), starts=st.booleans())
    def finish(self, data: Any, starts: bool) -> None:
        claim = self._take(data, self.held)
        if starts:
            assert self.hand.start(claim)
        assert self.hand.finish(claim, self._outcome(claim)).accepted
        self.old.append(claim)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish_and_claim_in_one(self, data: Any) -> None:
        claim = self._take(data, self.held)
        sets = [ref.id for ref in ledger.covered(self.hand.tags)]
        report = ledger.Report(claim, self._outcome(claim))
        settled = ledger.finish(report, claim_for=sets, worker_id=self.hand.id)
        assert settled.accepted
        if settled.next is not None:
            self.held.append(settled.next)
        self.old.append(claim)

    def _outcome(self, claim: ledger.Claim) -> StepOutcome:
        if self._fails(claim):
            return StepOutcome(Verdict.FAILED, exit_code=1, error="Exit code: 1")
        return StepOutcome(Verdict.SUCCEEDED, exit_code=0, output=claim.step_name, has_output=True)

    def _fails(self, claim: ledger.Claim) -> bool:
        name, number = claim.step_name, claim.number
        if claim.task_name == "inner":
            name, number = (
                Job.objects.values_list("parent_step_name", flat=True).get(id=claim.job_id),
                1,
            )
        elif claim.task_name != "main":
            return False
        base, _, index = name.partition("[")
        node = self.flow[base]
        return int(index[:-1]) in node.bad if index else number <= node.fails

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: Any) -> None:
        claim = self._take(data, self.held)
        ledger.give_back(claim)
        self.old.append(claim)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), had_started=st.booleans())
    def lose(self, data: Any, had_started: bool) -> None:
        claim = self._take(data, self.held)
        key = f"{claim.job_id} {claim.step_name}"
        if self.losses[key] == LOST_RETRIES and (had_started or claim.is_started):
            ledger.give_back(claim)  # one more would fail the step
            self.old.append(claim)
            return
        if had_started or claim.is_started:
            self.losses[key] += 1
            assert self.hand.start(claim)
        Attempt.objects.filter(id=claim.attempt_id).update(lease_until=F("claimed_at"))
        assert sweeps.lost_attempts() == 1
        self.old.append(claim)

    @precondition(lambda self: self.old)
    @rule(data=st.data(), succeeded=st.booleans())
    def report_too_late(self, data: Any, succeeded: bool) -> None:
        claim = self.old[data.draw(st.integers(0, len(self.old) - 1))]
        verdict = Verdict.SUCCEEDED if succeeded else Verdict.FAILED
        before = self._rows()
        assert not self.hand.finish(claim, StepOutcome(verdict)).accepted
        assert claim.is_started or not self.hand.start(claim)
        assert self._rows() == before

    @precondition(lambda self: any(row[2] == "pending" and row[10] for row in self.rows))
    @rule()
    def let_retries_come_due(self) -> None:
        Step.objects.filter(job_id=self.job.id, retry_at__isnull=False).update(
            retry_at=F("ready_at")
        )
        sweeps.due_steps()

    @rule(dice=st.integers(0, 3))
    def sweep(self, dice: int) -> None:
        """A sweep with nothing lost changes nothing."""
        if dice:
            return
        before = self._rows()
        conductor.sweep()
        sweeps.missed_advances()
        assert self._rows() == before

    @precondition(lambda self: self.status in ("pending", "running"))
    @rule(dice=st.integers(0, 7))
    def cancel(self, dice: int) -> None:
        if dice == 0:
            services.cancel_job(self.job.id, actor="somebody")
            self.stopped = "cancelled"

    @precondition(lambda self: self.status in ("pending", "running"))
    @rule(dice=st.integers(0, 7))
    def run_out_of_time(self, dice: int) -> None:
        if dice == 0:
            Job.objects.filter(id=self.job.id).update(deadline_at=F("created_at"))
            sweeps.overdue_jobs()
            self.stopped = self.stopped or "failed"

    @precondition(lambda self: self.status in ("failed", "cancelled"))
    @rule()
    def restart(self) -> None:
        if Step.objects.filter(
            job_id=self.job.id, loop_id=None, status__in=["failed", "cancelled"]
        ).exists():
            restart_failed(self.job.id)
            self.is_restarted, self.stopped = True, ""
            self.losses.clear()

    # What must hold all the time

    def _rows(self) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT s.id, s.name, s.status, s.deps_left, s.deps_completed, s.deps_failed,"
                " s.deps_skipped, s.loop_id, s.loop_open, s.loop_failed, s.retry_at IS NOT NULL,"
                " s.dependents, s.loop_next FROM jobs_step s WHERE s.job_id = %s ORDER BY s.id",
                [self.job.id],
            )
            return cursor.fetchall()

    @invariant()
    def counters_are_what_the_statuses_say(self) -> None:
        if not hasattr(self, "job"):
            return
        self.rows = rows = self._rows()
        flow = {row[1]: row for row in rows if row[7] is None}
        status = {name: row[2] for name, row in flow.items()}
        job = Job.objects.only("status", "open_steps", "bad_steps").get(id=self.job.id)
        self.status = job.status
        assert job.open_steps == sum(found not in ENDS for found in status.values())
        bad = [
            name
            for name, found in status.items()
            if found == "cancelled" or (found == "failed" and not self.flow[name].tolerates)
        ]
        assert job.bad_steps == len(bad)
        assert (job.status in ("completed", "failed", "cancelled")) == (job.open_steps == 0)
        for node in self.flow.nodes:
            self._check_step(node, flow[node.name], status)
            self._check_loop(node, flow[node.name], rows)

    def _check_step(self, node: Node, row: tuple[Any, ...], status: dict[str, str]) -> None:
        ended = [name for name in node.needs if status[name] in ENDS]
        open_needs = len(node.needs) - len(ended)
        # Nobody asks a step that has ended; its counter must only be able to go down once more
        # after a restart.
        assert row[3] >= open_needs if row[2] in ENDS else row[3] == open_needs, (node.name, row)
        if row[2] == "pending":
            good = [
                n
                for n in ended
                if status[n] == "completed" or (status[n] == "failed" and self.flow[n].tolerates)
            ]
            skipped = [name for name in ended if status[name] == "skipped"]
            assert row[4:7] == (len(good), len(ended) - len(good) - len(skipped), len(skipped)), (
                node.name,
                row,
            )
        if row[2] in ("ready", "running"):
            assert row[3] == 0, f"{node.name} began before {set(node.needs) - set(ended)} had ended"

    def _check_loop(self, node: Node, row: tuple[Any, ...], rows: list[tuple[Any, ...]]) -> None:
        instances = [found for found in rows if found[7] == row[0]]
        if not instances or row[2] != "running":
            return
        assert row[8] == sum(found[2] not in ENDS for found in instances)
        assert row[9] == sum(found[2] in ("failed", "cancelled") for found in instances)
        out = [found for found in instances if found[2] in ("ready", "running")]
        waiting = [found for found in instances if found[2] == "pending" and found[10]]
        begun = sum(found[2] != "pending" for found in instances)
        if node.width is None or node.sequential:  # else who waits for a retry has left its place
            out += waiting
            begun += len(waiting)
        assert self.stopped or row[12] == begun, row
        assert len(out) <= (1 if node.sequential else node.width or len(instances))

    # The end

    def teardown(self) -> None:
        if not hasattr(self, "job"):
            return
        for _ in range(1_000):
            if self.held:
                claim = self.held.pop()
                assert self.hand.finish(claim, self._outcome(claim)).accepted
            elif (claim := self.hand.claim()) is not None:
                self.held.append(claim)
            else:
                Step.objects.filter(retry_at__isnull=False, status="pending").update(
                    retry_at=F("ready_at")
                )
                if not sweeps.due_steps():
                    break
        self.counters_are_what_the_statuses_say()
        job = fresh(self.job)
        assert job.status in ("completed", "failed", "cancelled"), (
            f"the job is stuck: {self._rows()}"
        )
        assert not Job.objects.filter(
            parent_job_id=job.id, status__in=["pending", "running"]
        ).exists()
        assert not Attempt.objects.filter(job_id=job.id, ended_at=None).exists()
        self._check_hooks(job)
        if self.stopped:
            assert job.status == self.stopped
            return
        assert job.status == self.flow.job_status()
        status = {row[1]: row[2] for row in self._rows() if row[7] is None}
        assert {name: status[name] for name in status} == self.flow.ends()
        for name, found in ((row[1], row[2]) for row in self._rows() if row[7] is not None):
            base, _, index = name.partition("[")
            assert found == self.flow[base].instance_status(int(index[:-1])), name

    def _check_hooks(self, job: Job) -> None:
        event = {"completed": "on_success", "failed": "on_error", "cancelled": "on_cancel"}[
            job.status
        ]
        runs = HookRun.objects.filter(job_id=job.id, generation=job.generation).values_list(
            "event", flat=True
        )
        assert list(runs) == [event]
        assert (
            Job.objects.filter(source_type="hook", source_id=str(job.id)).count() == job.generation
        )


def explore(examples: int, steps: int, *, derandomize: bool) -> int:
    before = StepEvent.objects.count()
    run_state_machine_as_test(
        Jobs,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=derandomize,
            phases=[Phase.generate],  # making a failure smaller takes an hour here
            suppress_health_check=list(HealthCheck),
        ),
    )
    return StepEvent.objects.count() - before


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> None:
    Jobs.home = workspace(tmp_path_factory.mktemp("home"), HOME)
    Jobs.hand = Hand()


@pytest.mark.long
def test_whatever_happens_a_job_comes_to_the_one_end_that_its_flow_has(home: None) -> None:
    assert explore(70, 30, derandomize=True) >= 2_000


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_same_over_fifty_thousand_events(home: None) -> None:
    assert explore(1_600, 40, derandomize=False) >= 50_000
