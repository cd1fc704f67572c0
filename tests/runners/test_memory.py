"""A step that ran out of memory says so."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.orders import Resources
from runners.host.local import LocalConfig, LocalRunner
from tests.runners.contract import Log, Stop, build_order

MEMORY = Path("/sys/fs/cgroup/memory")
HOG = "python3 -c 'x = bytearray(300_000_000)'"
RUN = """
import os, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
from runners.host import memory
memory._counter = lambda: Path(sys.argv[1], "memory.oom_control")
from runners.host.local import LocalConfig, LocalRunner
from tests.runners.contract import Log, Stop, build_order
folder = Path(sys.argv[2])
runner = LocalRunner(LocalConfig(cache_dir=folder / "cache"))
for code in sys.argv[3:]:
    print(runner.run(build_order(folder, code), Log(), Stop()).error)
"""


@pytest.fixture
def limited() -> Iterator[Path]:
    """A memory cgroup of 100 MB."""
    if os.geteuid() != 0 or not (MEMORY / "memory.limit_in_bytes").exists():
        pytest.skip("needs root and memory cgroups of version 1")
    group = MEMORY / f"stroem-test-{uuid.uuid4().hex[:8]}"
    group.mkdir()
    for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        (group / name).write_text("100000000")
    yield group
    group.rmdir()


@pytest.mark.root
def test_a_kill_of_the_kernel_is_told_apart_from_others(limited: Path, tmp_path: Path) -> None:
    codes = [f"exec {HOG}", "kill -9 $$", f"{HOG} || exit 3"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(limited), str(tmp_path), *codes],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("Stderr")]
    assert lines[0].startswith("Out of memory: the kernel killed the step; one of the step's")
    assert lines[1:3] == ["Exit code: 137", "Exit code: 137"]
    assert lines[3].startswith("Out of memory: the kernel killed a process of this worker")
    assert lines[4] == "Exit code: 3"


def test_a_killed_step_that_had_used_what_it_declared_was_most_likely_out_of_memory(
    tmp_path: Path,
) -> None:
    runner = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"))
    code = "import os; x = bytearray(60_000_000); os.kill(os.getpid(), 9)"
    resources = Resources(memory_bytes=64_000_000)
    order = build_order(tmp_path, code, language="python", resources=resources)
    error = runner.run(order, Log(), Stop()).error or ""
    assert error.startswith("Most likely out of memory: it was killed, and one of the step's")
    assert error.endswith("Exit code: 137")
