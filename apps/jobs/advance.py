"""Advance a job: from what has just become final to what may run now, until nothing changes.

Runs inside the transaction that holds the job's lock. The planner decides, the pen writes; the cost depends on the
neighbourhood of what moved, never on the size of the job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from apps.jobs import contexts, ports
from apps.jobs.blueprints import Node, Plan
from apps.jobs.conclusion import conclude_job
from apps.jobs.masks import masked_result
from apps.jobs.models import Job
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions import rows
from apps.jobs.transitions.moves import Candidate, JobState, LoopState, Result, Settled
from engine import planner, templating
from engine.errors import AuthorError, TemplateError
from engine.lifecycle import JobEventKind, JobStatus, StepEventKind
from engine.planner import Promotion

SUCCEEDED, FAILED = StepEventKind.SUCCEEDED, StepEventKind.FAILED
SKIPPED, CANCELLED = StepEventKind.SKIPPED, StepEventKind.CANCELLED


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
        """The row with everything in it; loaded only when a decision needs it."""
        if self._job is None:
            self._job = Job.objects.select_related("revision", "workspace").get(id=self.state.id)
        return self._job

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
        """Make steps final and remember what that sets free. Returns how many moved."""
        settled = pen.settle(self.state.id, step_ids, event, result, fence=fence, actor=actor, input=input)
        self.absorb(settled)
        if settled.moved and base:
            self.moves.append((base, event))
        return settled.moved

    def note(self, base: str, step_name: str, event: StepEventKind) -> None:
        """Remember a move of a step of the flow for the workflow actions; instances of loops count as their loop."""
        if step_name == base:
            self.moves.append((base, event))

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
        """Go on until nothing changes, then end the job if it is over."""
        while self._candidates or self._loops:
            loops, self._loops = self._loops, []
            for loop in loops:
                self._turn_loop(loop)
            candidates, self._candidates = self._candidates, []
            if self.state.is_cancelling:
                self._drop([candidate.id for candidate in candidates])
            else:
                self._promote(candidates)
        if self.moves and self.state.has_actions:
            ports.moved(self.job, self.plan, self.moves)
        if self.open_steps == 0 and not JobStatus(self.state.status).is_final:
            conclude_job(self.job, self.plan, self.state, self.bad_steps, actor=actor)

    def _drop(self, step_ids: list[int]) -> None:
        if step_ids:
            self.settle(step_ids, CANCELLED, Result(error="Job cancelled"))

    def _promote(self, candidates: list[Candidate]) -> None:
        ready: list[int] = []
        skipped: list[int] = []
        for candidate in candidates:
            node = self.plan.nodes[candidate.base]
            if planner.promote(candidate.tally, tolerates=candidate.tolerates) is Promotion.SKIP:
                skipped.append(candidate.id)
            elif node.step.when is None and node.step.for_each is None and not node.runs_on_server:
                ready.append(candidate.id)
            else:
                self._enter(candidate, node, ready, skipped)
        self._unblock(ready)
        if skipped:
            self.settle(skipped, SKIPPED)
        if self.state.has_actions:
            self._note(candidates, ready, skipped)

    def _note(self, candidates: list[Candidate], ready: list[int], skipped: list[int]) -> None:
        """Workflow actions count what became ready or was skipped, by name."""
        names = {candidate.id: candidate.base for candidate in candidates}
        self.moves += [(names[step_id], StepEventKind.UNBLOCKED) for step_id in ready if step_id in names]
        self.moves += [(names[step_id], SKIPPED) for step_id in skipped if step_id in names]

    def _unblock(self, step_ids: list[int]) -> None:
        if step_ids:
            self._start_job()
            self.bells.update(pen.unblock(step_ids))

    def _start_job(self) -> None:
        if self.state.status == JobStatus.PENDING:
            pen.move_job(self.state.id, JobEventKind.STARTED)
            self.state = self.state.started()

    def _enter(self, candidate: Candidate, node: Node, ready: list[int], skipped: list[int]) -> None:
        """A step with a condition, a loop, or one that the server carries out."""
        try:
            if not self._wants_to_run(node):
                skipped.append(candidate.id)
            elif node.step.for_each is not None:
                self._open_loop(candidate, node, skipped)
            elif node.runs_on_server:
                self.dispatch(candidate.id, node.name, node, None)
            else:
                ready.append(candidate.id)
        except AuthorError as error:
            self._fail(candidate.id, node.name, str(error))

    def _fail(self, step_id: int, base: str, message: str) -> None:
        job = self.job
        result = masked_result(Result(error=message), contexts.masks_of(job, self.plan))
        self.settle([step_id], FAILED, result, base=base)

    def _wants_to_run(self, node: Node) -> bool:
        if node.step.when is None:
            return True
        try:
            return templating.is_true(node.step.when, contexts.control_context(self.job, self.plan, node))
        except TemplateError as error:
            raise TemplateError(f"when condition error: {error}") from error

    # Loops

    def _open_loop(self, candidate: Candidate, node: Node, skipped: list[int]) -> None:
        source = node.step.for_each
        assert source is not None
        try:
            items = templating.items(source, contexts.control_context(self.job, self.plan, node))
        except TemplateError as error:
            raise TemplateError(f"for_each expression error: {error}") from error
        if not items:
            skipped.append(candidate.id)
            return
        width = 1 if node.step.sequential else node.step.max_parallel or len(items)
        self._start_job()
        pen.move(candidate.id, StepEventKind.DISPATCHED)
        ids = rows.open_loop(candidate.id, items, released=min(width, len(items)))
        self._release(ids, node)

    def resume_loop(self, loop_id: int, base: str) -> None:
        """Go on with a loop whose open instances are pending again."""
        pen.move(loop_id, StepEventKind.DISPATCHED)
        node = self.plan.nodes[base]
        width = 1 if node.step.sequential else node.step.max_parallel or rows.MAX_ITEMS
        self._release(rows.release(loop_id, width), node)

    def _release(self, step_ids: list[int], node: Node) -> None:
        if not node.runs_on_server:
            self._unblock(step_ids)
            return
        for step_id, name, item, index, total in rows.instances(step_ids):
            try:
                self.dispatch(step_id, name, node, contexts.each_of(item, index, total))
            except AuthorError as error:
                self._fail(step_id, node.name, str(error))

    def _turn_loop(self, loop: LoopState) -> None:
        """After instances of a loop became final: close it, stop it or let the next ones go."""
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
        width = 1 if node.step.sequential else node.step.max_parallel or loop.total
        if in_flight < width:
            self._release(rows.release(loop.id, width - in_flight), node)

    def _close_loop(self, loop: LoopState, node: Node) -> None:
        failed, has_sealed = rows.loop_results(loop.id) if loop.failed else ((), rows.has_sealed(loop.id))
        settlement = planner.close_loop(
            tuple(failed), tolerates=node.step.continue_on_failure, is_cancelling=self.state.is_cancelling
        )
        result = Result(error=settlement.error)
        if settlement.event is SUCCEEDED:
            rows.aggregate_loop(loop.id)
            if has_sealed:
                result = Result(output_sealed=contexts.sealed_loop_output(loop.id))
        self.settle([loop.id], settlement.event, result, base=loop.base)

    # Steps that the server carries out

    def dispatch(self, step_id: int, step_name: str, node: Node, each: dict[str, Any] | None) -> None:
        """Hand a step to the room that carries it out (a child job, an approval)."""
        handler = ports.step_handler(node.kind)
        if handler is None:
            raise AuthorError(f"step '{step_name}' is of type {node.kind}, which this installation cannot run yet")
        job = self.job
        context = contexts.base_context(job, self.plan, node.work_names)
        if each is not None:
            context["each"] = each
        try:
            values = templating.render_value(dict(node.step.input), context)
        except TemplateError as error:
            raise TemplateError(f"Failed to render input of step '{step_name}': {error}") from error
        self._start_job()
        masks = contexts.masks_of(job, self.plan)
        handler(ports.Dispatch(job, self.plan, node, step_id, step_name, context, values, masks))
        if self.state.has_actions:
            self.moves.append((node.name, StepEventKind.UNBLOCKED))


def advancing(job_id: UUID, load_plan: Any) -> Advance | None:
    """An advance of this job, its row locked until the transaction ends; None when there is no such job."""
    state = pen.lock(job_id)
    return Advance(state, load_plan(state.blueprint_id)) if state else None
