"""Who reads: the scheduler, when the time of a workspace has come, and whoever asks for it."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection

from apps.accounts.errors import TooMany
from apps.audit.services import note
from apps.workspaces.models import Workspace
from apps.workspaces.refreshing import turns
from apps.workspaces.refreshing.reader import Reader
from apps.workspaces.refreshing.turns import Outcome, Turn
from engine.errors import Conflict, PlatformError

log = logging.getLogger("stroem.refreshing")
TICK_S = 1.0
LOOK_AGAIN_S = 0.3
IDLE_S = 120.0  # an unneeded process goes after this time
_asked_for = threading.Lock()
_reads_here = 0


class Rounds:
    """The scheduler's readers. Its threads only wait: the work is done by their processes."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._idle: list[tuple[Reader, float]] = []
        self._busy: dict[Future[None], Turn] = {}

    def run_forever(self) -> None:
        with ThreadPoolExecutor(settings.STROEM.refresh.parallel, "refresh") as threads:
            while not self._stop.is_set():
                try:
                    self._look(threads)
                except DatabaseError as error:
                    log.warning("workspaces cannot be read: %s", error)
                except Exception:  # an outer edge: without this loop, nothing is read any more
                    log.exception("a round of refreshes failed")
                close_old_connections()
                self._stop.wait(TICK_S)
        for reader, _ in self._idle:
            reader.close()

    def _look(self, threads: ThreadPoolExecutor) -> None:
        self._busy = {future: turn for future, turn in self._busy.items() if not future.done()}
        while len(self._busy) < settings.STROEM.refresh.parallel:
            # Those that a limit ended share one reader, so that they never take all of them.
            is_taken = any(turn.was_stopped for turn in self._busy.values())
            turn = turns.take_due(also_stopped=not is_taken)
            if turn is None:
                break
            self._busy[threads.submit(self._read, turn)] = turn
        self._dismiss()

    def _read(self, turn: Turn) -> None:
        reader = self._idle.pop()[0] if self._idle else Reader()
        try:
            outcome = reader.read(turn.workspace_id, only_if_changed=True, stop=self._stop)
            self._idle.append((reader, time.monotonic()))
            _settle(turn, outcome)
        except DatabaseError as error:  # others may read it when the turn runs out
            log.warning("workspace %s: %s", turn.workspace_id, error)
        except Exception:  # an outer edge: nobody looks at the result of this thread
            log.exception("reading workspace %s failed", turn.workspace_id)
        finally:
            close_old_connections()

    def _dismiss(self) -> None:
        stale = [one for one in self._idle if time.monotonic() - one[1] > IDLE_S]
        for one in stale:
            self._idle.remove(one)
            one[0].close()


def refresh(workspace: Workspace, *, waits: bool = False) -> Workspace:
    """Read the source now, and return the workspace as it then is; a good read ends a quarantine.

    Raises Conflict if somebody else reads it; with `waits`, only if that does not end. Raises
    TooMany if this process reads enough, PlatformError if it could not be read at all.
    """
    _enter()
    try:
        turn = _turn(workspace, waits=waits)
        note("workspace.refresh", workspace.name, workspace=workspace.name)
        if not connection.in_atomic_block:
            close_old_connections()  # none is held while another process works
        with closing(Reader()) as reader:
            outcome = reader.read(turn.workspace_id, only_if_changed=False)
        _settle(turn, outcome)
    finally:
        _leave()
    if outcome.kind == "failed":
        raise PlatformError(f"Workspace '{workspace.name}' could not be read: {outcome.why}")
    return Workspace.objects.select_related("current").get(pk=workspace.pk)


def _settle(turn: Turn, outcome: Outcome) -> None:
    if outcome.kind in ("stopped", "failed"):
        log.warning("workspace %s: %s", turn.workspace_id, outcome.why)
    turns.end(turn, outcome)


def _turn(workspace: Workspace, *, waits: bool) -> Turn:
    ends_at = time.monotonic() + settings.STROEM.refresh.timeout_s + turns.LEASE_MARGIN_S
    while (turn := turns.take(workspace.pk)) is None:
        if not waits or time.monotonic() > ends_at:
            raise Conflict(
                f"Workspace '{workspace.name}' is being read just now; look again in a moment"
            )
        time.sleep(LOOK_AGAIN_S)
    return turn


def _enter() -> None:
    global _reads_here
    with _asked_for:
        if _reads_here >= settings.STROEM.refresh.parallel:
            raise TooMany(10, "This server reads as many workspaces as it may; retry after 10s")
        _reads_here += 1


def _leave() -> None:
    global _reads_here
    with _asked_for:
        _reads_here -= 1
