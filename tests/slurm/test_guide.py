"""The guide for Slurm users does what it says: its blocks are run one after the other, on a Slurm
of their own."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.house import ROOT, Up, plain_environment
from tests.slurm.cluster import NODES, Cluster, end_residents, free_range

GUIDE = ROOT / "docs" / "guides" / "slurm.md"
BLOCK = re.compile(r"^```(?P<kind>sh|yaml)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, for sockets; what was started in it is ended."""
    found = Path(tempfile.mkdtemp(prefix="stroem-guide-"))
    yield found
    end_residents(found)
    shutil.rmtree(found, ignore_errors=True)


def blocks() -> tuple[str, list[str]]:
    """The flow, and the commands of "Try it on one machine" without the installation."""
    text = GUIDE.read_text(encoding="utf-8")
    section = text.split("\n## Try it on one machine\n", 1)[1].split("\n## ", 1)[0]
    commands = [found["text"] for found in BLOCK.finditer(section) if found["kind"] == "sh"]
    assert commands[0].startswith("sudo apt-get install")
    flow = next(found["text"] for found in BLOCK.finditer(text) if found["kind"] == "yaml")
    return flow, commands[1:]


def test_the_start_on_one_machine_works_as_written(cluster: Cluster, folder: Path) -> None:
    flow, (start, files, run, stop) = blocks()
    home, data_dir = folder / "home", folder / "var"
    (folder / "slurm-demo").mkdir()
    (folder / "slurm-demo" / "slurm.yaml").write_text(flow)
    home.mkdir()
    up = Up(data_dir)
    # The only differences: ports that are free, this test's `var`, its folder for the flow, and one
    # shell per block.
    own = {
        "PORT=16817": f"PORT={free_range(NODES + 1)}",
        "$PWD/var": str(data_dir),
        " slurm-demo": f" {folder}/slurm-demo",
        ". .venv/bin/activate\n": f"PATH={ROOT}/.venv/bin:$PATH\n",
    }
    head = start.split("mkdir", 1)[0] + "PATH=$ROOT/.venv/bin:$PATH\n"

    def shell(text: str) -> str:
        for ours, theirs in own.items():
            text = text.replace(ours, theirs)
        done = subprocess.run(
            ["bash", "-euc", text],
            cwd=ROOT,
            env=plain_environment(HOME=str(home), STROEM__DATA_DIR=str(data_dir), ROOT=str(ROOT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    try:
        listed = shell(start)  # in one line, or in two while some are coming up
        assert (
            sum(
                int(count)
                for count in re.findall(r"^debug\* +up +infinite +(\d+)", listed, re.MULTILINE)
            )
            == 4
        )
        up.wait_until_ready()
        shell(head + files)
        said = shell(head + run)
        told = re.findall(r"in Slurm job (\d+) on n\d", said)
        assert len(told) == 3 and set(told) <= {"1", "2"}, said
        assert said.count("on no node") == 2
        # squeue lists both
        assert len(re.findall(r"^ +[12] +debug stroem-", said, re.MULTILINE)) == 2, said
        shell(head + stop)
    finally:
        up.end()
