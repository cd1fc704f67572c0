"""`manage.py run`: a task out of a folder, from a standing start to nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.house import OF_OTHER_DATABASES, ROOT, manage, plain_environment
from tests.apps.workspaces.test_libraries import commit
from tests.standalone.processes import eventually, mentions

FLOWS = """
actions:
  say: {type: script, script: 'echo "Hello {{ input.name }}"', input: {name: {type: string, required: true}}}
  noise: {type: script, script: 'printf "\\033]0;gotcha\\007\\033[31mred\\033[0m\\n"; echo second >&2'}
  boom: {type: script, script: "echo it broke >&2; exit 3"}
  wait: {type: script, script: 'touch "{{ input.mark }}"; sleep {{ input.seconds }}',
         input: {mark: {type: string}, seconds: {type: string}}}
  note: {type: script, script: 'sleep 0.5; echo "{{ input.text }}" >> "{{ input.path }}"',
         input: {text: {type: string}, path: {type: string}}}
tasks:
  greet:
    input: {name: {type: string, required: true}, times: {type: integer, default: 1}}
    flow:
      hello: {action: say, input: {name: "{{ input.name }}"}}
  loud: {flow: {noise: {action: noise}}}
  fail: {flow: {first: {action: boom}, second: {action: boom, depends_on: [first]}}}
  slow:
    input: {mark: {type: string}, seconds: {type: string}}
    flow: {wait: {action: wait, input: {mark: "{{ input.mark }}", seconds: "{{ input.seconds }}"}}}
  hooked:
    input: {path: {type: string}}
    flow: {hello: {action: say, input: {name: hook}}}
    on_success: [{action: note, input: {text: "{{ hook.status }}", path: FILE}}]
