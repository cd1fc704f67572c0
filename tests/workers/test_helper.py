"""`stroem-step`, as a step calls it: real shells on one side of the pipes, the worker's thread on
the other."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from django.db import OperationalError

from apps.artifacts import questions
from apps.artifacts.questions import Questions
from apps.artifacts.values import Taken
from engine.orders import HELPER, StepOutcome, Verdict
from engine.output import GLOBAL_STATE, STATE
from engine.state import MOST_VALUE_BYTES, Seen
from tests.runners.contract import build_order
from tests.workers.fakes import FakeLedger, claim
from workers.attempts import Attempt
from workers.pipes import Helper

DONE = StepOutcome(Verdict.SUCCEEDED, 0, output={"n": 1}, has_output=True)
SHELLS = [
    pytest.param(
        shell, marks=pytest.mark.skipif(not shutil.which(shell[0]), reason="no such shell")
    )
    for shell in (["sh"], ["bash", "--posix"], ["busybox", "sh"])
]


class Platform(FakeLedger):
    """What the platform remembers, and the files of earlier steps."""

    def __init__(self) -> None:
        super().__init__()
        self.state = Seen(3, {"cursor": "a b", "count": 7}, written={"cursor": 3, "count": 1})
        self.shared = Seen(1, {"color": "teal"}, written={"color": 1})
        self.files = {
            ("build", "site/a.bin"): b"\0\xff" * 300_000,
            ("build", "tool.sh"): b"echo run",
        }

    def state_of(self, claim: Any) -> tuple[Seen, Seen]:
        self._enter("state_of")
        return self.state, self.shared

    def taken(self, claim: Any, steps: Any) -> list[Taken]:
        items = enumerate(self.files.items())
        return [
            Taken(step, name, at, len(data), name.endswith(".sh"))
            for at, ((step, name), data) in items
        ]

    def open_taken(self, file: Taken) -> IO[bytes]:
        return io.BytesIO(self.files[file.step_name, file.name])


class Bench:
    def __init__(self, folder: Path, **more: Any) -> None:
        self.platform, self.attempt = Platform(), Attempt(claim(), 0.0)
        self.work, scratch, self.left = folder / "work", folder / "scratch", folder / "left"
        for one in (self.work, scratch, self.left):
            one.mkdir()
        asked = Questions(self.attempt.claim, self.platform, self.platform, **more)  # type: ignore[arg-type]
        self.helper = Helper(scratch, self.attempt, asked)

    def take(self, count: int = 4) -> list[str]:
        """The names of turns, as the command takes them."""
        with open(self.helper.folder.path / "free", "rb", buffering=0) as free:
            return [free.read(8).decode() for _ in range(count)]

    def start(self, code: str, shell: list[str] | None = None) -> subprocess.Popen[bytes]:
        path = f"{os.environ['PATH']}:{self.helper.folder.path}"
        return subprocess.Popen(
            [*(shell or ["sh"]), "-c", code],
            cwd=self.work,
            env={"PATH": path, "ARTIFACTS_DIR": str(self.left)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, code: str, shell: list[str] | None = None) -> tuple[int, str, str]:
        process = self.start(code, shell)
        out, err = process.communicate(timeout=20)
        return process.returncode, out.decode(), err.decode()


@pytest.fixture(name="bench")
def bench_of_tests(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.helper.close()


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_and_sets(bench: Bench, shell: list[str]) -> None:
    code = """
    set -e
    stroem-step state get cursor
    stroem-step state set cursor 'x  y
    z'
    stroem-step state get cursor
    echo '{"a": [1, true]}' | stroem-step state set shape - --json --global
    stroem-step state get --global
    stroem-step state version
    stroem-step output set total 5 --json
    stroem-step output set -n -1
    """
    status, out, err = bench.run(code, shell)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "a b", "x  y", "    z", '{"color": "teal", "shape": {"a": [1, true]}}', "3",
    ]  # fmt: skip
    outcome = bench.helper.settle(DONE)
    assert outcome.output == {"n": 1, "total": 5, "-n": "-1"}
    assert outcome.states == {
        STATE: {"cursor": "x  y\n    z"},
        GLOBAL_STATE: {"shape": {"a": [1, True]}},
    }


@pytest.mark.parametrize("shell", SHELLS)
def test_artifacts_are_put_and_fetched_whole(bench: Bench, shell: list[str]) -> None:
    code = """
    set -e
    stroem-step artifact get build site/a.bin
    stroem-step artifact get build site/a.bin there.bin
    cmp a.bin there.bin
    stroem-step artifact put there.bin
    stroem-step artifact put a.bin deep/er/b.bin
    stroem-step artifact get build tool.sh && ./tool.sh && ! test -x a.bin
    """
    assert bench.run(code, shell) == (0, "run\n", "")
    data = bench.platform.files["build", "site/a.bin"]
    assert (bench.left / "there.bin").read_bytes() == data
    assert (bench.left / "deep/er/b.bin").read_bytes() == data
    assert sorted(os.listdir(bench.work)) == ["a.bin", "there.bin", "tool.sh"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("state get nothing", 3, "the state has no key 'nothing'"),
        ("state set count 8 --if-version 0", 4, "key 'count' was written with version 1, after"),
        ("state set count 8 --if-version 9", 64, "there is no version 9; the newest is 3"),
        ("state set count '{' --json", 65, "the value is no JSON that can be kept"),
        ("state set count NaN --json", 65, "the value is no JSON that can be kept"),
        ("state set '' x", 64, "a key has 1 to 200 characters"),
        ("state set count x --gloobal", 64, "unrecognized arguments: --gloobal"),
        ("state set count", 64, "usage: stroem-step"),
        ("artifact get build nothing", 3, "step 'build' has left no artifact 'nothing'"),
        ("artifact put nothing", 3, "there is no file nothing"),
        ("artifact put /etc/passwd ../x", 64, "'../x' is no name of an artifact"),
        ("state frobnicate x", 64, "usage: stroem-step"),
        ("state", 64, "usage: stroem-step"),
    ],
)
def test_what_cannot_be_done_is_told_with_an_exit_code(
    bench: Bench, words: str, status: int, said: str
) -> None:
    found, out, err = bench.run(f"stroem-step {words}")
    assert (found, out) == (status, "") and said in err, err
    outcome = bench.helper.settle(DONE)
    assert outcome == DONE and not list(bench.left.iterdir()) and not os.listdir(bench.work)


def test_values_beyond_the_limit_are_refused(bench: Bench) -> None:
    code = f"head -c {MOST_VALUE_BYTES} /dev/zero | tr '\\0' x | stroem-step state set big -"
    status, _, err = bench.run(code)
    assert status == 65 and "1,000,000 bytes" in err
    code = "head -c 3000000 /dev/zero | tr '\\0' x | stroem-step output set big -"
    status, _, err = bench.run(code)
    assert status == 65 and "2,000,000 bytes" in err
    assert bench.helper.settle(DONE) == DONE


def test_a_version_that_was_named_goes_with_the_change(bench: Bench) -> None:
    assert bench.run("stroem-step state set count 8 --json --if-version 2")[0] == 0
    outcome = bench.helper.settle(DONE)
    assert outcome.states == {STATE: {"count": 8}} and outcome.bases == {STATE: {"count": 2}}


def test_a_step_that_failed_leaves_nothing(bench: Bench) -> None:
    assert bench.run("stroem-step state set count 8")[0] == 0
    failed = StepOutcome(Verdict.FAILED, 1, "Exit code: 1")
    assert bench.helper.settle(failed) == failed


def test_an_output_that_is_no_object_cannot_be_added_to(bench: Bench) -> None:
    assert bench.run("stroem-step output set n 2")[0] == 0
    outcome = bench.helper.settle(StepOutcome(Verdict.SUCCEEDED, 0, output=[1], has_output=True))
    assert outcome.verdict is Verdict.FAILED and "is no JSON object" in str(outcome.error)


def test_who_reads_slowly_gets_nothing_of_the_next_answer(bench: Bench) -> None:
    folder = bench.helper.folder.path
    turns = bench.take()
    assert len(turns) == 4
    with open(folder / f"{turns[0]}.out", "rb", buffering=0) as slow:  # as the command does
        (folder / f"{turns[0]}.in").write_bytes(b"2\0state get\0cursor\0")
        assert slow.read(4) == b"0 4\n"
        assert bench.run("stroem-step state get count") == (0, "7\n", "")  # in the turn after it
        assert slow.read() == b"a b\n"


def test_who_stands_still_before_its_answer_gets_its_own(bench: Bench) -> None:
    """However long, and whoever asks meanwhile."""
    folder = bench.helper.folder.path
    turns = bench.take()
    with open(folder / f"{turns[0]}.out", "rb") as slow:  # as the command does
        (folder / f"{turns[0]}.in").write_bytes(b"2\0state get\0cursor\0")
        for _ in range(3):
            assert bench.run("stroem-step state get count") == (0, "7\n", "")
        assert slow.read() == b"0 4\na b\n"


def test_an_answer_that_is_read_slowly_holds_up_no_other(bench: Bench) -> None:
    """Here it waits for the others itself."""
    bench.platform.state = Seen(3, {"big": "a line\n" * 100_000}, written={"big": 3})
    code = "stroem-step state get big | while read -r _; do stroem-step state version; exit; done"
    assert bench.run(code)[:2] == (0, "3\n")


def test_one_that_is_killed_at_once_is_not_waited_for(bench: Bench) -> None:
    folder = bench.helper.folder.path
    for name in bench.take():
        (folder / f"{name}.in").write_bytes(b"2\0state")
    before = time.monotonic()
    assert bench.run("stroem-step state get count") == (0, "7\n", "")
    assert time.monotonic() - before < 4


def test_many_at_once_do_not_mix(bench: Bench) -> None:
    code = """
    for n in 1 2 3 4 5 6 7 8 9 10 11 12; do
        { printf "$n"; head -c 20000 /dev/zero | tr '\\0' x; } | stroem-step state set k$n - &
    done
    wait
    """
    assert bench.run(code) == (0, "", "")
    states = bench.helper.settle(DONE).states
    assert states is not None
    assert states[STATE] == {f"k{n}": f"{n}{'x' * 20_000}" for n in range(1, 13)}


@pytest.mark.long
def test_one_that_is_killed_blocks_no_other(bench: Bench) -> None:
    here = f'here=$(dirname "$(command -v {HELPER})"); dd bs=8 count=1 <"$here/free"'
    for _ in range(3):  # it has taken a turn, and said half of a question
        half = bench.start(
            f"{here} >turn; printf '2\\0state' >>\"$here/$(cat turn).in\"; kill -9 $$"
        )
        half.communicate(timeout=10)
    assert bench.run("stroem-step state get count")[:2] == (0, "7\n")


def test_a_database_that_is_away_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "PAUSE_S", 0.01)
    bench.platform.outages = {"state_of": 3}
    assert bench.run("stroem-step state get count") == (0, "7\n", "")


@pytest.mark.long
def test_a_step_that_ends_meanwhile_does_not_wait_for_its_questions(bench: Bench) -> None:
    asked = threading.Event()

    def away(claim: Any) -> Any:
        asked.set()
        raise OperationalError("away")

    bench.platform.state_of = away  # type: ignore[method-assign]
    process = bench.start("stroem-step state get count")
    assert asked.wait(10)
    bench.helper.close()
    assert process.wait(10) == 69


def test_an_answer_that_nobody_reads_does_not_hold_the_end_up(bench: Bench) -> None:
    process = bench.start("stroem-step artifact get build site/a.bin /dev/stdout & kill -STOP $!")
    process.wait(10)
    bench.helper.close()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_secret_that_came_meanwhile_is_not_handed_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, masks=("known-secret",))
    bench.platform.state = Seen(4, {"k": "known-secret"}, hidden=("known-secret",))
    assert bench.run("stroem-step state get k")[:2] == (0, "known-secret\n")
    bench.platform.state = Seen(5, {"k": "new-secret"}, hidden=("new-secret",))
    status, out, err = bench.run("stroem-step state get k")
    bench.helper.close()
    assert (status, out) == (69, "") and "run the step again" in err


def test_the_output_of_a_consumer_is_its_events(tmp_path: Path) -> None:
    bench = Bench(tmp_path, emits=True)
    status, _, err = bench.run("stroem-step output set n 1")
    bench.helper.close()
    assert status == 65 and "print OUTPUT: lines" in err


def test_pipes_that_a_step_replaces_lead_nowhere(bench: Bench, tmp_path: Path) -> None:
    """On a worker without users of their own for steps, a step may do so."""
    target = tmp_path / "target"
    target.write_text("untouched")
    code = f"""
    here=$(dirname "$(command -v {HELPER})")
    for n in 1 2 3 4; do rm "$here/$n.out"; ln -s {target} "$here/$n.out"; done
    stroem-step state get count
    """
    process = bench.start(code)
    process.wait(10)
    assert target.read_text() == "untouched"


Order = Callable[..., Any]


def test_the_command_comes_last_in_the_path_of_a_local_step(tmp_path: Path) -> None:
    from engine.orders import HelperFolder
    from runners.host.local import env_of_step

    order = build_order(tmp_path, code="true", helper=HelperFolder(tmp_path / "helper"))
    env = env_of_step({"PATH": "/bin"}, order, "keeper")
    assert env["PATH"] == f"/bin:{tmp_path}/helper"
