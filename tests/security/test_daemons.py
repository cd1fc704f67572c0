"""A hostile step hides processes in every way that it knows. However it ends, they end with it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.orders import Limits, Verdict
from runners.guard import strays
from runners.guard.guard import Guard
from runners.host.local import LocalConfig, LocalRunner
from tests.acceptance.house import manage
from tests.apps.jobs.builders import until
from tests.runners.contract import Log, Run, Stop, build_order
from tests.runners.test_local import find_python_for_all

pytestmark = [pytest.mark.root]
STAY = r"trap '' TERM HUP INT; echo \$\$ >> PIDS; sleep 300"
PYTHON = """
import os, signal, time
for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(each, signal.SIG_IGN)
for _ in range(2):
    if os.fork(): os._exit(0)
    os.setsid()
os.chdir("/"); os.closerange(0, 256); os.umask(0)
os.environ.clear()
fd = os.open("PIDS", os.O_WRONLY | os.O_APPEND); os.write(fd, b"%d\\n" % os.getpid()); os.close(fd)
time.sleep(300)
"""
WAYS = {
    "background": f'sh -c "{STAY}" &',
    "setsid": f'setsid -f sh -c "{STAY}"',
    "double fork": f'( ( setsid sh -c "{STAY}" & ) & )',
    "emptied environment": f'env -i /usr/bin/setsid -f /bin/sh -c "{STAY}"',
    "nohup": f'nohup sh -c "{STAY}" >/dev/null 2>&1 &',
    "su nobody": f'su -s /bin/sh nobody -c "{STAY}" >/dev/null 2>&1 &',
    "su, session and environment": (
        f"( ( setsid su - -s /bin/sh nobody -c \"env -i sh -c '{STAY}'\" >/dev/null 2>&1 & ) & )"
    ),
    "daemon in python": f"PYTHON - <<'END'\n{PYTHON}\nEND\n",
    "chain": f'setsid -f env -i sh -c "setsid -f sh -c \\"sleep 0.1; setsid -f sh -c \'{STAY}\'\\""',
}

ENDS = {"its own": Verdict.SUCCEEDED, "time-out": Verdict.TIMED_OUT, "cancel": Verdict.CANCELLED}


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    made = Guard(lease_s=600, margin_s=8)
    made.start()
    yield made
    made.close()


@pytest.fixture
def pids(place: Path) -> Path:
    return empty(place / "pids")


def empty(file: Path) -> Path:
    file.touch()
    file.chmod(0o666)
    return file


def hide(way: str, pids: Path) -> str:
    code = WAYS[way].replace("PIDS", str(pids)).replace("PYTHON -", f"{find_python_for_all()} -")
    if way == "su, session and environment":
        code = code.replace("trap '' TERM HUP INT; ", "")  # quotes inside quotes inside quotes
    return f"{code}\nuntil test -s {pids}; do sleep 0.02; done\n"


def alive(pids: Path) -> list[int]:
    found = [int(word) for word in pids.read_text().split()]
    assert found
    states = {pid: strays.read_process(pid) for pid in found}
    return [pid for pid, process in states.items() if process and process.state not in "ZX"]


@pytest.mark.sample(9)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", WAYS)
def test_what_hides_ends_with_its_step(
    guard: Guard, tmp_path: Path, pids: Path, way: str, end: str
) -> None:
    runner = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"), guard)
    limits = Limits(timeout_s=3.0 if end == "time-out" else None, stop_grace_s=0.3)
    last = "exit 0" if end == "its own" else "sleep 300"
    order = build_order(tmp_path, hide(way, pids) + last, limits=limits)
    log, stop = Log(), Stop()
    with ThreadPoolExecutor(1) as pool:
        run = Run(order, log, stop, pool.submit(runner.run, order, log, stop))
        until(pids.read_text, 20)
        if end == "cancel":
            stop.set("cancel")
        outcome = run.outcome()
    assert outcome.verdict is ENDS[end], outcome
    assert alive(pids) == []


@pytest.mark.long
def test_what_hides_ends_with_run(tmp_path: Path, place: Path) -> None:
    """One run with a step for each way."""
    steps = {f"s{at}": (way, empty(place / f"pids{at}")) for at, way in enumerate(WAYS)}
    flow = ""
    for name, (way, pids) in steps.items():
        (tmp_path / f"{name}.sh").write_text(hide(way, pids))
        flow += f"      {name}: {{type: script, source: {name}.sh}}\n"
    (tmp_path / "flow.yaml").write_text(f"tasks:\n  main:\n    flow:\n{flow}")
    done = manage("run", str(tmp_path), "main")
    assert done.returncode == 0, done.stderr
    left = {way: alive(pids) for way, pids in steps.values()}
    assert left == {way: [] for way in WAYS}