"""


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flows")
    (folder / "flows.yaml").write_text(FLOWS.replace("FILE", str(folder.parent / "hook-ran")))
    return folder


def result_of(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert finished.stdout.strip(), finished.stderr
    return dict(json.loads(finished.stdout.strip().splitlines()[-1]))


def test_the_first_example_completes_and_prints_its_result_as_json() -> None:
    finished = manage("run", "examples/hello", "hello-world", "--input", "name=World", "--json")
    assert finished.returncode == 0, finished.stderr
    result = result_of(finished)
    assert set(result) == {"job_id", "status", "output", "steps"}
    assert result["status"] == "completed"
    assert result["steps"]["say-hello"] == {
        "status": "completed",
        "output": {"greeting": "Hello World"},
        "error": None,
    }
    assert result["steps"]["shout"]["status"] == "completed"


def test_a_worker_with_settings_of_its_own_reads_secrets(tmp_path: Path) -> None:
    config = tmp_path / "worker-config.yaml"
    config.write_text("tags: [script, special]\n")
    (tmp_path / "flow.yaml").write_text(
        "secrets: {pw: s3cret-word}\n"
        "tasks: {t: {flow: {a: {type: script, tags: [special], env: {PW: '{{ secret.pw }}'},"
        ' script: \'echo "OUTPUT: {\\"n\\": ${#PW}}"\'}}}}\n'
    )
    finished = manage("run", str(tmp_path / "flow.yaml"), "--worker-config", str(config), "--json")
    assert finished.returncode == 0, finished.stderr
    assert result_of(finished)["output"] == {"a": {"n": 11}}


def test_variables_about_other_databases_do_not_keep_it_from_its_own() -> None:
    given = ("examples/hello", "hello-world", "--input", "name=World")
    finished = manage("run", *given, **OF_OTHER_DATABASES)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.long
def test_a_library_is_fetched_from_its_repository(tmp_path: Path) -> None:
    common = tmp_path / "common"
    commit(common)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "site.yaml").write_text(
        f"libraries: {{ common: {{ url: {common} }} }}\n"
        "tasks: { main: { flow: { two: { action: common.both } } } }\n"
    )
    finished = manage("run", str(tmp_path / "site"), "main")
    assert finished.returncode == 0, finished.stderr
    (tmp_path / "common").rename(tmp_path / "gone")
    finished = manage("run", str(tmp_path / "site"), "main")
    assert finished.returncode == 2 and "Library 'common': " in finished.stderr


def test_lines_come_with_their_step_and_nothing_of_them_steers_the_terminal(flows: Path) -> None:
    finished = manage("run", str(flows), "loud")
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert "noise | red" in lines and "noise | second" in lines
    assert "\x1b" not in finished.stdout and "gotcha" not in finished.stdout
    assert lines[-1] == "loud: completed"


def test_a_failing_task_exits_1_and_says_what_failed(flows: Path) -> None:
    finished = manage("run", str(flows), "fail", "--json")
    assert finished.returncode == 1
    steps = result_of(finished)["steps"]
    assert steps["first"]["status"] == "failed" and "it broke" in steps["first"]["error"]
    assert steps["second"]["status"] == "skipped"


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["greet2"], "has no task 'greet2' (did you mean 'greet'?)"),
        ([], "Name the task of"),
        (["greet"], "input 'name' is required"),
        (
            ["greet", "--input", "name=a", "--input", "tmes=2"],
            "input 'tmes' is not declared (did you mean 'times'?)",
        ),
        (
            ["greet", "--input", "name=a", "--input", "times=x"],
            "input 'times' must be a whole number",
        ),
        (["greet", "--input", "name"], "--input takes NAME=VALUE, not 'name'"),
    ],
)
def test_what_cannot_be_started_is_one_sentence_and_exits_2(
    flows: Path, arguments: list[str], sentence: str
) -> None:
    finished = manage("run", str(flows), *arguments)
    assert finished.returncode == 2
    assert sentence in finished.stderr and "Traceback" not in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1 and not finished.stdout


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("tasks:\n  a: [\n")
    finished = manage("run", str(tmp_path), "a")
    assert finished.returncode == 2
    assert "broken.yaml:3:1: error:" in finished.stderr and "Traceback" not in finished.stderr


def test_one_workflow_file_is_a_workspace_of_its_own_whose_only_task_need_not_be_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "broken.yaml").write_text("tasks: [")  # a neighbour: nobody asked for it
    file = tmp_path / "flow.yaml"
    file.write_text(
        "actions: {a: {type: script, script: 'ls'}}\ntasks: {main: {flow: {s: {action: a}}}}\n"
    )
    finished = manage("run", str(file), "--json")
    assert finished.returncode == 0, finished.stderr
    assert result_of(finished)["status"] == "completed"
    assert "s | flow.yaml" in finished.stderr and "broken.yaml" not in finished.stderr
    assert manage("validate", str(file)).returncode == 0
    file.write_text(file.read_text().replace("script: 'ls'", "source: ls.sh"))
    finished = manage("run", str(file))
    assert finished.returncode == 2
    assert (
        "flow.yaml:1:29: error: Action 'a' source 'ls.sh' does not exist in the workspace"
        in finished.stderr
    )


def test_a_file_without_a_task_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text("actions: {a: {type: script, script: 'true'}}\n")
    finished = manage("run", str(file))
    assert finished.returncode == 2
    assert finished.stderr == f"error: {file} has no task to run: add one under 'tasks'.\n"


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    finished = manage("run", str(tmp_path / "nowhere"), "a")
    assert finished.returncode == 2 and "There is nothing at" in finished.stderr


@pytest.mark.long
def test_it_waits_for_the_hooks_that_the_job_set_off(flows: Path) -> None:
    finished = manage("run", str(flows), "hooked", "--input", "path=x")
    assert finished.returncode == 0, finished.stderr
    assert (flows.parent / "hook-ran").read_text() == "completed\n"
    assert "hook:note/hook: completed" in finished.stdout


class Run:
    """One `run` of a step that waits, with a directory for its temporary files."""

    def __init__(self, flows: Path, folder: Path, seconds: str, *more: str) -> None:
        folder.mkdir()
        self.mark, self.seconds = folder / "has-begun", seconds
        self.temporary = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
        command = [sys.executable, "manage.py", "run", str(flows), "slow", "--json", *more]
        command += ["--input", f"mark={self.mark}", "--input", f"seconds={seconds}"]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=plain_environment(TMPDIR=str(self.temporary)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_until_its_step_runs(self) -> None:
        eventually(lambda: self.mark.exists() or self.process.poll() is not None, within_s=60)
        assert self.process.poll() is None, self.process.communicate()

    def is_gone(self) -> bool:
        return (
            not mentions(str(self.temporary))
            and not mentions(f"sleep {self.seconds}")
            and not mentions(self.seconds)
        )


@pytest.mark.sample(3)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind_however_it_ends(flows: Path, tmp_path: Path, number: int) -> None:
    run = Run(flows, tmp_path / "run", f"{1000 + number}.{os.getpid()}")
    run.wait_until_its_step_runs()

    run.process.send_signal(number)
    run.process.wait(15)

    eventually(run.is_gone, within_s=10)
    eventually(lambda: not list(run.temporary.iterdir()))
    run.temporary.rmdir()
    if number == signal.SIGINT:
        assert run.process.returncode == 130


@pytest.mark.long
def test_two_at_once_do_not_meet(flows: Path, tmp_path: Path) -> None:
    runs = [Run(flows, tmp_path / str(index), "3") for index in range(2)]
    for run in runs:
        run.wait_until_its_step_runs()
    answers = [run.process.communicate(timeout=60) for run in runs]
    assert [run.process.returncode for run in runs] == [0, 0], answers
    jobs = {json.loads(out.strip().splitlines()[-1])["job_id"] for out, _ in answers}
    assert len(jobs) == 2
    for run in runs:
        assert not list(run.temporary.iterdir())
        run.temporary.rmdir()


@pytest.mark.long
def test_it_touches_neither_the_data_directory_nor_the_servers_of_an_installation(
    flows: Path, tmp_path: Path
) -> None:
    data_dir = tmp_path / "var"
    finished = manage(
        "run",
        str(flows),
        "greet",
        "--input",
        "name=x",
        STROEM__DATA_DIR=str(data_dir),
        STROEM__DB__URL="postgresql://127.0.0.1:1/production",
        STROEM__BROKER__URL="redis://127.0.0.1:1/0",
    )
    assert finished.returncode == 0, finished.stderr
    assert not data_dir.exists()


@pytest.mark.long
def test_it_starts_quickly() -> None:
    """Measured in processor time, which other work on the machine does not lengthen."""
    manage("run", "examples/hello", "hello-world")  # the first one prepares a cluster
    before = os.times()
    began = time.monotonic()
    manage("run", "examples/hello", "hello-world")
    wall_s, after = time.monotonic() - began, os.times()
    used_s = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    assert used_s < 6.0, f"{used_s:.1f} s of processor time, {wall_s:.1f} s in all"
