"""One attempt from its claim to its report: order, workspace, runner, outcome."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apps.jobs.ledger import Claim, Material, Report
from engine.errors import AuthorError, StroemError
from engine.masking import masker
from engine.orders import (
    ARTIFACTS_DIR,
    ImageWork,
    Limits,
    Pinned,
    ScriptWork,
    Shelves,
    StateFolders,
    StepOrder,
    StepOutcome,
    Verdict,
)
from engine.scripts import language_of_file
from engine.spec.model import Action
from runners import anchored
from runners.base import Runner
from runners.host.environment import User
from workers import pods
from workers.artifacts import Leaving, Shelf
from workers.attempts import Attempt, fields
from workers.door import OUTAGES, EventLedger, Ledger
from workers.events import Emitter
from workers.outputs import Outputs
from workers.packing import gpu_env
from workers.pipes import Helper, Helpers, PodHelper
from workers.pods import Pins
from workers.rendering import Rendered, render, wishes_of
from workers.reporting import Ended, LogPump, Reporter
from workers.states import States
from workers.trees import Scratch, Scratches, Tree, Workspaces
from workers.users import Users
from workers.visits import Visits

log = logging.getLogger("stroem.worker")


@dataclass(slots=True)
class Performed:
    """The end of an attempt (None when it is not ours to report), and what it occupied here."""

    ended: Ended | None = None
    tree: Tree | None = None
    digest: str = ""  # of the revision that the tree has
    scratch: Scratch | None = None
    user: User | None = None
    helper: Helper | PodHelper | None = None
    is_clean: bool = False

    def is_untouched(self) -> bool:
        """Whether a short look shows that the attempt left its directories as they were, and
        nothing else to tidy. Nobody looks again then."""
        self.is_clean = (
            self.helper is None
            and self.user is None
            and (self.scratch is None or self.scratch.is_untouched())
            and (self.tree is None or self.tree.is_untouched())
        )
        return self.is_clean


CANCELLED = StepOutcome(Verdict.CANCELLED, error="Job cancelled")
# (outcome of a process, when it began, when it ended) -> the outcome that counts
Judge = Callable[[StepOutcome, float, float | None], StepOutcome]


def believe(outcome: StepOutcome, began_at: float, ended_at: float | None) -> StepOutcome:
    """Judge by what the process says itself."""
    return outcome


def admitted(ledger: Ledger, attempt: Attempt, seen: Any, masks: tuple[str, ...]) -> bool:
    """Whether the attempt's process may start: it was not stopped, and the platform has recorded
    the start. A draining worker gives it back."""
    if attempt.stop.reason == "drain":
        ledger.give_back(attempt.claim)
    if attempt.stop.reason is not None or not ledger.started(
        attempt.claim, input=seen, masks=masks
    ):
        return False
    ledger.released()
    return True


class Execution:
    """Performs attempts of steps; any number of threads at a time."""

    def __init__(
        self,
        ledger: Ledger,
        workspaces: Workspaces,
        scratches: Scratches,
        pump: LogPump,
        pick: Callable[[str, str], Runner],
        pins: Pins,
        events: EventLedger,
        *,
        stop_grace_s: float,
        runner_image: str | None = None,
        users: Users | None = None,
        umask: int | None = None,
        outputs: Outputs | None = None,
        visits: Visits | None = None,
        judge: Judge = believe,
        walltime_grace_s: float | None = None,
        states: States | None = None,
        shelf: Shelf | None = None,
        helpers: Helpers | None = None,
    ) -> None:
        """`pick` returns the runner for an action's `type` and `runner`; it raises PlatformError if
        there is none here. `judge` tells whether a process of this host has ended by itself."""
        self._ledger = ledger
        self._workspaces = workspaces
        self._scratches = scratches
        self._pump = pump
        self._pick = pick
        self._pins = pins
        self._events = events
        self._stop_grace_s = stop_grace_s
        self._runner_image = runner_image
        self._users = users or Users(())
        self._umask = umask
        self._outputs = outputs
        self._visits = visits
        self._judge = judge
        self._walltime_grace_s = walltime_grace_s
        self._states = states
        self._shelf = shelf
        self._helpers = helpers

    def perform(self, attempt: Attempt) -> Performed:
        """Do the attempt to its end. The caller then calls `tidy`, when no report waits for it.

        Raises one of OUTAGES if the database goes away before the step's process can exist.
        """
        performed = Performed()
        try:
            performed.ended = self._perform(attempt, performed)
        except BaseException:
            self.tidy(attempt, performed)
            raise
        return performed

    def tidy(self, attempt: Attempt, performed: Performed) -> None:
        """Give back the attempt's directories."""
        try:
            if performed.helper is not None:
                performed.helper.close()
            if performed.user is not None:
                self._users.end_all(performed.user)
            if performed.scratch is not None:
                self._scratches.close(performed.scratch, is_clean=performed.is_clean)
            if performed.tree is not None:
                self._workspaces.give_back(
                    performed.digest, performed.tree, is_clean=performed.is_clean
                )
        finally:
            if performed.user is not None:
                self._users.give_back(performed.user)

    def _perform(self, attempt: Attempt, place: Performed) -> Ended | None:
        masks: tuple[str, ...] = ()
        try:
            material = self._ledger.material(attempt.claim)
            assert isinstance(material, Material), "a step's claim has a step's material"
            masks, attempt.is_endless = material.masks, material.emits
            rendered = render(attempt.claim, material)
            masks = rendered.masks
            runner = self._pick(rendered.action.type, rendered.action.runner)
            order = self._order(attempt, material, rendered, place)
            if material.has_sessions and self._visits is not None:
                claim = attempt.claim
                self._visits.enter(claim.job_id, attempt.stop, claim.generation)
        except OUTAGES:
            raise
        except StroemError as error:
            return Ended(Report(attempt.claim, _failed(str(error)), masks=masks))
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            text = (
                "The worker could not prepare the step:"
                f" {error.strerror or type(error).__name__}{where}"
            )
            return Ended(Report(attempt.claim, _failed(text), masks=masks))
        except Exception as error:
            log.exception("preparation failed", extra=fields(attempt.claim))
            return Ended(Report(attempt.claim, _failed(_ours(error)), masks=masks))
        return self._begin(attempt, material, rendered, order, runner, place)

    def _begin(
        self,
        attempt: Attempt,
        material: Material,
        rendered: Rendered,
        order: StepOrder,
        runner: Runner,
        place: Performed,
    ) -> Ended | None:
        seen, masks = rendered.seen, rendered.masks
        if not admitted(self._ledger, attempt, seen, masks):
            if attempt.stop.reason != "cancel":
                return None
            return Ended(Report(attempt.claim, CANCELLED, seen, masks))
        reporter = Reporter(attempt.claim, masks, self._pump)
        if attempt.claim.fence > 1:  # the log of an earlier attempt may stand above
            reporter.say(f"---- Attempt {attempt.claim.number} ----")
        for note in rendered.notes:
            reporter.say(note)
        began_at = time.monotonic()
        if self._outputs is not None and "STROEM_OUTPUT_DIR" in order.env:
            self._outputs.warn(attempt.claim.job_id, reporter.say)
        outcome = (self._consume if attempt.is_endless else self._run)(
            attempt, order, runner, reporter
        )
        if place.helper is not None:
            outcome = place.helper.settle(outcome)
        if _is_local(rendered.action):
            outcome = self._judge(outcome, began_at, outcome.ended_at)
        outcome = self._keep_files(attempt, rendered, order, outcome, place, reporter.say)
        left = None
        if self._states is not None and (order.state is not None or outcome.states):
            outcome, left = self._states.remember(attempt, material, order, outcome, reporter.say)
            outcome = self._ended_by(attempt, outcome)
        return Ended(Report(attempt.claim, outcome, seen, masks, left=left), reporter.close())

    def _keep_files(
        self,
        attempt: Attempt,
        rendered: Rendered,
        order: StepOrder,
        outcome: StepOutcome,
        place: Performed,
        say: Callable[[str], None],
    ) -> StepOutcome:
        """The outcome once the artifacts that the step left, if any, are stored."""
        assert place.scratch is not None
        wanted = rendered.artifacts
        if self._shelf is None or (wanted is None and not place.scratch.may_hold_artifacts):
            return outcome
        owner = place.user.owner if place.user is not None else None
        is_local = _is_local(rendered.action)
        leaving = Leaving(attempt, order, wanted, owner, say, is_local=is_local)
        return self._shelf.keep(leaving, outcome)

    def _consume(
        self, attempt: Attempt, order: StepOrder, runner: Runner, reporter: Reporter
    ) -> StepOutcome:
        """The same for a consumer, whose output is events."""
        emitter = Emitter(self._events, attempt, reporter.say)
        outcome = self._run(attempt, replace(order, events=emitter), runner, reporter)
        emitter.close()
        return outcome

    def _run(
        self, attempt: Attempt, order: StepOrder, runner: Runner, reporter: Reporter
    ) -> StepOutcome:
        try:
            outcome = runner.run(order, reporter, attempt.stop)
        except AuthorError as error:
            outcome = _failed(str(error))
        except StroemError as error:
            text = masker(order.secrets).text(str(error))
            log.warning("%s", text, extra=fields(attempt.claim))
            outcome = _failed(str(error))
        except Exception as error:
            log.exception("the runner failed", extra=fields(attempt.claim))
            outcome = _failed(_ours(error))
        return self._ended_by(attempt, outcome)

    def _ended_by(self, attempt: Attempt, outcome: StepOutcome) -> StepOutcome:
        """The outcome of an attempt that was perhaps stopped: cancelled, or lost with its
        worker."""
        if outcome.verdict is Verdict.CANCELLED and attempt.stop.reason in (
            "drain",
            "lost",
            "walltime",
        ):
            outcome = StepOutcome(Verdict.LOST, outcome.exit_code, outcome.error)
        if outcome.verdict is Verdict.LOST and attempt.stop.reason == "drain":
            # Slurm's reasons come with a text; without one, an operator has stopped the worker.
            outcome = replace(outcome, is_handed_back=not attempt.stop.text)
        if outcome.verdict is Verdict.LOST and attempt.stop.text:
            return replace(outcome, error=attempt.stop.text)
        return outcome

    def _order(
        self, attempt: Attempt, material: Material, rendered: Rendered, place: Performed
    ) -> StepOrder:
        claim, action = attempt.claim, rendered.action
        if self._users.all:
            place.user = self._users.take(is_local=_is_local(action))
        owner = place.user.owner if place.user is not None else None
        work, pinned = self._work(claim, material, rendered, place, owner)
        folders = self._furnish(attempt, material, rendered, place)
        assert place.scratch is not None
        return StepOrder(
            attempt=attempt.name,
            job_id=str(claim.job_id),
            task_name=claim.task_name,
            step_name=claim.step_name,
            workspace=claim.workspace,
            number=claim.number,
            work=work,
            scratch_dir=place.scratch.path,
            env={
                **(folders.environment if folders is not None else {}),
                **self._output_env(attempt, material),
                **rendered.env,
                **(gpu_env(attempt.gpus, is_local=_is_local(action)) if attempt.gpus else {}),
            },
            input_path=place.scratch.input_path,
            limits=Limits(claim.timeout_s, self._stop_grace_s, self._walltime_grace_s),
            resources=replace(rendered.resources, gpus=attempt.gpus)
            if attempt.gpus
            else rendered.resources,
            container=wishes_of(action),
            workdir=action.workdir,
            chdir=Path(material.chdir) if material.chdir else None,
            manifest=rendered.manifest,
            pinned=pinned,
            secrets=rendered.masks if pinned is None else (*rendered.masks, pinned.token),
            run_as=place.user.name if place.user is not None else None,
            shelves=self._shelves(
                attempt,
                material,
                rendered,
                place.scratch,
                is_wanted=folders is not None or place.helper is not None,
            ),
            state=folders,
            helper=None if place.helper is None else place.helper.folder,
        )

    def _furnish(
        self, attempt: Attempt, material: Material, rendered: Rendered, place: Performed
    ) -> StateFolders | None:
        """Open the step's scratch directory, and in it what it needs for its questions and, as
        returned, for its state."""
        # the newline is for scripts that `cat` the file
        text = json.dumps(rendered.input, ensure_ascii=False) + "\n"
        data, is_secret = text.encode("utf-8", "replace"), bool(rendered.masks)
        owner = place.user.owner if place.user is not None else None
        place.scratch = self._scratches.open(data, owner, is_secret=is_secret)
        may_ask = rendered.calls_helper or material.mentions_helper
        folders = None
        if (
            self._states is not None
            and material.state is not None
            and (rendered.action.type != "pod" or pods.sees_state(material, rendered))
        ):
            folders = self._states.open(place.scratch, material.state)
        if may_ask and self._helpers is not None:
            place.helper = self._helpers.open(attempt, material, rendered, place.scratch)
        return folders

    def _work(
        self,
        claim: Claim,
        material: Material,
        rendered: Rendered,
        place: Performed,
        owner: anchored.Owner | None,
    ) -> tuple[ScriptWork | ImageWork, Pinned | None]:
        action = rendered.action
        if action.type != "script":
            assert rendered.image is not None
            work = ImageWork(rendered.image, rendered.cmd, action.entrypoint, action.command)
            return work, None
        pinned = None
        home = material.home
        if action.runner == "pod":  # it fetches its workspace itself
            pinned = self._pins.pin(claim, home)
        elif home is None:
            place.digest = claim.revision_digest
            place.tree = self._workspaces.take(claim.revision_id, claim.revision_digest, owner)
        else:
            place.digest = home.digest
            place.tree = self._workspaces.take(home.revision_id, home.digest, owner)
        return self._script(rendered, place.tree, material.step.umask), pinned

    def _shelves(
        self,
        attempt: Attempt,
        material: Material,
        rendered: Rendered,
        scratch: Scratch,
        *,
        is_wanted: bool,
    ) -> Shelves | None:
        """Directories for files; a pod sends them itself, if its step may leave some. `is_wanted`:
        it needs the container that does so anyway."""
        action, wanted = rendered.action, rendered.artifacts
        if self._shelf is None:
            return None
        if "pod" not in (action.type, action.runner):
            is_local = _is_local(action)
            if is_local and wanted is None:
                return Shelves(scratch.left)
            return self._shelf.prepare(attempt, wanted, scratch, is_local=is_local)
        may_leave = is_wanted or (material.mentions_artifacts and action.type != "pod")
        if wanted is None and not may_leave and not pods.says(rendered, ARTIFACTS_DIR):
            return None
        return pods.shelves(self._pins, self._shelf, attempt, material, rendered, scratch)

    def _output_env(self, attempt: Attempt, material: Material) -> dict[str, str]:
        """Variables for the job's output directory; containers do not have one."""
        if material.output_dir is None or self._outputs is None or not _is_local(material.action):
            return {}
        path = str(self._outputs.open(material.output_dir, attempt.claim.job_id))
        is_torc = "TORC_JOB_ID" in material.environment
        return {"STROEM_OUTPUT_DIR": path, **({"TORC_OUTPUT_DIR": path} if is_torc else {})}

    def _script(self, rendered: Rendered, tree: Tree | None, umask: int | None) -> ScriptWork:
        action = rendered.action
        for known in (action.umask, self._umask if action.runner == "local" else None):
            umask = known if umask is None else umask
        return ScriptWork(
            language=action.language or language_of_file(rendered.source or "") or "shell",
            code=rendered.script,
            is_open=rendered.is_open,
            source=rendered.source,
            args=rendered.args,
            interpreter=action.interpreter,
            dependencies=action.dependencies,
            workspace_dir=None if tree is None else tree.path,
            workspace_mode=action.workspace,
            runner_image=self._runner_image,
            umask=umask,
        )


def _is_local(action: Action) -> bool:
    return (action.type, action.runner) == ("script", "local")


def _failed(error: str) -> StepOutcome:
    return StepOutcome(Verdict.FAILED, error=error)


def _ours(error: Exception) -> str:
    """For a bug of the worker: the error's text may contain secrets, so only its log has it."""
    return f"The worker failed in this step ({type(error).__name__}); see the worker's log"
