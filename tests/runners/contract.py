"""What every runner promises, whatever it runs steps in. Each runner's suite inherits
`RunnerContract` and supplies two fixtures: `runner`, and `leftovers`, which lists what of an
attempt still exists (processes, containers, pods).

Scripts here are plain POSIX shell, so that they mean the same on a host and in any image with `sh`,
`tr` and `seq`.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from engine.orders import Limits, Line, ScriptWork, StateFolders, StepOrder, StepOutcome, Verdict
from runners.base import Runner

Leftovers = Callable[[str], list[str]]

HOSTILE = (
    "plain",
    "",
    " leading and trailing ",
    "two\nlines",
    "tab\there",
    "$(touch pwned) `touch pwned` ; touch pwned & | > < \\ ' \" * ? [a] {b} ~ # !",
    "--option",
    "ünïcödé ☃ 𝄞",
    "%s %d \\n \\x41",
)
PRINT_ARGS = 'for value in "$@"; do printf \'[%s]\\n\' "$value"; done'


class Stop:
    """A stop signal that a test sets by hand."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        return self._reason

    def wait(self, timeout_s: float) -> bool:
        return self._event.wait(timeout_s)

    def on_set(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if self._reason is None:
                self._callbacks.append(callback)
                return
        callback()

    def set(self, reason: str = "cancel") -> None:
        with self._lock:
            self._reason = reason
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class Log:
    """A sink that keeps every line and lets a test wait for one."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._changed = threading.Condition()

    def __call__(self, line: Line) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def texts(self, stream: str | None = None) -> list[str]:
        return [
            line.text
            for line in self.lines
            if line.stream == stream or (stream is None and line.stream != "server")
        ]

    def wait_for(self, text: str, timeout_s: float = 30.0) -> None:
        with self._changed:
            seen = self._changed.wait_for(
                lambda: any(text in line.text for line in self.lines), timeout_s
            )
        assert seen, (
            f"no line with {text!r} within {timeout_s} s; got"
            f" {[line.text for line in self.lines][-20:]}"
        )


@dataclass
class Run:
    """An attempt under way in a thread of its own."""

    order: StepOrder
    log: Log
    stop: Stop
    future: Future[StepOutcome]

    def outcome(self, timeout_s: float = 60.0) -> StepOutcome:
        return self.future.result(timeout_s)


def build_order(tmp_path: Path, code: str | None = None, **changes: Any) -> StepOrder:
    """An order for a piece of shell, or for any other `work`; keywords replace fields of the order,
    of its work and of its limits, whichever has them."""
    attempt = f"t-{uuid.uuid4().hex[:16]}"
    scratch = tmp_path / f"scratch-{attempt}"
    scratch.mkdir(mode=0o700)
    work = changes.pop("work", None)
    if work is None:
        fields = {name: changes.pop(name) for name in ScriptWork.__slots__ if name in changes}
        if code is None and "source" not in fields:
            code = "true"
        if "workspace_dir" not in fields:
            fields["workspace_dir"] = tmp_path / f"workspace-{attempt}"
            fields["workspace_dir"].mkdir(mode=0o755)
        fields.setdefault("is_open", True)  # as most scripts are
        work = ScriptWork(code=code, **fields)
    limits = replace(
        Limits(), **{name: changes.pop(name) for name in Limits.__slots__ if name in changes}
    )
    env: Mapping[str, str] = changes.pop("env", {})
    order = StepOrder(
        attempt=attempt,
        job_id="00000000-0000-4000-8000-000000000001",
        task_name="deploy",
        step_name="build",
        workspace="default",
        number=1,
        work=work,
        scratch_dir=scratch,
        env={
            "STROEM_JOB_ID": "00000000-0000-4000-8000-000000000001",
            "STROEM_STEP_NAME": "build",
            **env,
        },
        limits=limits,
    )
    return replace(order, **changes)


class RunnerContract:
    """Inherit, and supply the fixtures `runner` and `leftovers`."""

    gone_after_term_s = 2.0
    gone_after_stop_s = 10.0
    slack_s = 0.0  # what an engine with containers may take longer to start and to remove things

    @pytest.fixture
    def runner(self) -> Runner:
        raise NotImplementedError("the inheriting suite supplies the runner")

    @pytest.fixture
    def leftovers(self) -> Leftovers:
        raise NotImplementedError("the inheriting suite lists what is left of an attempt")

    @pytest.fixture
    def start(self, runner: Runner, tmp_path: Path) -> Any:
        """Start an attempt: `start(code, **fields) -> Run`."""
        runs: list[Run] = []
        with ThreadPoolExecutor(16) as pool:

            def begin(code: str | None = None, stop: Stop | None = None, **fields: Any) -> Run:
                order, log, signal = build_order(tmp_path, code, **fields), Log(), stop or Stop()
                run = Run(order, log, signal, pool.submit(runner.run, order, log, signal))
                runs.append(run)
                return run

            yield begin
            for run in runs:
                if not run.future.done():
                    run.stop.set()

    @pytest.fixture
    def finish(self, start: Any) -> Callable[..., tuple[StepOutcome, Log]]:
        """Run an attempt to its end: `finish(code, **fields) -> (outcome, log)`."""

        def run(code: str | None = None, **fields: Any) -> tuple[StepOutcome, Log]:
            begun = start(code, **fields)
            return begun.outcome(), begun.log

        return run

    @pytest.fixture
    def state_folders(self, tmp_path: Path) -> StateFolders:
        """Four empty directories."""
        task, task_out, shared, shared_out = (tmp_path / f"state-{number}" for number in range(4))
        for folder in (task, task_out, shared, shared_out):
            folder.mkdir()
        return StateFolders((task, task_out), (shared, shared_out))

    # lines

    def test_lines_arrive_whole_and_in_order(self, finish: Any) -> None:
        outcome, log = finish('i=0; while [ $i -lt 300 ]; do echo "line $i"; i=$((i+1)); done')
        assert outcome.verdict is Verdict.SUCCEEDED
        assert outcome.exit_code == 0
        assert outcome.error is None
        assert log.texts("stdout") == [f"line {number}" for number in range(300)]

    def test_stdout_and_stderr_are_told_apart_and_keep_their_order(self, finish: Any) -> None:
        _, log = finish("echo one; sleep 0.3; echo two >&2; sleep 0.3; echo three")
        assert [(line.stream, line.text) for line in log.lines if line.stream != "server"] == [
            ("stdout", "one"),
            ("stderr", "two"),
            ("stdout", "three"),
        ]

    def test_a_line_is_told_while_the_step_still_runs(self, start: Any) -> None:
        run = start("echo early; sleep 300")
        run.log.wait_for("early")
        assert not run.future.done()
        run.stop.set()
        run.outcome()

    def test_a_last_line_without_newline_is_kept(self, finish: Any) -> None:
        assert finish("printf 'no newline'")[1].texts() == ["no newline"]

    def test_empty_lines_are_kept(self, finish: Any) -> None:
        assert finish("echo; echo a; echo; echo b")[1].texts() == ["", "a", "", "b"]

    def test_lines_carry_the_time_at_which_they_were_read(self, finish: Any) -> None:
        before = time.time()
        _, log = finish("echo one; sleep 0.5; echo two")
        first, second = (line.at for line in log.lines if line.stream == "stdout")
        assert before - 1 <= first <= second - 0.3
        assert second <= time.time() + 1

    def test_broken_unicode_and_nul_are_repaired(self, finish: Any) -> None:
        _, log = finish(
            r"printf 'a\377b\n'; printf 'c\000d\n'; printf '\342\230\203\n'; printf '\342\230\n'"
        )
        assert log.texts() == ["a\ufffdb", "c\ufffdd", "☃", "\ufffd"]

    def test_a_character_split_between_two_writes_is_one_character(self, finish: Any) -> None:
        assert finish(r"printf 'x\342\230'; sleep 0.3; printf '\203y\n'")[1].texts() == ["x☃y"]

    def test_a_progress_bar_is_one_line_at_its_end(self, finish: Any) -> None:
        _, log = finish(r"printf '10%%\r50%%\r100%%\n'; printf 'dos\r\n'")
        assert log.texts() == ["100%", "dos"]

    def test_a_long_line_is_cut_with_a_marker(self, finish: Any) -> None:
        _, log = finish(
            "head -c 300000 /dev/zero | tr '\\000' x; echo; echo after", line_bytes=1000
        )
        long, after = log.texts()
        assert long.startswith("x" * 1000)
        assert len(long) < 1100
        assert "cut" in long[1000:]
        assert after == "after"

    def test_a_flood_is_bounded_and_says_so_once(self, finish: Any) -> None:
        outcome, log = finish("seq 1 20000; echo 'OUTPUT: {\"end\": true}'", log_bytes=10_000)
        assert outcome.verdict is Verdict.SUCCEEDED
        assert outcome.output == {"end": True}
        assert sum(len(text) + 1 for text in log.texts()) <= 10_000
        assert log.texts()[0] == "1"
        notes = [line.text for line in log.lines if "truncated" in line.text]
        assert len(notes) == 1
        told = [line.text for line in log.lines]
        assert told.index(notes[0]) > told.index(log.texts()[-1])

    # ends

    def test_a_non_zero_exit_is_a_failure_with_code_and_tail_of_stderr(self, finish: Any) -> None:
        outcome, _ = finish("echo fine; echo boom >&2; exit 3")
        assert outcome.verdict is Verdict.FAILED, outcome
        assert outcome.exit_code == 3
        assert outcome.error == "Exit code: 3\nStderr: boom"

    def test_the_error_holds_only_the_tail_of_stderr(self, finish: Any) -> None:
        outcome, _ = finish("seq 1 20000 >&2; exit 1")
        assert outcome.error.endswith("19999\n20000")
        assert len(outcome.error) < 4300

    def test_a_death_by_signal_reads_as_128_plus_its_number(self, finish: Any) -> None:
        outcome, _ = finish("kill -9 $$")
        assert outcome.verdict is Verdict.FAILED, outcome
        assert outcome.exit_code == 137

    def test_a_step_that_takes_too_long_is_ended(self, start: Any, leftovers: Leftovers) -> None:
        run = start("echo begun; sleep 300", timeout_s=1.0 + self.slack_s)
        began = time.monotonic()
        outcome = run.outcome()
        assert outcome.verdict is Verdict.TIMED_OUT
        assert outcome.error == f"Step timed out after {1.0 + self.slack_s:g}s"
        assert time.monotonic() - began < 1.0 + self.gone_after_term_s + 2 * self.slack_s
        assert run.log.texts() == ["begun"]
        assert leftovers(run.order.attempt) == []

    def test_what_heeds_term_is_gone_two_seconds_after_the_request(
        self, start: Any, leftovers: Leftovers
    ) -> None:
        run = start("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done")
        run.log.wait_for("ready")
        asked = time.monotonic()
        run.stop.set("cancel")
        outcome = run.outcome()
        assert time.monotonic() - asked < self.gone_after_term_s + self.slack_s
        assert outcome.verdict is Verdict.CANCELLED
        assert outcome.error == "Job cancelled"
        assert "bye" in run.log.texts()
        assert leftovers(run.order.attempt) == []

    def test_what_ignores_term_is_gone_ten_seconds_after_the_request(
        self, start: Any, leftovers: Leftovers
    ) -> None:
        run = start("trap '' TERM; echo ready; while :; do sleep 0.1; done", stop_grace_s=1.0)
        run.log.wait_for("ready")
        asked = time.monotonic()
        run.stop.set("cancel")
        assert run.outcome().verdict is Verdict.CANCELLED
        assert 0.9 < time.monotonic() - asked < self.gone_after_stop_s
        assert leftovers(run.order.attempt) == []

    def test_what_ignores_term_does_not_hold_up_a_worker_that_leaves(
        self, start: Any, leftovers: Leftovers
    ) -> None:
        run = start("trap '' TERM; echo ready; while :; do sleep 0.1; done", stop_grace_s=600.0)
        run.log.wait_for("ready")
        asked = time.monotonic()
        run.stop.set("drain")
        assert run.outcome().verdict is Verdict.LOST
        assert time.monotonic() - asked < 3.0 + self.slack_s
        assert leftovers(run.order.attempt) == []

    @pytest.mark.long
    def test_a_very_long_grace_does_not_outlast_ten_seconds(
        self, start: Any, leftovers: Leftovers
    ) -> None:
        run = start("trap '' TERM; echo ready; while :; do sleep 0.1; done", stop_grace_s=600.0)
        run.log.wait_for("ready")
        asked = time.monotonic()
        run.stop.set("cancel")
        run.outcome()
        assert time.monotonic() - asked < self.gone_after_stop_s
        assert leftovers(run.order.attempt) == []

    @pytest.mark.parametrize("reason", ["drain", "lost"])
    def test_a_stop_that_is_not_the_users_is_a_loss(self, start: Any, reason: str) -> None:
        run = start("echo ready; sleep 300")
        run.log.wait_for("ready")
        run.stop.set(reason)
        assert run.outcome().verdict is Verdict.LOST

    def test_a_stop_before_the_start_runs_nothing(self, finish: Any, leftovers: Leftovers) -> None:
        stop = Stop()
        stop.set("cancel")
        outcome, log = finish("echo never", stop=stop)
        assert outcome.verdict is Verdict.CANCELLED
        assert log.texts() == []

    # what is left behind

    def test_nothing_is_left_of_a_step_that_ended_well(
        self, start: Any, leftovers: Leftovers
    ) -> None:
        run = start("(sleep 300 >/dev/null 2>&1 &) ; sleep 300 & echo done")
        assert run.outcome().verdict is Verdict.SUCCEEDED
        assert run.log.texts() == ["done"]
        assert leftovers(run.order.attempt) == []

    def test_nothing_is_left_of_a_step_that_was_stopped(
        self, start: Any, leftovers: Leftovers
    ) -> None:
        run = start(
            "setsid sleep 300 & (setsid sh -c 'trap \"\" TERM; sleep 300' >/dev/null 2>&1 &); echo"
            " ready; sleep 300",
            stop_grace_s=1.0,
        )
        run.log.wait_for("ready")
        run.stop.set("cancel")
        run.outcome()
        assert leftovers(run.order.attempt) == []

    def test_a_sweep_spares_what_is_alive_and_may_be_repeated(
        self, start: Any, runner: Runner
    ) -> None:
        run = start('echo ready; while [ ! -e go ] && [ ! -e "$TMPDIR/never" ]; do sleep 0.1; done')
        run.log.wait_for("ready")
        for _ in range(2):
            runner.sweep(frozenset({run.order.attempt}))
        assert not run.future.done()
        run.stop.set("cancel")
        assert run.outcome().verdict is Verdict.CANCELLED
        for _ in range(2):
            runner.sweep(frozenset())

    # output

    @pytest.mark.parametrize(
        ("printed", "expected"),
        [
            ('OUTPUT: {"a": 1}', {"a": 1}),
            ('OUTPUT:{"a": [1, null, true]}', {"a": [1, None, True]}),
            ('OUTPUT: "text"', "text"),
            ("OUTPUT: 42", 42),
            ("OUTPUT: null", None),
        ],
    )
    def test_an_output_line_holds_any_json_value(
        self, finish: Any, printed: str, expected: object
    ) -> None:
        outcome, log = finish(f"cat <<'END'\n{printed}\nEND")
        assert outcome.has_output
        assert outcome.output == expected
        assert printed in log.texts()

    def test_the_last_output_line_that_parses_wins(self, finish: Any) -> None:
        outcome, log = finish(
            "echo 'OUTPUT: 1'; echo 'OUTPUT: {\"v\": 2}'; echo 'OUTPUT: {broken'; echo 'OUTPUT:'"
        )
        assert outcome.verdict is Verdict.SUCCEEDED
        assert outcome.output == {"v": 2}
        assert (
            len([line for line in log.lines if line.stream == "server" and "OUTPUT:" in line.text])
            == 2
        )

    def test_an_output_that_cannot_be_passed_on_exactly_fails_the_step(self, finish: Any) -> None:
        outcome, _log = finish("echo 'OUTPUT: {\"loss\": NaN}'; echo 'OUTPUT: 1'")
        assert outcome.verdict is Verdict.FAILED, outcome
        assert outcome.error is not None and "NaN is not a JSON value" in outcome.error
        assert not outcome.has_output

    def test_lines_of_state_come_with_the_outcome_however_old_they_are(self, finish: Any) -> None:
        outcome, log = finish(
            "echo 'STATE: {\"a\": 1}'; echo 'GLOBAL_STATE: {\"g\": [true]}';"
            " echo 'STATE: {\"b\": 2}'; echo 'STATE: [1]'; echo ' STATE: {\"c\": 3}'"
        )
        assert outcome.verdict is Verdict.SUCCEEDED
        assert outcome.states == {"STATE:": {"a": 1, "b": 2}, "GLOBAL_STATE:": {"g": [True]}}
        (told,) = [line.text for line in log.lines if line.stream == "server"]
        assert "it is no JSON object" in told
        assert 'STATE: {"a": 1}' in log.texts()

    def test_directories_of_state_go_in_and_come_back(
        self, finish: Any, state_folders: StateFolders
    ) -> None:
        inside, out = state_folders.task
        (inside / "state.json").write_text('{"n": 1}')
        (inside / "deep").mkdir()
        (inside / "deep" / "tool.sh").write_text("echo ran")
        (inside / "deep" / "tool.sh").chmod(0o755)
        (state_folders.workspace[0] / "wide").write_bytes(bytes(range(256)))
        outcome, log = finish(
            'cat "$STATE_DIR/state.json"; echo; "$STATE_DIR/deep/tool.sh";'
            ' mkdir -p "$STATE_OUT_DIR/sub dir"; printf new >"$STATE_OUT_DIR/sub dir/ü";'
            ' cp "$GLOBAL_STATE_DIR/wide" "$GLOBAL_STATE_OUT_DIR/wide"; echo \'{"n": 2}\''
            ' >"$STATE_OUT_DIR/state.json"; ls "$STATE_OUT_DIR"',
            env=state_folders.environment,
            state=state_folders,
        )
        assert outcome.error is None
        assert log.texts()[:2] == ['{"n": 1}', "ran"]
        assert (out / "sub dir" / "ü").read_text() == "new"
        assert (out / "state.json").read_text() == '{"n": 2}\n'
        assert (state_folders.workspace[1] / "wide").read_bytes() == bytes(range(256))

    def test_a_step_that_fails_leaves_no_state_and_one_that_leaves_none_is_fine(
        self, finish: Any, state_folders: StateFolders
    ) -> None:
        outcome, log = finish("echo only this", env=state_folders.environment, state=state_folders)
        assert outcome.error is None and log.texts() == ["only this"]
        outcome, _ = finish(
            'touch "$STATE_OUT_DIR/x"; exit 3', env=state_folders.environment, state=state_folders
        )
        assert outcome.exit_code == 3

    def test_only_stdout_at_column_zero_is_output(self, finish: Any) -> None:
        outcome, _ = finish(
            "echo 'OUTPUT: 1' >&2; echo ' OUTPUT: 2'; echo 'x OUTPUT: 3'; printf 'a\\rOUTPUT: 4\\n'"
        )
        assert not outcome.has_output
        assert outcome.output is None

    def test_an_output_longer_than_a_log_line_is_still_read(self, finish: Any) -> None:
        code = "printf 'OUTPUT: \"'; head -c 200000 /dev/zero | tr '\\000' x; printf '\"\\n'"
        outcome, log = finish(code, line_bytes=1000)
        assert outcome.output == "x" * 200_000
        assert len(log.texts()[0]) < 1100

    def test_an_output_beyond_the_limit_fails_the_step(self, finish: Any) -> None:
        code = "printf 'OUTPUT: \"'; head -c 200000 /dev/zero | tr '\\000' x; printf '\"\\n'"
        outcome, _ = finish(code, output_bytes=100_000)
        assert outcome.verdict is Verdict.FAILED, outcome
        assert "100000" in outcome.error.replace(",", "")
        assert not outcome.has_output

    def test_the_output_of_a_failed_step_is_told_too(self, finish: Any) -> None:
        outcome, _ = finish("echo 'OUTPUT: 7'; exit 1")
        assert outcome.verdict is Verdict.FAILED, outcome
        assert outcome.output == 7

    # what the step is given

    def test_arguments_arrive_byte_for_byte(self, finish: Any) -> None:
        outcome, log = finish(PRINT_ARGS, args=HOSTILE)
        assert outcome.verdict is Verdict.SUCCEEDED
        assert "\n".join(log.texts()) == "\n".join(f"[{value}]" for value in HOSTILE)

    def test_environment_arrives_byte_for_byte(self, finish: Any) -> None:
        for value in HOSTILE:
            _, log = finish("printf '[%s]\\n' \"$VALUE\"", env={"VALUE": value})
            assert "\n".join(log.texts()) == f"[{value}]"

    def test_the_order_is_named_in_the_environment(self, finish: Any) -> None:
        assert finish('echo "$STROEM_STEP_NAME $STROEM_JOB_ID"')[1].texts() == [
            "build 00000000-0000-4000-8000-000000000001"
        ]

    def test_the_workers_own_environment_does_not_reach_a_step(
        self, finish: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STROEM__DB__URL", "postgresql://canary:canary@db/stroem")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
        assert not [
            text
            for text in finish("env; cat /proc/self/environ | tr '\\000' '\\n'")[1].texts()
            if "canary" in text
        ]

    def test_script_text_that_may_be_secret_is_not_to_be_seen_in_any_argument_list(
        self, finish: Any
    ) -> None:
        _, log = finish(
            "cat /proc/$$/cmdline | tr '\\000' ' '; echo; : sesame-canary", is_open=False
        )
        assert "sesame-canary" not in "".join(log.texts())

    def test_a_script_begins_in_the_root_of_its_workspace(
        self, finish: Any, tmp_path: Path
    ) -> None:
        tree = tmp_path / "tree"
        (tree / "data").mkdir(parents=True)
        (tree / "data" / "name.txt").write_text("World\n")
        (tree / "hello.sh").write_text('echo "Hello $(cat data/name.txt) $1"\n')
        assert finish("cat data/name.txt", workspace_dir=tree)[1].texts() == ["World"]
        assert finish(source="hello.sh", args=("again",), workspace_dir=tree)[1].texts() == [
            "Hello World again"
        ]

    def test_a_source_with_exec_bit_and_shebang_is_run_directly(
        self, finish: Any, tmp_path: Path
    ) -> None:
        tree = tmp_path / "tree"
        tree.mkdir()
        script = tree / "count.sh"
        script.write_text("#!/bin/sh -e\nfalse\necho not reached\n")
        script.chmod(0o755)
        outcome, log = finish(source="count.sh", workspace_dir=tree)
        assert outcome.exit_code == 1
        assert log.texts() == []

    def test_a_source_that_is_missing_or_outside_is_one_sentence(
        self, finish: Any, tmp_path: Path
    ) -> None:
        tree = tmp_path / "tree"
        tree.mkdir()
        (tmp_path / "outside.sh").write_text("echo outside\n")
        for source in ("missing.sh", "../outside.sh", str(tmp_path / "outside.sh")):
            outcome, log = finish(source=source, workspace_dir=tree)
            assert outcome.verdict is Verdict.FAILED, outcome
            assert source in outcome.error
            assert "\n" not in outcome.error
            assert log.texts() == []

    def test_workdir_is_a_folder_of_the_workspace(self, finish: Any, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        (tree / "sub" / "deep").mkdir(parents=True)
        (tree / "sub" / "deep" / "mark.txt").write_text("here\n")
        assert finish("cat mark.txt", workspace_dir=tree, workdir="sub/deep")[1].texts() == ["here"]

    def test_steps_run_side_by_side_without_mixing(self, start: Any) -> None:
        runs = [
            start(
                f'i=0; while [ $i -lt 50 ]; do echo "{n}:$i"; i=$((i+1)); done; echo "OUTPUT: {n}"'
            )
            for n in range(6)
        ]
        for number, run in enumerate(runs):
            assert run.outcome().output == number
            assert run.log.texts()[:50] == [f"{number}:{i}" for i in range(50)]

    def test_dependencies_are_refused_for_shell(self, finish: Any) -> None:
        outcome, _ = finish("true", dependencies=("requests",))
        assert outcome.verdict is Verdict.FAILED, outcome
        assert "dependencies" in outcome.error
        assert "shell" in outcome.error
