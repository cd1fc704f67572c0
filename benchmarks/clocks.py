"""`python -m benchmarks.clocks [--count N] [--minutes N]`: how late one scheduler starts the jobs
of its clocks, and what looking at them costs.

First all clocks are set to times of next year, and the scheduler's processor time is measured.
Then they are spread over the minutes of an hour, so that about seventeen of a thousand fire at the
same time. At last all of them are set to every minute.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psutil

from benchmarks.stroem_side import installation, wait

IDLE_S = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clocks")
    parser.add_argument("--count", type=int, default=1000, help="triggers (default: 1000)")
    parser.add_argument("--minutes", type=int, default=3, help="of each part (default: 3)")
    asked = parser.parse_args()
    count: int = asked.count
    with installation(0, 0) as (side, _):
        side.load("clocks", _files(count, lambda number: "0 0 1 1 *"))
        side.start(["scheduler"])
        (scheduler,) = side.processes_seen()
        time.sleep(10)  # it starts
        print(f"{count} clocks, none due: {_load(scheduler):.2f} % of a core")
        for name, cron in (
            ("spread over the minutes of an hour", lambda number: f"{number % 60} * * * *"),
            ("all at every minute", lambda number: "* * * * *"),
        ):
            side.load("clocks", _files(count, cron))
            _show(name, _lateness(asked.minutes))


def _files(count: int, cron: Callable[[int], str]) -> str:
    tasks = "tasks: { main: { flow: { work: { type: script, script: 'true' } } } }\ntriggers:\n"
    return tasks + "".join(
        f'  t{number}: {{ type: scheduler, task: main, cron: "{cron(number)}" }}\n'
        for number in range(count)
    )


def _load(process: psutil.Process) -> float:
    """Percent of a core over half a minute."""
    before = sum(process.cpu_times()[:2])
    time.sleep(IDLE_S)
    return (sum(process.cpu_times()[:2]) - before) / IDLE_S * 100


def _lateness(minutes: int) -> list[float]:
    """Seconds from each slot of some minutes until its job exists."""
    from apps.jobs.models import Job
    from apps.triggers.models import Trigger

    first = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    last = first + timedelta(minutes=minutes)
    wait(lambda: datetime.now(UTC) > last, every_s=1)
    wait(lambda: not Trigger.objects.filter(next_at__lt=last).exists(), every_s=0.5)
    rows = Job.objects.filter(scheduled_at__gte=first, scheduled_at__lt=last)
    found = rows.values_list("created_at", "scheduled_at")
    return sorted((made - slot).total_seconds() for made, slot in found if slot is not None)


def _show(name: str, late: list[float]) -> None:
    parts = (late[len(late) // 2], late[int(len(late) * 0.99)], late[-1])
    middle, most, worst = (f"{part:.3f}" for part in parts)
    print(f"{name}: {len(late)} jobs; half within {middle} s, 99 % {most} s, all {worst} s")


if __name__ == "__main__":
    main()
