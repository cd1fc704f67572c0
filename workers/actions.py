"""What a workflow action does: commands one after the other, nodes asked of Slurm."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, assert_never

from apps.jobs.ledger import ActionMaterial, Report
from apps.workflow_actions.ledger import Submission
from engine.errors import AuthorError, StroemError
from engine.orders import CommandsWork, Limits, NodesWork, StepOutcome, Verdict
from engine.slurm_script import Launch
from engine.workflow_actions import NO_NODES, only_asks
from runners.guard.guard import Guard
from runners.guard.strays import mark
from runners.host.environment import User, build_base, clean_path
from runners.host.process import Command, ProcessEnd, supervise
from runners.lines import LineFeed
from workers import slurm
from workers.attempts import Attempt, fields
from workers.door import OUTAGES, Ledger, NodeLedger
from workers.execution import CANCELLED, Judge, Performed, admitted, believe
from workers.outputs import Outputs
from workers.reporting import Ended, LogPump, Reporter
from workers.slurm import SlurmError

log = logging.getLogger("stroem.worker")
SHELL = "bash"
AWAY_WAITS_S = (5.0, 10.0, 20.0, 30.0)  # before Slurm is asked again while it is away
AWAY_S = 900.0  # then the action fails, and its `retry` counts
SUCCEEDED = StepOutcome(Verdict.SUCCEEDED, exit_code=0)


@dataclass(frozen=True, slots=True)
class _Doing:
    """One run under way."""

    attempt: Attempt
    material: ActionMaterial
    reporter: Reporter
    directory: Path
    environment: Mapping[str, str] = field(repr=False)
    deadline: float | None = None


class Actions:
    """Performs runs of workflow actions. Any number of threads at a time."""

    def __init__(
        self,
        ledger: Ledger,
        nodes: NodeLedger,
        outputs: Outputs,
        guard: Guard,
        launch: Launch,
        pump: LogPump,
        *,
        stop_grace_s: float,
        user: User | None = None,
        given: Mapping[str, str] = MappingProxyType({}),
        judge: Judge = believe,
        umask: int | None = None,
    ) -> None:
        """`given`: what commands find in their environment besides what every step does."""
        self._ledger = ledger
        self._nodes = nodes
        self._outputs = outputs
        self._guard = guard
        self._launch = launch
        self._pump = pump
        self._stop_grace_s = stop_grace_s
        self._user = user
        self._umask = -1 if umask is None else umask
        self._given = given
        self._judge = judge

    def perform(self, attempt: Attempt) -> Performed:
        """Do all that the action does, in order; the first failure ends it. Raises one of OUTAGES
        when the database went away before its first process could exist."""
        claim = attempt.claim
        try:
            material = self._ledger.material(claim)
        except OUTAGES:
            raise
        except StroemError as error:
            return Performed(Ended(Report(claim, StepOutcome(Verdict.FAILED, error=str(error)))))
        assert isinstance(material, ActionMaterial), "an action's claim has an action's material"
        if not admitted(self._ledger, attempt, None, material.masks):
            cancelled = Ended(Report(claim, CANCELLED, masks=material.masks))
            return Performed(cancelled if attempt.stop.reason == "cancel" else None)
        reporter = Reporter(claim, material.masks, self._pump)
        outcome = self._run_all(attempt, material, reporter)
        report = Report(claim, outcome, masks=material.masks, progress=attempt.progress)
        return Performed(Ended(report, reporter.close()))

    def tidy(self, attempt: Attempt, performed: Performed) -> None:
        """Nothing of an action's is given back: its output directory is the job's."""

    def _run_all(
        self, attempt: Attempt, material: ActionMaterial, reporter: Reporter
    ) -> StepOutcome:
        try:
            doing = self._begin(attempt, material, reporter)
            for work in works_of(material.do):
                if material.only_nodes and isinstance(work, CommandsWork):
                    continue
                outcome = self._do(doing, work)
                if outcome.verdict is not Verdict.SUCCEEDED:
                    return outcome
        except StroemError as error:
            reporter.say(str(error))
            return StepOutcome(Verdict.FAILED, error=str(error))
        except Exception as error:
            log.exception("broke this worker's code for actions", extra=fields(attempt.claim))
            name = type(error).__name__
            text = f"The worker failed while doing this action ({name}); its log says more"
            return StepOutcome(Verdict.FAILED, error=text)
        return SUCCEEDED

    def _begin(self, attempt: Attempt, material: ActionMaterial, reporter: Reporter) -> _Doing:
        directory = self._outputs.open(material.output_dir, attempt.claim.job_id)
        self._outputs.warn(attempt.claim.job_id, reporter.say)
        environment = {
            **build_base(clean_path(), (), self._user, self._given),
            **material.environment,
            "STROEM_OUTPUT_DIR": str(directory),
            "TORC_OUTPUT_DIR": str(directory),
            **mark(attempt.name, self._guard.keeper),
        }
        timeout_s = material.timeout_s
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        return _Doing(attempt, material, reporter, directory, environment, deadline)

    def _do(self, doing: _Doing, work: CommandsWork | NodesWork) -> StepOutcome:
        match work:
            case CommandsWork(commands):
                return self._run_commands(doing, commands)
            case NodesWork(part):
                return self._ask_for_nodes(doing, part)
            case _:
                assert_never(work)

    def _run_commands(self, doing: _Doing, commands: tuple[str, ...]) -> StepOutcome:
        for command in commands:
            doing.attempt.progress += 1
            doing.reporter.say(f"$ {command}")
            outcome = self._run(doing, command)
            if outcome.verdict is not Verdict.SUCCEEDED:
                return outcome
        return SUCCEEDED

    def _run(self, doing: _Doing, command: str) -> StepOutcome:
        feed = LineFeed(doing.reporter, Limits(), doing.material.masks)
        began_at = time.monotonic()
        end = supervise(
            Command((SHELL, "-c", command), doing.directory, doing.environment, self._umask, True),
            doing.attempt.name,
            feed.feed,
            doing.attempt.stop,
            doing.deadline,
            self._stop_grace_s,
            self._guard,
            self._user,
        )
        feed.close()
        outcome = _judge(doing, end, feed.stderr_tail)
        return self._judge(outcome, began_at, end.ended_at)

    def _ask_for_nodes(self, doing: _Doing, part: int) -> StepOutcome:
        """Ask Slurm for what is still missing. While Slurm is away, wait for it."""
        began = time.monotonic()
        self._outputs.offer(doing.attempt.claim.job_id, doing.directory)
        for wait_s in itertools.chain(AWAY_WAITS_S, itertools.repeat(AWAY_WAITS_S[-1])):
            missing = self._nodes.submissions(
                doing.attempt.claim, part, str(doing.directory), self._launch
            )
            if missing is None:
                return _no_nodes(doing)
            asked = self._submit_all(doing, missing)
            if isinstance(asked, StepOutcome):
                return asked
            wrong, is_away = asked
            if not is_away or time.monotonic() + wait_s > began + AWAY_S:
                return _judge_refusals(wrong, len(missing))
            doing.reporter.say(f"Slurm is away; it is asked again in {wait_s:g} s")
            self._nodes.released()
            ended = _ended_while_waiting(doing, wait_s)
            if ended is not None:
                return ended
        raise AssertionError("unreachable")

    def _submit_all(
        self, doing: _Doing, missing: Sequence[Submission]
    ) -> StepOutcome | tuple[list[SlurmError | AuthorError], bool]:
        """The errors of those that could not be submitted, and whether Slurm is away."""
        wrong: list[SlurmError | AuthorError] = []
        for submission in missing:
            ended = _stopped(doing)
            if ended is not None:
                return ended
            error = self._submit(doing, submission)
            if error is not None:
                wrong.append(error)
            if sum(_is_away(one) for one in wrong) > 1:  # each call takes its time to fail
                break
        return wrong, any(map(_is_away, wrong))

    def _submit(self, doing: _Doing, submission: Submission) -> SlurmError | AuthorError | None:
        """Submit one allocation; the reason when it could not be."""
        try:
            slurm.check_worker_config(submission.worker_config)
            # A worker that died between sbatch and its note left an allocation that is known by its
            # name; so did an sbatch whose answer was lost.
            found = (
                slurm.find(submission.name, submission.clusters) if submission.tries else None
            ) or slurm.submit_job(submission.script)
        except (SlurmError, AuthorError) as error:
            doing.reporter.say(str(error))
            self._nodes.refused(submission.allocation_id, str(error))
            return error
        place = f" on cluster {found.cluster}" if found.cluster else ""
        doing.reporter.say(f"Slurm job {found.number}{place} was submitted ({submission.name})")
        if not self._nodes.submitted(submission.allocation_id, found.number, found.cluster):
            doing.reporter.say(f"The job does not need Slurm job {found.number} any more")
            slurm.cancel([found.number], found.cluster)
        return None


def _no_nodes(doing: _Doing) -> StepOutcome:
    doing.reporter.say(NO_NODES)
    # else the commands around it count
    if only_asks(doing.material.do):
        return StepOutcome(Verdict.CANCELLED, error=NO_NODES)
    return SUCCEEDED


def _is_away(error: SlurmError | AuthorError) -> bool:
    return isinstance(error, SlurmError) and error.is_away


def _judge_refusals(wrong: Sequence[SlurmError | AuthorError], count: int) -> StepOutcome:
    """What Slurm refuses now may be granted at another try, unless the request itself is wrong."""
    if not wrong:
        return SUCCEEDED
    is_final = all(isinstance(error, AuthorError) or error.is_final for error in wrong)
    text = f"{len(wrong)} of {count} allocations were not submitted: {wrong[0]}"
    return StepOutcome(Verdict.FAILED, error=text, may_retry=not is_final)


def _stopped(doing: _Doing) -> StepOutcome | None:
    reason = doing.attempt.stop.reason
    if reason is None:
        return None
    return StepOutcome(Verdict.CANCELLED if reason == "cancel" else Verdict.LOST)


def _ended_while_waiting(doing: _Doing, wait_s: float) -> StepOutcome | None:
    """Wait; the outcome if the action was stopped meanwhile, or its time is over."""
    left_s = float("inf") if doing.deadline is None else doing.deadline - time.monotonic()
    doing.attempt.stop.wait(max(0.0, min(wait_s, left_s)))
    if _stopped(doing) is None and left_s <= wait_s:
        return StepOutcome(Verdict.TIMED_OUT, error=_timed_out(doing))
    return _stopped(doing)


def _timed_out(doing: _Doing) -> str:
    return f"Action timed out after {doing.material.timeout_s:g}s"


def works_of(do: Collection[Mapping[str, Any]]) -> Iterator[CommandsWork | NodesWork]:
    """What the items of an action's `do` are as work."""
    for part, item in enumerate(do):
        if item["action_type"] == "schedule_nodes":
            yield NodesWork(part)
        else:
            yield CommandsWork(tuple(item["commands"]))


def _judge(doing: _Doing, end: ProcessEnd, stderr_tail: str) -> StepOutcome:
    if end.cause == "timeout":
        return StepOutcome(Verdict.TIMED_OUT, end.exit_code, _timed_out(doing))
    if end.cause == "stop":
        reason = doing.attempt.stop.reason
        if reason == "cancel":
            return StepOutcome(Verdict.CANCELLED, end.exit_code, "Job cancelled")
        text = f"The worker ended the action before its end ({reason})"
        return StepOutcome(Verdict.LOST, end.exit_code, text)
    if end.exit_code != 0:
        message = f"Command failed with exit code: {end.exit_code}"
        tail = f"\nStderr: {stderr_tail}" if stderr_tail else ""
        return StepOutcome(Verdict.FAILED, end.exit_code, message + tail)
    return SUCCEEDED
