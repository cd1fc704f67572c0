"""`make test` and `make test-long` share the gate: each test runs in one of them, and what needs
more than a bare machine in the second."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.house import ROOT
from tests.selection import programs

SUITE = """
import pytest

@pytest.mark.{program}
def test_of_a_program(): pass
@pytest.mark.long
def test_that_is_long(): pass
@pytest.mark.sample(3)
@pytest.mark.parametrize("case", "abcde")
def test_of_a_table(case): pass
def test_of_any_kind(): pass
"""


def collect(folder: Path, suite: str) -> str:
    """What `make test` would run of these tests, as pytest lists it."""
    (folder / "conftest.py").write_text(
        "from tests.conftest import pytest_collection_modifyitems\n"
    )
    (folder / "test_suite.py").write_text(suite)
    servers = {
        f"STROEM_TEST_{name}_URL": os.environ[f"STROEM__{name}__URL"] for name in ("DB", "BROKER")
    }
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", folder,
         "--collect-only", "-q", "-m", "not slow and not long", folder],
        env={**os.environ, **servers, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    return finished.stdout + finished.stderr


def test_what_needs_a_program_and_most_of_a_sample_are_long(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    suite = "".join(
        SUITE.format(program=name).replace("def test", f"def test_{name}")
        for name in sorted(programs(request.config))
    )
    listed = collect(tmp_path, suite)
    for name in programs(request.config):
        assert re.findall(rf"::test_{name}_(\S+)", listed) == [
            "of_a_table[a]", "of_a_table[d]", "of_any_kind"
        ], listed  # fmt: skip


def test_a_sample_of_a_single_case_is_refused(tmp_path: Path) -> None:
    listed = collect(
        tmp_path,
        SUITE.replace('@pytest.mark.parametrize("case", "abcde")', "").format(program="docker"),
    )
    assert "test_of_a_table is no table" in listed


def test_all_places_name_the_same_programs(request: pytest.FixtureRequest) -> None:
    needed = programs(request.config)
    gate = (ROOT / ".ci/run").read_text()
    assert set(re.findall(r"left_out\+=\((\w+)\)", gate)) == needed
    prose = re.search(r"carry a marker:(.*?)\.", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    assert prose is not None and set(re.findall(r"`(\w+)`", prose[1])) == needed


def test_each_test_of_the_gate_is_in_one_of_its_halves() -> None:
    chosen = []
    for target in ("test", "test-long"):
        planned = subprocess.run(
            ["make", "-n", target, "SELECT=chosen"],
            capture_output=True, text=True, cwd=ROOT, check=True,
        ).stdout  # fmt: skip
        chosen.append(re.findall(r'-m "(.*)"', planned))
    assert chosen == [["chosen and not long"], ["chosen and long"]]
    gate = (ROOT / ".ci/run").read_text()
    assert re.findall(r"(?m)^part .* make (test\S*)$", gate) == ["test", "test-long"]
