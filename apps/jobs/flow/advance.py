"""Advances a job: from what has just become final to what may run now, until nothing changes; and
ends it when no step is open. Every job ends here.

Runs inside the transaction that holds the job's lock. The planner decides, the pen writes. The cost
depends on the neighbours of what moved, never on the size of the job.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from apps.jobs import ports
from apps.jobs.database.sql import fetch
from apps.jobs.flow import abroad, contexts
from apps.jobs.flow.contexts import Opened, redact, redact_result, seal_with
from apps.jobs.models import Job
from apps.jobs.plans import Node, Plan
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions import rows, stops
from apps.jobs.transitions.moves import Candidate, JobState, LoopState, Result, Settled
from engine import planner, templating
from engine.errors import AuthorError, TemplateError
from engine.lifecycle import OPEN_JOB, JobEventKind, JobStatus, StepEventKind, StepStatus
from engine.planner import JOB_CANCELLED, Promotion

SUCCEEDED, FAILED = StepEventKind.SUCCEEDED, StepEventKind.FAILED
SKIPPED, CANCELLED = StepEventKind.SKIPPED, StepEventKind.CANCELLED
LOOP_ERROR = "for_each expression error: "
ERRORS = """
SELECT name, status, error FROM jobs_step
WHERE job_id = %s AND owner_kind = 'step' AND loop_id IS NULL AND status IN ('failed', 'cancelled')
    AND NOT (tolerates AND status = 'failed')
