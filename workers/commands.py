"""What a workflow action does: commands one after the other, nodes asked of Slurm."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apps.jobs.ledger import ActionMaterial, Claim
from apps.workflow_actions.ledger import Submission
from engine.errors import AuthorError, StroemError
from engine.orders import Limits, StepOutcome, Verdict
from engine.slurm_script import Launch
from engine.workflow_actions import NO_NODES, only_asks
from runners.guard import Guard
from runners.lines import LineFeed
from runners.process import Command, Ending, User, supervise
from runners.strays import ATTEMPT_MARK, KEEPER_MARK
from workers import slurm
from workers.attempts import Stop
from workers.door import ActionLedger
from workers.host_environment import inherit
from workers.outputs import Outputs
from workers.reporting import Reporter
from workers.slurm import SlurmError

log = logging.getLogger("stroem.worker")
SHELL = "bash"


@dataclass(frozen=True, slots=True)
class _Doing:
    """One run under way."""

    claim: Claim
    material: ActionMaterial
    stop: Stop
    reporter: Reporter
    count: Callable[[], None]
    directory: Path
    environment: Mapping[str, str] = field(repr=False)
    deadline: float | None = None


class Commands:
    """Does runs of workflow actions. Any number of threads at a time."""

    def __init__(
        self,
        ledger: ActionLedger,
        outputs: Outputs,
        guard: Guard,
        launch: Launch,
        *,
        stop_grace_s: float,
        user: User | None = None,
        withheld: Collection[str] = (),
    ) -> None:
        """`withheld`: credentials of the worker that no command may find in its environment."""
        self._ledger = ledger
        self._outputs = outputs
        self._guard = guard
        self._launch = launch
        self._stop_grace_s = stop_grace_s
        self._user = user
        self._withheld = tuple(withheld)

    def perform(
        self,
        claim: Claim,
        material: ActionMaterial,
        stop: Stop,
        reporter: Reporter,
        count: Callable[[], None],
    ) -> StepOutcome:
        """Do all that the action does, in order; the first failure ends it. `count` is called
        before each command."""
        try:
            doing = self._begin(claim, material, stop, reporter, count)
            for part, what in enumerate(material.do):
                outcome = self._do(doing, part, what)
                if outcome.verdict is not Verdict.SUCCEEDED:
                    return outcome
        except StroemError as error:
            reporter.say(str(error))
            return StepOutcome(Verdict.FAILED, error=str(error))
        return StepOutcome(Verdict.SUCCEEDED, exit_code=0)

    def _begin(
        self,
        claim: Claim,
        material: ActionMaterial,
        stop: Stop,
        reporter: Reporter,
        count: Callable[[], None],
    ) -> _Doing:
        directory = self._outputs.open(material.output_dir, claim.job_id)
        environment = {
            **inherit(self._withheld, self._user),
            **material.environment,
            "STROEM_OUTPUT_DIR": str(directory),
            "TORC_OUTPUT_DIR": str(directory),
            ATTEMPT_MARK: claim.name,
            KEEPER_MARK: self._guard.keeper,
        }
        deadline = None if material.timeout_s is None else time.monotonic() + material.timeout_s
        return _Doing(claim, material, stop, reporter, count, directory, environment, deadline)

    def _do(self, doing: _Doing, part: int, what: Mapping[str, Any]) -> StepOutcome:
        if what["action_type"] == "schedule_nodes":
            return self._schedule(doing, part)
        for command in what["commands"]:
            doing.count()
            doing.reporter.say(f"$ {command}")
            outcome = self._run(doing, command)
            if outcome.verdict is not Verdict.SUCCEEDED:
                return outcome
        return StepOutcome(Verdict.SUCCEEDED, exit_code=0)

    def _run(self, doing: _Doing, command: str) -> StepOutcome:
        feed = LineFeed(doing.reporter, Limits(), doing.material.masks)
        ending = supervise(
            Command((SHELL, "-c", command), doing.directory, doing.environment),
            doing.claim.name,
            feed.feed,
            doing.stop,
            doing.deadline,
            self._stop_grace_s,
            self._guard,
            self._user,
        )
        feed.close()
        return _judge(doing, ending, feed.stderr_tail)

    def _schedule(self, doing: _Doing, part: int) -> StepOutcome:
        """Ask Slurm for what is still missing; what it refuses now may be granted at another
        try."""
        missing = self._ledger.submissions(doing.claim, part, str(doing.directory), self._launch)
        if missing is None:
            doing.reporter.say(NO_NODES)
            is_all = only_asks(doing.material.do)  # else the commands around it count
            return StepOutcome(
                Verdict.CANCELLED if is_all else Verdict.SUCCEEDED, error=NO_NODES if is_all else ""
            )
        wrong: list[str] = []
        for submission in missing:
            if doing.stop.reason is not None:
                return StepOutcome(
                    Verdict.CANCELLED if doing.stop.reason == "cancel" else Verdict.LOST
                )
            error = self._submit(doing, submission)
            if error is not None:
                wrong.append(error)
        if not wrong:
            return StepOutcome(Verdict.SUCCEEDED, exit_code=0)
        text = f"{len(wrong)} of {len(missing)} allocations were not submitted: {wrong[0]}"
        return StepOutcome(Verdict.FAILED, error=text)

    def _submit(self, doing: _Doing, submission: Submission) -> str | None:
        """Submit one allocation; the reason when it could not be."""
        try:
            slurm.check_worker_config(submission.worker_config)
            # A worker that died between sbatch and its note left an allocation that is known by its
            # name.
            number = slurm.find(submission.name) if submission.tries else None
            number = number or slurm.submit(submission.script)
        except (SlurmError, AuthorError) as error:
            doing.reporter.say(str(error))
            self._ledger.refused(submission.allocation_id, str(error))
            return str(error)
        doing.reporter.say(f"Slurm job {number} was submitted ({submission.name})")
        if not self._ledger.submitted(submission.allocation_id, number):
            doing.reporter.say(f"The job does not need Slurm job {number} any more")
            slurm.cancel([number])
        return None


def _judge(doing: _Doing, ending: Ending, stderr_tail: str) -> StepOutcome:
    if ending.cause == "timeout":
        return StepOutcome(
            Verdict.TIMED_OUT,
            ending.exit_code,
            f"Action timed out after {doing.material.timeout_s:g}s",
        )
    if ending.cause == "stop":
        if doing.stop.reason == "cancel":
            return StepOutcome(Verdict.CANCELLED, ending.exit_code, "Job cancelled")
        reason = f"The worker ended the action before its end ({doing.stop.reason})"
        return StepOutcome(Verdict.LOST, ending.exit_code, reason)
    if ending.exit_code != 0:
        message = f"Command failed with exit code: {ending.exit_code}"
        tail = f"\nStderr: {stderr_tail}" if stderr_tail else ""
        return StepOutcome(Verdict.FAILED, ending.exit_code, message + tail)
    return StepOutcome(Verdict.SUCCEEDED, exit_code=0)
