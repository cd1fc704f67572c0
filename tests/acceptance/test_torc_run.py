"""Torc files through `manage.py`: run without naming a task, validated, imported, in all of their
notations."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.acceptance.house import ROOT, manage

SPEC = {
    "name": "chain",
    "parameters": {"i": "1:2"},
    "failure_handlers": [
        {
            "name": "again",
            "rules": [
                {
                    "exit_codes": [3],
                    "recovery_script": "echo $TORC_RETURN_CODE > recovered",
                    "max_retries": 2,
                }
            ],
        }
    ],
    "files": [{"name": "raw", "path": "raw.txt"}, {"name": "sum", "path": "sum.txt"}],
    "user_data": [{"name": "conf", "data": {"word": "hello"}}],
    "jobs": [
        {
            "name": "fetch",
            "command": (
                "test -e recovered || exit 3; echo '${user_data.input.conf}' > ${files.output.raw}"
            ),
            "failure_handler": "again",
        },
        {
            "name": "work_{i:02d}",
            "command": (
                "cat ${files.input.raw}; echo $PART $TORC_JOB_NAME $TORC_ATTEMPT_ID >"
                " $TORC_OUTPUT_DIR/work_{i}"
            ),
            "invocation_script": "export PART={i};",
            "use_parameters": ["i"],
        },
        {
            "name": "sum",
            "command": "cat output/work_* > ${files.output.sum}",
            "depends_on_regexes": ["^work_"],
        },
    ],
    "actions": [
        {
            "trigger_type": "on_workflow_start",
            "action_type": "run_commands",
            "commands": ["pwd > begun"],
        },
        {
            "trigger_type": "on_jobs_complete",
            "action_type": "run_commands",
            "job_name_regexes": ["work_"],
            "commands": ["env | grep -E '^(TORC|STROEM)_' | sort > told"],
        },
        {
            "trigger_type": "on_worker_start",
            "action_type": "run_commands",
            "commands": ["date +%s%N > came"],
        },
        {
            "trigger_type": "on_worker_complete",
            "action_type": "run_commands",
            "commands": ["date +%s%N > left"],
        },
    ],
}
# JSON is YAML and JSON5 as well; the notations themselves are compared in tests/engine/spec/torc.
KDL = r"""
name "chain"
parameters { i "1:2"; }
failure_handler "again" {
    rule { exit_codes 3; recovery_script "echo $TORC_RETURN_CODE > recovered"; max_retries 2; }
}
file "raw" path="raw.txt"
file "sum" path="sum.txt"
user_data "conf" { data "{\"word\": \"hello\"}"; }
job "fetch" {
    command "test -e recovered || exit 3; echo '${user_data.input.conf}' > ${files.output.raw}"
    failure_handler "again"
}
job "work_{i:02d}" {
    command "cat ${files.input.raw}; echo $PART $TORC_JOB_NAME $TORC_ATTEMPT_ID > $TORC_OUTPUT_DIR/work_{i}"
    invocation_script "export PART={i};"
    use_parameters "i"
}
job "sum" {
    command "cat output/work_* > ${files.output.sum}"
    depends_on_regexes "^work_"
}
action { trigger_type "on_workflow_start"; action_type "run_commands"; command "pwd > begun"; }
action {
    trigger_type "on_jobs_complete"
    action_type "run_commands"
    job_name_regexes "work_"
    command "env | grep -E '^(TORC|STROEM)_' | sort > told"
}
action { trigger_type "on_worker_start"; action_type "run_commands"; command "date +%s%N > came"; }
action { trigger_type "on_worker_complete"; action_type "run_commands"; command "date +%s%N > left"; }
"""


def spec_text(suffix: str) -> str:
    body = json.dumps(SPEC, indent=1)
    return {"kdl": KDL, "json5": f"// a comment\n{body}"}.get(suffix, body)


def written(folder: Path, suffix: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"chain.{suffix}").write_text(spec_text(suffix))
    return folder / f"chain.{suffix}"


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "suffix",
    ["yaml", *(pytest.param(one, marks=pytest.mark.slow) for one in ("json", "json5")), "kdl"],
)
def test_a_torc_file_is_run_as_it_is(tmp_path: Path, suffix: str) -> None:
    ended = manage("run", str(written(tmp_path / "here", suffix)), "--json", timeout_s=110)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.strip().splitlines()[-1])
    assert {name: step["status"] for name, step in result["steps"].items()} == dict.fromkeys(
        ["fetch", "work_01", "work_02", "sum"], "completed"
    )
    here = tmp_path / "here"
    assert (here / "recovered").read_text() == "3\n", (
        "the failed attempt's exit code, told to the recovery script"
    )
    assert (here / "raw.txt").read_text() == '{"word":"hello"}\n'
    assert (here / "sum.txt").read_text() == "1 work_01 1\n2 work_02 1\n", (
        "steps run beside the file"
    )
    output = here / "output"
    assert (output / "begun").read_text() == f"{output}\n", "actions run in its output directory"
    told = dict(line.split("=", 1) for line in (output / "told").read_text().splitlines())
    assert told["TORC_OUTPUT_DIR"] == told["STROEM_OUTPUT_DIR"] == str(output)
    assert told["TORC_WORKFLOW_ID"] == told["STROEM_JOB_ID"] == result["job_id"]
    assert told["STROEM_TRIGGER"] == "on_jobs_complete" and told["STROEM_OUTCOME"] == "completed"
    assert not {name for name in told if "DB" in name or "BROKER" in name or "SECRET" in name}
    came, left = (int((output / name).read_text()) for name in ("came", "left"))
    first = (here / "recovered").stat().st_mtime_ns
    assert came < first < left, (
        "the worker's own actions come before its first step and after its last"
    )
    assert sorted(path.name for path in here.iterdir()) == [
        f"chain.{suffix}", "output", "raw.txt", "recovered", "sum.txt",
    ]  # fmt: skip


@pytest.mark.long
def test_the_exit_code_says_that_a_job_failed(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\njobs:\n- {name: a, command: exit 9}\n")
    ended = manage("run", str(tmp_path / "bad.yaml"), timeout_s=110)
    assert ended.returncode == 1 and "bad: failed" in ended.stdout


@pytest.mark.long
def test_steps_run_where_chdir_says_and_what_they_read_must_be_there(tmp_path: Path) -> None:
    file = tmp_path / "spec" / "s.yaml"
    file.parent.mkdir()
    file.write_text(
        "name: s\njobs:\n- {name: a, command: 'cat ${files.input.raw} > got; pwd >> got'}\nfiles:"
        " [{name: raw, path: in/raw.txt}]\nactions: [{trigger_type: on_workflow_complete,"
        " action_type: run_commands, commands: ['pwd > ended']}]\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    missing = manage("run", str(file), "--chdir", str(elsewhere))
    assert missing.returncode == 2 and "Missing required files: in/raw.txt" in missing.stderr
    (elsewhere / "in").mkdir()
    (elsewhere / "in" / "raw.txt").write_text("data\n")
    ended = manage("run", str(file), "--chdir", str(elsewhere), timeout_s=110)
    assert ended.returncode == 0, ended.stderr
    assert (elsewhere / "got").read_text() == f"data\n{elsewhere}\n"
    assert (elsewhere / "output" / "ended").read_text() == f"{elsewhere / 'output'}\n"
    assert os.listdir(file.parent) == ["s.yaml"]


@pytest.mark.long
def test_validate_lists_what_is_selected_and_doubts_what_fits_in_part(tmp_path: Path) -> None:
    file = tmp_path / "v.yaml"
    file.write_text(
        "name: v\njobs:\n- {name: 'train_{i}', command: x, parameters: {i: '1:10'}}\nactions:\n-"
        " {trigger_type: on_jobs_ready, action_type: run_commands, commands: [x], job_name_regexes:"
        " [train_1]}\n"
    )
    found = manage("validate", str(file))
    assert found.returncode == 0, found.stderr
    assert "v.yaml:5:3: note: on_jobs_ready of task 'v' selects train_1, train_10" in found.stdout
    assert "v.yaml:5:" in found.stdout and "as a whole it matches only 'train_1'" in found.stdout
    file.write_text(file.read_text().replace("on_jobs_ready", "on_jobs_redy"))
    wrong = manage("validate", str(file))
    assert wrong.returncode == 1
    assert "v.yaml:5:" in wrong.stdout and "unknown trigger_type 'on_jobs_redy'" in wrong.stdout
    assert "Traceback" not in wrong.stdout + wrong.stderr


@pytest.mark.long
def test_a_folder_of_torc_files_is_validated_as_one_workspace(tmp_path: Path) -> None:
    for suffix in ("json", "kdl"):
        path = written(tmp_path / suffix, suffix)
        path.write_text(path.read_text().replace('"chain"', f'"chain-{suffix}"'))
    (tmp_path / "package.json").write_text('{"name": "other"}')
    found = manage("validate", str(tmp_path))
    assert found.returncode == 0 and "Valid: 2 tasks" in found.stdout, found.stdout


@pytest.mark.long
@pytest.mark.parametrize("file", ["sweep.yaml", "pipeline.kdl"])
def test_the_examples_run(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    path.write_bytes((ROOT / "examples" / "torc" / file).read_bytes())
    ended = manage("run", str(path), "--json", timeout_s=110)
    assert ended.returncode == 0, ended.stderr
    steps = json.loads(ended.stdout.strip().splitlines()[-1])["steps"]
    assert len(steps) == {"sweep.yaml": 8, "pipeline.kdl": 6}[file]
    assert {step["status"] for step in steps.values()} == {"completed"}
    if file == "sweep.yaml":
        assert len((tmp_path / "output" / "ranking.txt").read_text().splitlines()) == 6