ORDER BY completed_at, position LIMIT 20
"""
LEAF_OUTPUTS = """
SELECT name, output::text, output_sealed FROM jobs_step
WHERE job_id = %s AND name = ANY(%s) AND status = 'completed' AND has_output ORDER BY position
"""
NO_STOP = ("", False)
WITHOUT_WORDS = {StepStatus.FAILED: "failed", StepStatus.CANCELLED: "was cancelled"}


class Advance:
    """One advance of one locked job. `bells` counts newly ready steps by tag set id."""

    def __init__(self, state: JobState, plan: Plan) -> None:
        self.state = state
        self.plan = plan
        self.bells: Counter[int] = Counter()
        self.moves: list[tuple[str, StepEventKind]] = []
        self.open_steps = state.open_steps
        self.bad_steps = state.bad_steps
        self._job: Job | None = None
        self._candidates: list[Candidate] = []
        self._loops: list[LoopState] = []

    @property
    def job(self) -> Job:
        """The complete row, loaded only when a decision needs it."""
        if self._job is None:
            rows = Job.objects.select_related("revision", "workspace").defer(*pen.HEAVY)
            self._job = rows.get(id=self.state.id)
        return self._job

    @property
    def _stop_words(self) -> str:
        """What a step says that was stopped with its job."""
        reason, is_timed_out = stops.stop_of(self.state.id)
        return reason if is_timed_out else JOB_CANCELLED

    # What has happened

    def settle(
        self,
        step_ids: Sequence[int],
        event: StepEventKind,
        result: Result = pen.NOTHING,
        *,
        fence: int | None = None,
        actor: str = "",
        base: str = "",
        input: Any = None,
    ) -> int:
        """Make steps final and remember what this unblocks. Returns how many moved."""
        if event is CANCELLED and result.error == JOB_CANCELLED:
            result = replace(result, error=self._stop_words)
        settled = pen.settle(
            self.state.id, step_ids, event, result, fence=fence, actor=actor, input=input
        )
        self.absorb(settled)
        if settled.moved and base:
            self.moves.append((base, event))
        return settled.moved

    def note(self, step_name: str, event: StepEventKind) -> None:
        """Record a move of a step, or of a loop instance, for the workflow actions."""
        self.moves.append((step_name, event))

    def set_aside(self, instance_id: int) -> None:
        """Give the place of a loop instance that waits for its retry to the next one."""
        self._loops.append(rows.step_aside(instance_id))

    def turn(self, loop_id: int) -> None:
        """Look again at a loop one of whose instances may have become due."""
        loop = rows.loop_state(loop_id)
        if loop is not None:
            self._loops.append(loop)

    def absorb(self, settled: Settled) -> None:
        self._candidates.extend(settled.candidates)
        self._loops.extend(settled.loops)
        if settled.open_steps is not None:
            self.open_steps = settled.open_steps
            self.bad_steps = settled.bad_steps or 0

    def consider(self, candidates: Iterable[Candidate]) -> None:
        self._candidates.extend(candidates)

    def mark_cancelling(self) -> None:
        self.state = replace(self.state, is_cancelling=True)

    # What happens next

    def run(self, *, actor: str = "") -> None:
        """Repeat until nothing changes, then end the job if it is over."""
        while self._candidates or self._loops:
            loops, self._loops = self._loops, []
            # the last state is the current one
            for loop in {loop.id: loop for loop in loops}.values():
                self._turn_loop(loop)
            candidates, self._candidates = self._candidates, []
            if self.state.is_cancelling:
                self._drop([candidate.id for candidate in candidates])
            else:
                self._promote(candidates)
        if self.moves and self.state.has_actions:
            ports.moved(self.job, self.plan, self.moves)
        failed = [name for name, event in self.moves if event is FAILED and name in self.plan.nodes]
        if failed:
            ports.failed(self.job, self.plan, failed)
        if self.open_steps == 0 and self.state.status in OPEN_JOB:
            conclude_job(self.state, self.plan, self.bad_steps, actor=actor)

    def _drop(self, step_ids: list[int]) -> None:
        if step_ids:
            self.settle(step_ids, CANCELLED, Result(error=JOB_CANCELLED))

    def _promote(self, candidates: list[Candidate]) -> None:
        ready: list[int] = []
        skipped: list[int] = []
        for candidate in candidates:
            node = self.plan.nodes[candidate.base]
            promotion = planner.promote(
                candidate.tally, tolerates=candidate.tolerates, join=node.step.join
            )
            if promotion is Promotion.SKIP:
                skipped.append(candidate.id)
            elif node.is_plain:
                ready.append(candidate.id)
            else:
                self._enter(candidate, node, ready, skipped)
        self._unblock(ready)
        if skipped:
            self.settle(skipped, SKIPPED)
        if self.state.has_actions:
            self._note(candidates, ready, skipped)

    def _note(self, candidates: list[Candidate], ready: list[int], skipped: list[int]) -> None:
        """Tell workflow actions, by name, which steps became ready or were skipped."""
        names = {candidate.id: candidate.base for candidate in candidates}
        self.moves += [
            (names[step_id], StepEventKind.UNBLOCKED) for step_id in ready if step_id in names
        ]
        self.moves += [(names[step_id], SKIPPED) for step_id in skipped if step_id in names]

    def _unblock(self, step_ids: list[int]) -> None:
        if step_ids:
            self._start_job()
            self.bells.update(pen.unblock(step_ids))

    def _start_job(self) -> None:
        if self.state.status == JobStatus.PENDING:
            pen.move_job(self.state.id, JobEventKind.STARTED)
            self.state = self.state.started()

    def _enter(
        self, candidate: Candidate, node: Node, ready: list[int], skipped: list[int]
    ) -> None:
        """Start a step that has a condition, is a loop, or runs on the server."""
        try:
            if node.step.for_each is not None and self._resumes_loop(candidate, node):
                return
            if not self._wants_to_run(node):
                skipped.append(candidate.id)
            elif node.step.for_each is not None:
                self._open_loop(candidate, node, skipped)
            elif node.runs_on_server:
                self.dispatch(candidate.id, node.name, node, None)
            else:
                ready.append(candidate.id)
        except AuthorError as error:
            self._fail(candidate.id, node, str(error))

    def _fail(self, step_id: int, node: Node, message: str, *, is_instance: bool = False) -> None:
        masks = contexts.masks_of(self.job, abroad.masks_of(node))
        result = redact_result(Result(error=message), masks)
        self.settle([step_id], FAILED, result, base="" if is_instance else node.name)

    def _wants_to_run(self, node: Node) -> bool:
        if node.step.when is None:
            return True
        try:
            return templating.is_true(
                node.step.when, contexts.control_context(self.job, self.plan, node)
            )
        except TemplateError as error:
            raise TemplateError(f"when condition error: {error}") from error

    # Loops

    def _open_loop(self, candidate: Candidate, node: Node, skipped: list[int]) -> None:
        source = node.step.for_each
        assert source is not None
        view = contexts.base_view(self.job, self.plan, node.control_names, node.file_names)
        try:
            items = templating.items(source, view.values)
        except TemplateError as error:
            raise TemplateError(LOOP_ERROR + str(error).removeprefix(LOOP_ERROR)) from error
        if not items:
            skipped.append(candidate.id)
            return
        self._begin_loop(candidate.id, node)
        seen, sealed = self._concealed(items, contexts.masks_of(self.job, view.hidden))
        ids = rows.open_loop(
            candidate.id, seen, sealed, released=min(_width(node, len(items)), len(items))
        )
        self._release(ids, node)

    def _concealed(
        self, items: list[Any], masks: tuple[str, ...]
    ) -> tuple[list[Any], list[bytes | None] | None]:
        seen = redact(items, masks)
        if seen == items:
            return items, None
        return seen, [
            None if a == b else seal_with(b, masks) for a, b in zip(seen, items, strict=True)
        ]

    def _resumes_loop(self, candidate: Candidate, node: Node) -> bool:
        """Resume a loop of an earlier generation: its items stay, instances that did not complete
        run again."""
        left = rows.loop_state(candidate.id) if self.state.generation > 1 else None
        if left is None:
            return False
        self._begin_loop(left.id, node)
        if left.open == 0:
            self._loops.append(left)
        else:
            self._release(rows.release(left.id, _width(node, left.total)), node)
        return True

    def _begin_loop(self, loop_id: int, node: Node) -> None:
        self._start_job()
        pen.move(loop_id, StepEventKind.DISPATCHED)
        if self.state.has_actions:
            self.moves.append((node.name, StepEventKind.UNBLOCKED))

    def _release(self, step_ids: list[int], node: Node) -> None:
        if not node.runs_on_server:
            self._unblock(step_ids)
            return
        for instance in rows.instances(step_ids):
            try:
                self.dispatch(instance.id, instance.name, node, contexts.each_of(instance))
            except AuthorError as error:
                self._fail(instance.id, node, str(error), is_instance=True)

    def _turn_loop(self, loop: LoopState) -> None:
        """After loop instances became final: close the loop, stop it or release the next ones."""
        node = self.plan.nodes[loop.base]
        if loop.open == 0:
            self._close_loop(loop, node)
            return
        if loop.next_index >= loop.total or self.state.is_cancelling:
            return
        if node.step.sequential and loop.failed and not node.step.continue_on_failure:
            self.settle(rows.unreleased(loop.id), SKIPPED)
            return
        in_flight = loop.next_index - (loop.total - loop.open)
        free = _width(node, loop.total) - in_flight
        if free > 0:
            again = rows.release_again(loop.id, free) if node.retry else []
            self._release([*again, *rows.release(loop.id, free - len(again))], node)

    def _close_loop(self, loop: LoopState, node: Node) -> None:
        failed, has_sealed = (
            rows.loop_results(loop.id) if loop.failed else ((), rows.has_sealed(loop.id))
        )
        move = planner.close_loop(
            tuple(failed),
            tolerates=node.step.continue_on_failure,
            is_cancelling=self.state.is_cancelling,
        )
        result = Result(error=move.error)
        if move.event is SUCCEEDED:
            rows.aggregate_loop(loop.id)
            if has_sealed:
                result = Result(output_sealed=contexts.sealed_loop_output(loop.id))
        self.settle([loop.id], move.event, result, base=loop.base)

    # Steps that run on the server

    def dispatch(self, step_id: int, step_name: str, node: Node, each: Opened | None) -> None:
        """Hand a step to the room that runs it (a child job, an approval)."""
        handler = ports.step_handler(node.action.type)
        if handler is None:
            raise AuthorError(
                f"step '{step_name}' is of type {node.action.type}, which this installation cannot"
                " run yet"
            )
        job = self.job
        with_secrets = node.abroad is not None and abroad.admit(job.workspace.name, node)
        view = contexts.base_view(job, self.plan, node.work_names, node.file_names)
        if each is not None:
            view = view.with_each(each)
        try:
            values = templating.render_value(dict(node.step.input), view.values)
        except TemplateError as error:
            what = "input for approval step" if node.action.type == "approval" else "input of step"
            raise TemplateError(f"Failed to render {what} '{step_name}': {error}") from error
        self._start_job()
        masks = contexts.masks_of(job, view.hidden)
        dispatch = ports.Dispatch(
            job, self.plan, node, step_id, step_name, view.values, values, masks, hidden=view.hidden
        )
        handler(
            abroad.of_owner(dispatch, node, with_secrets=with_secrets) if node.abroad else dispatch
        )
        if self.state.has_actions and each is None:
            self.moves.append((node.name, StepEventKind.UNBLOCKED))


def _width(node: Node, total: int) -> int:
    """How many instances of a loop may be out at once."""
    return 1 if node.step.sequential else node.step.max_parallel or total


def advancing(job_id: UUID, load_plan: Any) -> Advance | None:
    """An advance of this job, its row locked until the transaction ends; None if there is no such
    job."""
    state = pen.lock(job_id)
    return Advance(state, load_plan(state.blueprint_id)) if state else None


# The end of a job


def conclude_job(state: JobState, plan: Plan, bad_steps: int, *, actor: str = "") -> None:
    """End a job that has no open step. Called with the job locked.

    Its output is {step: output} of the steps without dependents.
    """
    reason, is_timed_out = stops.stop_of(state.id) if state.is_cancelling or bad_steps else NO_STOP
    event = planner.conclude(
        bad_steps=bad_steps, is_cancelling=state.is_cancelling, is_timed_out=is_timed_out
    )
    is_success = event is JobEventKind.SUCCEEDED
    found = fetch(LEAF_OUTPUTS, (state.id, plan.leaves)) if is_success else []
    output = {name: json.loads(text) for name, text, _ in found if text} or None
    sealed = contexts.sealed_job_output(found)
    error = "" if is_success else reason or _errors(state.id)
    ended = pen.move_job(
        state.id, event, output=output, output_sealed=sealed, error=error, actor=actor
    )
    if ended is None or (
        is_success
        and not (
            ended.has_parent
            or ended.is_told
            or state.has_actions
            or plan.hooks.on_success
            or plan.is_watched
            or plan.is_serial
        )
    ):
        return  # it has already ended, or nothing waits for its success
    job = Job.objects.select_related("revision", "workspace").defer(*pen.HEAVY).get(id=state.id)
    ports.ended(job, plan)


def _errors(job_id: UUID) -> str:
    """The errors of the steps that the job may not tolerate."""
    return "; ".join(
        _in_words(name, error or WITHOUT_WORDS[status])
        for name, status, error in fetch(ERRORS, (job_id,))
    )


def _in_words(name: str, error: str) -> str:
    """The error with the step's name before it, which many an error begins with already."""
    prefix = f"Step '{name}': "
    return error if error.startswith(prefix) else prefix + error
