"""`doctor` and `validate`: what is wrong, where, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.house import manage


def test_a_valid_workspace_exits_0() -> None:
    finished = manage("validate", "examples/hello")
    assert finished.returncode == 0 and finished.stdout.startswith("Valid: ")


def test_each_problem_is_named_with_its_place_and_exits_1(tmp_path: Path) -> None:
    (tmp_path / "flows.yaml").write_text(
        "actions:\n  a: {type: script, scrpt: x}\ntasks:\n  t: {flow: {s: {action: b}}}\n"
    )
    finished = manage("validate", str(tmp_path))
    assert finished.returncode == 1
    assert "flows.yaml:2:" in finished.stdout and "flows.yaml:4:" in finished.stdout
    assert "Traceback" not in finished.stdout + finished.stderr


def test_warnings_count_only_when_asked_for(tmp_path: Path) -> None:
    step = "{type: script, script: x, max_parallel: 2}"  # which only loops have
    (tmp_path / "flow.yaml").write_text(f"tasks: {{t: {{flow: {{a: {step}}}}}}}\n")
    assert manage("validate", str(tmp_path)).returncode == 0
    assert manage("validate", str(tmp_path), "--strict").returncode == 1


def test_nothing_to_validate_exits_2(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no flows here")
    finished = manage("validate", str(tmp_path))
    assert finished.returncode == 2 and "Nothing to check" in finished.stdout
    finished = manage("validate", str(tmp_path / "nowhere"))
    assert finished.returncode == 2 and "There is nothing at" in finished.stderr


def test_doctor_finds_nothing_amiss_where_all_is_well(process_env: dict[str, str]) -> None:
    finished = manage(
        "doctor",
        **{name: value for name, value in process_env.items() if name.startswith("STROEM__")},
    )
    assert finished.returncode == 0, finished.stdout
    for line in (
        "database: PostgreSQL",
        "migrations: the tables are up to date",
        "broker: ",
        "workers: none is alive",
    ):
        assert line in finished.stdout
    warnings = sum(line.startswith("warning ") for line in finished.stdout.splitlines())
    number = f"{warnings} warning{'' if warnings == 1 else 's'}"
    assert warnings and finished.stdout.endswith(f"No problems found; {number}.\n")


def test_doctor_names_every_workspace_with_problems(process_env: dict[str, str]) -> None:
    from apps.workspaces.models import Workspace

    error = {"severity": "error", "text": "flow.yaml:1:1: error: no such type"}
    hint = {"severity": "warning", "text": "flow.yaml:2:1: warning: never used"}
    for name, problems in (("aaa", []), ("bbb", [hint, error]), ("ccc", [hint])):
        Workspace.objects.create(name=name, source="folder", location="/x", problems=problems)
    finished = manage(
        "doctor",
        **{name: value for name, value in process_env.items() if name.startswith("STROEM__")},
    )
    told = [line for line in finished.stdout.splitlines() if "workspaces: " in line]
    assert told == [
        f"warning  workspaces: bbb: failed to load: {error['text']} (and 1 more)",
        "warning  workspaces: aaa: not read yet",
        f"warning  workspaces: ccc: {hint['text']}",
        "ok       workspaces: 1 of 3 without problems",
    ]


def test_doctor_names_the_remedy_and_no_password(tmp_path: Path) -> None:
    finished = manage(
        "doctor",
        STROEM__DATA_DIR=str(tmp_path),
        STROEM__DB__URL="postgresql://u:canary@127.0.0.1:1/x",
        STROEM__BROKER__URL="redis://:canary@127.0.0.1:1/0",
    )
    assert finished.returncode == 1
    assert (
        "PROBLEM  database: cannot be reached" in finished.stdout
        and "correct STROEM__DB__URL" in finished.stdout
    )
    assert "PROBLEM  broker: cannot be reached" in finished.stdout
    assert "canary" not in finished.stdout + finished.stderr


def test_doctor_says_what_to_start_where_nothing_is_known(tmp_path: Path) -> None:
    finished = manage("doctor", "--quiet", STROEM__DATA_DIR=str(tmp_path))
    assert finished.returncode == 1 and "start `manage.py up` first" in finished.stdout


@pytest.mark.parametrize("command", ["server", "scheduler", "worker"])
def test_a_process_without_a_database_says_so_and_exits_2(tmp_path: Path, command: str) -> None:
    finished = manage(command, STROEM__DATA_DIR=str(tmp_path))
    assert finished.returncode == 2 and "No database is configured" in finished.stderr
    assert "Traceback" not in finished.stderr
