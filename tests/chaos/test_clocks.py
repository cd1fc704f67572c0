"""Exactly one job per slot, whatever happens to the schedulers and to the time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from apps.jobs.models import Job
from apps.triggers import clocks
from apps.triggers.models import Firing, Trigger
from tests.apps.jobs.builders import workspace
from tests.chaos.almanac import Alarm, expected, slots
from tests.house import ROOT, database_url

pytestmark = pytest.mark.django_db(transaction=True)
ZONES = ("Europe/Oslo", "Australia/Sydney", "America/New_York", "UTC", "Asia/Kolkata")
DAILY = (
    "30 2 * * *",
    "15 1 * * *",
    "0 3 * * mon-fri",
    "45 23 * * *",
    "10 2 1,15 * *",
    "0 12 L * *",
)
OFTEN = ("0 */6 * * *", "30 */4 * * *", "20 0,8,16 * * *")
HOURLY = ("5 * * * *", "*/30 * * * *")
HOUR = timedelta(hours=1)


def alarms(count: int) -> list[Alarm]:
    """Mostly once a day, some every few hours, a few every hour; all policies, all zones."""
    dice, found = random.Random(4711), []
    for number in range(count):
        kind = DAILY if number % 20 < 17 else OFTEN if number % 20 < 19 else HOURLY
        found.append(
            Alarm(
                f"t{number}",
                kind[number // 20 % len(kind)] if kind is HOURLY else dice.choice(kind),
                ZONES[number % len(ZONES)],
                ("last", "none", "all")[number % 3],
                timedelta(hours=24 if number % 2 else 4),
                "cancel_previous" if number % 7 == 3 else "skip" if number % 7 == 5 else "allow",
            )
        )
    return found


def files(found: list[Alarm]) -> str:
    lines = ['tasks: { main: { flow: { work: { type: script, script: "true" } } } }', "triggers:"]
    for one in found:
        window = "" if one.catch_up == "none" else f", catch_up_window: {one.window // HOUR}h"
        lines.append(
            f'  {one.name}: {{ type: scheduler, task: main, cron: "{one.cron}",'
            f" timezone: {one.zone}, catch_up: {one.catch_up}{window},"
            f" concurrency: {one.concurrency} }}"
        )
    return "\n".join(lines) + "\n"


class Schedulers:
    """Processes that deal with clocks at the time of one file; one of them is killed every few
    seconds."""

    def __init__(self, folder: Path, count: int, kill_every_s: float) -> None:
        self.file = folder / "now"
        self.count, self.kill_every_s = count, kill_every_s
        self.kills, self.killed_at = 0, time.monotonic()
        self.nursery: subprocess.Popen[bytes] | None = None

    def set(self, now: datetime) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(now.isoformat())
        fresh.replace(self.file)

    def start(self) -> None:
        if self.nursery is None:
            env = os.environ | {
                "STROEM__DB__URL": database_url(),
                "DJANGO_SETTINGS_MODULE": "stroem_project.settings",
            }
            command = [sys.executable, "-m", "tests.chaos.clockwork", str(self.file)]
            self.nursery = subprocess.Popen([*command, str(self.count)], cwd=ROOT, env=env)

    def stop(self) -> None:
        if self.nursery is None:
            return
        self.nursery.send_signal(signal.SIGSTOP)  # so that it follows nobody
        children = psutil.Process(self.nursery.pid).children()
        for process in (*children, self.nursery):
            process.kill()
        self.nursery.wait(10)
        self.nursery = None

    def until(self, is_done: Callable[[], bool]) -> None:
        """Wait, and kill one of them whenever it is time for that."""
        end = time.monotonic() + 100
        while not is_done():
            assert time.monotonic() < end, "the schedulers do not get on"
            assert self.nursery is not None and self.nursery.poll() is None
            if time.monotonic() - self.killed_at > self.kill_every_s:
                for victim in psutil.Process(self.nursery.pid).children()[:1]:
                    victim.kill()
                    self.kills += 1
                self.killed_at = time.monotonic()
            time.sleep(0.01)


def looks(found: set[datetime], start: datetime) -> Iterator[tuple[str, datetime]]:
    """How the time goes: from slot to slot, with an outage of ten hours, and the clock set an hour
    ahead, and an hour back, so that the hour is lived through twice."""
    times = [slot + timedelta(seconds=0.4) for slot in sorted(found)]
    outage, ahead, back = len(times) // 3, len(times) * 2 // 3, len(times) * 5 // 6
    now = start
    for index, look in enumerate(times):
        if index == outage:
            now = look + 10 * HOUR
            yield "outage", now
        elif index == ahead:
            now = look + HOUR
            yield "ahead", now
        elif index == back:
            yield "back", look - HOUR
            yield from (("go", earlier) for earlier in times if look - HOUR < earlier < look)
        if look > now:
            now = look
            yield "go", now


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("count", "schedulers", "start", "days", "kill_every_s"),
    [
        pytest.param(20, 2, datetime(2026, 3, 28, 16, tzinfo=UTC), 1, 0.5, id="a day"),
        pytest.param(
            200,
            3,
            datetime(2026, 3, 10, tzinfo=UTC),
            30,
            5.0,
            id="a month",
            marks=[pytest.mark.slow, pytest.mark.timeout(3600)],
        ),
    ],
)
def test_every_slot_becomes_exactly_what_its_policy_says(
    tmp_path: Path, count: int, schedulers: int, start: datetime, days: int, kill_every_s: float
):
    made = alarms(count)
    workspace(tmp_path, files(made), "clocks")
    for row in Trigger.objects.select_related("workspace"):
        clocks.wind(row, start)
    end = start + timedelta(days=days + 1)
    known = {(one.cron, one.zone) for one in made}
    all_slots = {pair: slots(*pair, start + timedelta(seconds=1), end) for pair in known}
    times = {slot for found in all_slots.values() for slot in found}
    last = start + timedelta(days=days)

    seen, house = [], Schedulers(tmp_path, schedulers, kill_every_s)
    house.set(start)
    house.start()
    try:
        for what, now in looks({slot for slot in times if slot <= last}, start):
            if what == "outage":
                house.stop()
            house.set(now)
            seen.append(now)
            house.start()
            house.until(lambda now=now: not Trigger.objects.filter(next_at__lte=now).exists())
    finally:
        house.stop()

    fired: dict[str, list[datetime]] = {one.name: [] for one in made}
    rows = Firing.objects.exclude(status="missed").values_list("trigger__name", "slot", "status")
    states: dict[str, Counter[str]] = {one.name: Counter() for one in made}
    for name, slot, status in rows:
        fired[name].append(slot)
        states[name][status] += 1
    jobs: dict[str, list[datetime]] = {one.name: [] for one in made}
    for source, slot in Job.objects.values_list("source_id", "scheduled_at"):
        jobs[source.removeprefix("clocks/")].append(slot)
    total = 0
    for one in made:
        wanted = sorted(expected(one, all_slots[one.cron, one.zone], seen))
        assert sorted(fired[one.name]) == wanted, one
        started = wanted[:1] if one.concurrency == "skip" else wanted
        assert sorted(jobs[one.name]) == started, one
        assert states[one.name]["skipped"] == len(wanted) - len(started), one
        total += len(wanted)
    missed = sum(Firing.objects.filter(status="missed").values_list("count", flat=True))
    print(f"{total} slots fired, {missed} missed, {house.kills} kills, {len(seen)} looks")
    assert house.kills and total > count
