"""Keeps programs running: starts them in order, restarts them when they die, stops them in reverse
order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from standalone.supervision.lifeline import Lifeline
from standalone.supervision.program import APPLICATION, STORE, Child, Program, ProgramFailed

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STORES_S = 1.5  # of the time to stop, reserved for database and broker
HURRIED_S = 6.0  # for the applications, once somebody has asked twice
CALM_S = 60.0  # after running this long, the pause before a restart is the shortest again

Say = Callable[[str], None]


@dataclass(slots=True)
class _Kept:
    program: Program
    child: Child | None
    began: float
    pause_s: float = FIRST_PAUSE_S
    due: float = 0.0


class Supervisor:
    def __init__(self, lifeline: Lifeline, say: Say) -> None:
        self.lifeline = lifeline
        self._say = say
        self._kept: list[_Kept] = []

    def start(self, *programs: Program) -> float:
        """Start them together and wait until each answers. Returns the seconds; raises
        ProgramFailed."""
        began = time.monotonic()
        children = []
        for program in programs:
            children.append(self.lifeline.spawn(program))
            self._kept.append(_Kept(program, children[-1], began))
        for child in children:
            child.wait_until_ready()
        return time.monotonic() - began

    def tend(self) -> None:
        """One round: restart programs that died, after a pause that grows each time."""
        self.lifeline.check()
        for kept in self._kept:
            if kept.child is not None and kept.child.has_ended():
                self._note_death(kept, kept.child)
            if kept.child is None and time.monotonic() >= kept.due:
                self._start_again(kept)

    def _note_death(self, kept: _Kept, child: Child) -> None:
        kept.pause_s = FIRST_PAUSE_S if time.monotonic() - kept.began > CALM_S else kept.pause_s
        kept.due = time.monotonic() + kept.pause_s
        kept.child = None
        name = kept.program.name
        self._say(
            f"{name} ended ({_how(child.process.returncode)}); restarting it in {kept.pause_s:g} s."
        )
        for line in child.last_words().splitlines():
            self._say(f"  {name}: {line}")
        kept.pause_s = min(kept.pause_s * 2, LONGEST_PAUSE_S)

    def _start_again(self, kept: _Kept) -> None:
        kept.began = time.monotonic()
        try:
            kept.child = self.lifeline.spawn(kept.program)
        except (OSError, ProgramFailed) as error:
            kept.due = time.monotonic() + kept.pause_s
            kept.pause_s = min(kept.pause_s * 2, LONGEST_PAUSE_S)
            self._say(f"{kept.program.name} could not be started: {error}")

    def stop(self, within_s: float) -> None:
        """Stop the applications together, then database and broker, all within `within_s`."""
        deadline = time.monotonic() + within_s
        self.stop_applications(within_s - STORES_S)
        self.stop_stores(max(0.5, deadline - time.monotonic()))

    def stop_applications(self, within_s: float, asked: Callable[[], int] = lambda: 1) -> None:
        """`asked`: how often somebody has asked for it; they are told again the second time, and
        killed the third."""
        deadline = time.monotonic() + within_s
        told = 0
        children = self._children(APPLICATION)
        while any(not child.has_ended() for child in children):
            times = max(1, asked())
            if times > told:
                if told == 1:
                    deadline = min(deadline, time.monotonic() + HURRIED_S)
                for child in children:
                    if not child.has_ended():
                        child.process.send_signal(child.program.stop_steps[0][0])
                told = min(times, 2)
            if times > 2 or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        for child in children:
            child.stop(within_s=0)

    def stop_stores(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        for child in reversed(self._children(STORE)):
            child.stop(within_s=max(0.5, deadline - time.monotonic()))
        self._kept.clear()

    def pid_of(self, name: str) -> int | None:
        """Of the program that runs under this name."""
        running = (kept for kept in self._kept if kept.program.name == name)
        return next((kept.child.pid for kept in running if kept.child is not None), None)

    def _children(self, stage: int) -> list[Child]:
        return [
            kept.child
            for kept in self._kept
            if kept.child is not None and kept.program.stage == stage
        ]


def _how(returncode: int | None) -> str:
    if returncode is None or returncode >= 0:
        return f"exit code {returncode}"
    return f"signal {-returncode}"
