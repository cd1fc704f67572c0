"""The pod runner keeps every promise of the runner contract that a cluster can keep.

A cluster's log does not tell stderr from stdout, so what hangs on that is said anew here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from engine.orders import Verdict
from runners.pod.runner import PodRunner
from tests.runners.contract import Leftovers, RunnerContract
from tests.runners.pod.fake_api import FakeCluster

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]


class TestPodRunner(RunnerContract):
    slack_s = 2.0

    @pytest.fixture
    def runner(self, runner: PodRunner) -> PodRunner:
        return runner

    @pytest.fixture
    def leftovers(self, cluster: FakeCluster) -> Leftovers:
        def find(attempt: str) -> list[str]:
            return [name for name in (*cluster.pods, *cluster.secrets) if attempt in name]

        return find

    def test_stdout_and_stderr_are_told_apart_and_keep_their_order(self, finish: Any) -> None:
        """In a pod they are one stream, in order."""
        _, log = finish("echo one; sleep 0.3; echo two >&2; sleep 0.3; echo three")
        assert [(line.stream, line.text) for line in log.lines if line.stream != "server"] == [
            ("stdout", "one"),
            ("stdout", "two"),
            ("stdout", "three"),
        ]

    def test_a_non_zero_exit_is_a_failure_with_code_and_tail_of_stderr(self, finish: Any) -> None:
        outcome, _ = finish("echo fine; echo boom >&2; exit 3")
        assert outcome.verdict is Verdict.FAILED
        assert outcome.exit_code == 3
        assert re.fullmatch(r"Exit code: 3\nLast lines: (fine\nboom|boom\nfine)", outcome.error)

    def test_the_error_holds_only_the_tail_of_stderr(self, finish: Any) -> None:
        outcome, _ = finish("seq 1 20000 >&2; exit 1")
        assert outcome.error.endswith("19999\n20000")
        assert len(outcome.error) < 4300

    def test_only_stdout_at_column_zero_is_output(self, finish: Any) -> None:
        outcome, _ = finish("echo ' OUTPUT: 2'; echo 'x OUTPUT: 3'; printf 'a\\rOUTPUT: 4\\n'")
        assert not outcome.has_output
        assert outcome.output is None

    def test_a_script_begins_in_the_root_of_its_workspace(
        self, finish: Any, pin: Any, tmp_path: Path
    ) -> None:
        pinned = pin(
            {"data/name.txt": "World\n", "hello.sh": 'echo "Hello $(cat data/name.txt) $1"\n'}
        )
        assert finish("cat data/name.txt", workspace_dir=None, pinned=pinned)[1].texts() == [
            "World"
        ]
        outcome, log = finish(source="hello.sh", args=("again",), workspace_dir=None, pinned=pinned)
        assert log.texts() == ["Hello World again"], outcome

    def test_a_source_with_exec_bit_and_shebang_is_run_directly(
        self, finish: Any, pin: Any
    ) -> None:
        pinned = pin({"count.sh": "#!/bin/sh -e\nfalse\necho not reached\n"}, executable=True)
        outcome, log = finish(source="count.sh", workspace_dir=None, pinned=pinned)
        assert outcome.exit_code == 1
        assert log.texts() == []

    def test_workdir_is_a_folder_of_the_workspace(self, finish: Any, pin: Any) -> None:
        pinned = pin({"sub/deep/mark.txt": "here\n"})
        _, log = finish("cat mark.txt", workspace_dir=None, pinned=pinned, workdir="sub/deep")
        assert log.texts() == ["here"]
