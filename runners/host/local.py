"""Steps as processes of this host."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from engine.errors import AuthorError, PlatformError
from engine.orders import (
    ARTIFACTS_DIR,
    ARTIFACTS_IN,
    INPUT_FILE,
    INPUTS_FILE,
    ScriptWork,
    StepOrder,
    StepOutcome,
    Verdict,
)
from runners import anchored
from runners.base import LineSink, StopSignal
from runners.events import feed_of
from runners.guard import strays
from runners.guard.guard import Guard
from runners.host import environment
from runners.host.dependencies import EnvironmentCache
from runners.host.environment import User, find_user
from runners.host.installing import Installer, Interrupted
from runners.host.languages import Invocation, Toolbox, build_invocation, find_source
from runners.host.memory import OutOfMemory
from runners.host.process import Command, ProcessEnd, adopt_orphans, supervise
from runners.host.recipes import find_recipe
from runners.host.replies import Replies
from runners.lines import LineFeed
from runners.sources import honour_first_line, use_plain_line_ends

_SWEEP_GRACE_S = 2.0
_ENDED_BY_SIGNAL = frozenset({128 + 9, 128 + 15})
_running: set[str] = set()  # attempts that local runners of this process are running


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """`cache_dir` holds environments with dependencies. `pass_env` and `install_env` name variables
    of the worker that steps, or only installers, get too; `env` is for steps as it is. `run_as` is
    the default system user of steps."""

    cache_dir: Path
    run_as: str | None = None
    pass_env: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    install_env: tuple[str, ...] = field(default=())
    keep_days: float = 30.0


class LocalRunner:
    """Runs scripts on this host. Its process becomes the parent of all orphans below it; start the
    guard first."""

    needs: ClassVar[frozenset[str]] = frozenset({"script"})

    def __init__(self, config: LocalConfig, guard: Guard | None = None) -> None:
        self._config = config
        self._guard = guard
        self._keeper = guard.keeper if guard is not None else strays.identify_keeper(os.getpid())
        self.memory = OutOfMemory()
        self._toolbox = Toolbox()
        self._toolboxes: dict[str, Toolbox] = {}
        self._users: dict[str, User] = {}
        self._caches: dict[str | None, EnvironmentCache] = {}
        self._bases: dict[str | None, dict[str, str]] = {}
        adopt_orphans()

    def run(self, order: StepOrder, lines: LineSink, stop: StopSignal) -> StepOutcome:
        replies: Replies | None = None
        if order.events is None:
            feed = LineFeed(lines, order.limits, order.secrets)
        else:
            replies = Replies()
            feed = feed_of(order, lines, replies.send)
        _running.add(order.attempt)
        try:
            return _Attempt(self, order, feed, lines, stop, replies).run()
        except AuthorError as error:
            return feed.outcome(Verdict.FAILED, error=str(error))
        finally:
            _running.discard(order.attempt)
            feed.close()
            if replies is not None:
                replies.close()

    def sweep(self, live: frozenset[str]) -> None:
        """End processes of abandoned attempts: not alive, and their worker is this one or has
        certainly ended."""
        for attempt in {
            attempt
            for attempt, keeper in _list_attempts()
            if self._is_forgotten(attempt, keeper, live)
        }:
            strays.end(strays.Hunt(attempt=attempt), _SWEEP_GRACE_S)
        for cache in self._caches.values():
            cache.prune(self._config.keep_days * 86400)

    def _is_forgotten(self, attempt: str, keeper: str | None, live: frozenset[str]) -> bool:
        if attempt in live or attempt in _running:
            return False
        return keeper is not None and (keeper == self._keeper or strays.has_ended(keeper))

    def find_user(self, order: StepOrder) -> User | None:
        """The user that the order's processes run as; None for the worker's own."""
        name = order.run_as or self._config.run_as
        if name is None:
            return None
        if name not in self._users:
            self._users[name] = find_user(name)
        return self._users[name]

    def find_toolbox(self, user: User | None) -> Toolbox:
        if user is None:
            return self._toolbox
        return self._toolboxes.setdefault(user.name, Toolbox(user=user))

    def find_base(self, user: User | None) -> dict[str, str]:
        """The base environment of every process; built once per user."""
        name = user.name if user else None
        if name not in self._bases:
            self._bases[name] = environment.build_base(
                self._toolbox.path, self._config.pass_env, user, self._config.env
            )
        return self._bases[name]

    def find_cache(self, user: User | None) -> EnvironmentCache:
        name = user.name if user else None
        if name not in self._caches:
            cache = EnvironmentCache(self._config.cache_dir, user)
            try:
                cache.prepare()
            except OSError as error:
                raise PlatformError(
                    f"{self._config.cache_dir} cannot hold dependencies: {error.strerror}"
                ) from error
            self._caches[name] = cache
        return self._caches[name]


class _Attempt:
    """One order under way."""

    def __init__(
        self,
        runner: LocalRunner,
        order: StepOrder,
        feed: LineFeed,
        lines: LineSink,
        stop: StopSignal,
        replies: Replies | None,
    ) -> None:
        if not isinstance(order.work, ScriptWork):
            raise PlatformError("the local runner runs scripts; this order names an image")
        self._runner = runner
        self._order = order
        self._root = order.work.workspace_dir or order.scratch_dir
        self._work: ScriptWork = order.work
        self._feed = feed
        self._lines = lines
        self._stop = stop
        self._replies = replies
        self._user = runner.find_user(order)
        self._toolbox = runner.find_toolbox(self._user)
        self._began = strays.read_clock()
        timeout_s = order.limits.timeout_s
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s

    def _settle(self, work: ScriptWork) -> ScriptWork:
        """The work with the program that its first line names, its source with plain line ends."""
        if work.source is None and not (work.code or "").startswith("#!"):
            return work
        source = None if work.source is None else find_source(self._root, work.source)
        try:
            settled, note = honour_first_line(work, self._root, source)
            notes = [note]
            if source is not None and settled.language == "shell":
                notes.append(use_plain_line_ends(self._root, source, str(work.source)))
        except OSError as error:
            raise PlatformError(
                f"source {work.source!r} could not be read: {error.strerror}"
            ) from error
        if settled.interpreter and not work.interpreter:
            self._toolbox.find_program(settled.interpreter)
        for one in filter(None, notes):
            self._feed.say(one)
        return settled

    def run(self) -> StepOutcome:
        if self._stop.reason is not None:
            return self._outcome_of(ProcessEnd(0, "stop"))
        self._own_scratch()
        self._work = self._settle(self._work)
        try:
            with self._hold_dependencies() as directory:
                invocation = self._invocation(directory)
                try:
                    return self._invoke(invocation)
                finally:
                    for link in invocation.links:
                        with suppress(OSError):
                            link.unlink()
        except Interrupted as early:
            return self._outcome_of(early.end)

    def _hold_dependencies(self) -> AbstractContextManager[Path | None]:
        if not self._work.dependencies and self._work.language != "go":  # Go's code names them too
            return nullcontext()
        recipe = find_recipe(self._work, self._toolbox)
        if recipe is None:
            return nullcontext()
        return self._installer().hold(recipe, self._pause, self._feed.say)

    def _invoke(self, invocation: Invocation) -> StepOutcome:
        if invocation.build is not None:
            env = {**self._installer().env, **invocation.build.env}
            built = self._supervise(
                Command(invocation.build.argv, invocation.build.cwd, env, 0o077, True), self._feed
            )
            if built.cause is not None or built.exit_code != 0:
                return self._outcome_of(built)
        command = Command(
            invocation.argv,
            self._cwd(),
            self._step_env(invocation),
            -1 if self._work.umask is None else self._work.umask,
            self._order.chdir is not None or bool(self._order.workdir),
            self._replies.reading if self._replies is not None else None,
            is_heard_out=self._order.events is not None,
        )
        return self._outcome_of(self._supervise(command, self._feed))

    def _supervise(self, command: Command, feed: LineFeed) -> ProcessEnd:
        end = supervise(
            command,
            self._order.attempt,
            feed.feed,
            self._stop,
            self._deadline,
            self._order.limits.stop_grace_s,
            self._runner._guard,
            self._user,
            self._order.limits.walltime_grace_s,
        )
        if end.would_not_die:
            self._feed.say(
                f"Warning: {end.would_not_die} processes of this step could not be ended"
            )
        elif end.left_running and end.cause is None:
            self._feed.say(f"{end.left_running} processes that the step left running were ended")
        return end

    def _outcome_of(self, end: ProcessEnd) -> StepOutcome:
        guard = self._runner._guard
        if end.cause is not None:
            cause = self._stop.reason if end.cause == "stop" else end.cause
            return self._feed.outcome_of_stop(cause, end.exit_code)
        self._feed.ended_at = end.ended_at
        if end.exit_code in _ENDED_BY_SIGNAL and guard and guard.has_ended_steps_since(self._began):
            return self._feed.outcome_of_stop("lost", end.exit_code)
        outcome = self._feed.outcome_of(end.exit_code)
        if end.exit_code == 0:
            return outcome
        declared = self._order.resources.memory_bytes
        memory = self._runner.memory.explain(end.exit_code, end.peak_bytes, declared)
        return replace(outcome, error=f"{memory}\n{outcome.error}") if memory else outcome

    def _cwd(self) -> Path:
        """`workdir` below the workspace's root, or that root; the order may name a host directory
        instead."""
        if self._order.chdir is not None:
            return self._order.chdir
        if not self._order.workdir:
            return self._root
        try:
            path = (self._root / self._order.workdir).resolve()
        except OSError as error:
            raise AuthorError(
                f"workdir {self._order.workdir!r} cannot be found: {error.strerror}"
            ) from error
        if not path.is_relative_to(self._root.resolve()):
            raise AuthorError(f"workdir {self._order.workdir!r} lies outside the workspace")
        return path

    def _invocation(self, directory: Path | None) -> Invocation:
        scratch = self._order.scratch_dir
        try:
            return build_invocation(
                self._work, self._toolbox, self._root, scratch, directory, self._write
            )
        except OSError as error:
            raise PlatformError(
                f"the step's files could not be prepared: {error.strerror}"
            ) from error

    def _write(self, name: str, text: str) -> Path:
        """Write a file into the attempt's own directory: rendered scripts hold secrets, so no other
        user may read them."""
        scratch, owner = self._order.scratch_dir, self._owner
        inner, _, last = name.rpartition("/")
        try:
            with ExitStack() as opened:
                fd = opened.enter_context(anchored.folder(scratch))
                if inner:
                    with suppress(FileExistsError):
                        anchored.give(anchored.make_folder(inner, fd), owner)
                    fd = opened.enter_context(anchored.folder(inner, fd))
                anchored.write(last, text.encode("utf-8", "replace"), fd, owner)
        except OSError as error:
            raise PlatformError(
                f"the step's files could not be written to {scratch / inner}: {error.strerror}"
            ) from error
        return scratch / name

    @property
    def _owner(self) -> anchored.Owner | None:
        return (self._user.uid, self._user.gid) if self._user is not None else None

    def _own_scratch(self) -> None:
        if self._owner is not None:
            with anchored.folder(self._order.scratch_dir) as fd:
                if os.fstat(fd).st_uid == os.geteuid():
                    os.fchown(fd, *self._owner)

    def _step_env(self, invocation: Invocation) -> Mapping[str, str]:
        # git must not take a repository around the copy (ours, with `up`) for that of the step
        own = {"GIT_CEILING_DIRECTORIES": str(self._root.parent)}
        base = {**self._runner.find_base(self._user), **own, **invocation.env}
        return env_of_step(base, self._order, self._runner._keeper)

    def _installer(self) -> Installer:
        runner = self._runner
        return Installer(
            self._order,
            self._user,
            runner.find_cache(self._user),
            environment.for_installer(
                runner.find_base(self._user),
                self._order,
                runner._keeper,
                runner._config.install_env,
            ),
            self._supervise,
            self._lines,
        )

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Interrupted(ProcessEnd(0, "stop"))
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise Interrupted(ProcessEnd(0, "timeout"))


def env_of_step(base: Mapping[str, str], order: StepOrder, keeper: str) -> dict[str, str]:
    """The environment of the step itself. The marks come last: an author's `env` cannot remove
    them."""
    path = order.env.get("PATH", base.get("PATH", environment.DEFAULT_PATH))
    return {
        **base,
        "TMPDIR": str(order.scratch_dir),
        **({INPUT_FILE: str(order.input_path)} if order.input_path is not None else {}),
        **_shelves(order),
        **order.env,
        **({INPUTS_FILE: str(order.input_path)} if order.input_path is not None else {}),
        **({"PATH": f"{path}:{order.helper.path}"} if order.helper is not None else {}),
        **strays.mark(order.attempt, keeper),
    }


def _shelves(order: StepOrder) -> dict[str, str]:
    if order.shelves is None:
        return {}
    taken = order.shelves.taken
    return {
        ARTIFACTS_DIR: str(order.shelves.left),
        **({ARTIFACTS_IN: str(taken)} if taken is not None else {}),
    }


def _list_attempts() -> set[tuple[str, str | None]]:
    """(attempt, keeper) of every marked process on this host that we may inspect."""
    marks = (strays.read_marks(process.pid) for process in strays.list_processes())
    return {(attempt, keeper) for attempt, keeper in marks if attempt is not None}
