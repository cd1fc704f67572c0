"""Options that are wrong are said before anything is touched: here, there is no database."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from console.managed import NO_DATABASE
from tests.house import ROOT

JOB = "0123abcd"
HELLO = str(ROOT / "examples/hello")
README = str(ROOT / "README.md")
WRONG = [
    ("worker --output-dir /tmp", "--output-dir needs --allocation"),
    ("worker --scheduler cpu", "--scheduler needs --allocation"),
    ("worker --config /nowhere.yaml", "/nowhere.yaml: the worker's settings cannot be read"),
    ("worker --name a,b", "argument --name: must consist of letters, digits and"),
    (f"worker --allocation {'0' * 32}", "--allocation needs --job, --scheduler and --config"),
    ("agents --name a,b", "argument --name: must consist of letters, digits and"),
    ("server --host nowhere.invalid", "'nowhere.invalid' is not an address of this machine"),
    ("jobs xyz", "'xyz' is not a job id"),
    (f"jobs {JOB} --status failed", "--status is for the list; JOB names one job"),
    (f"jobs {JOB} --task main", "--task is for the list; JOB names one job"),
    (f"jobs {JOB} --workspace w", "--workspace is for the list; JOB names one job"),
    (f"jobs {JOB} --limit 3", "--limit is for the list; JOB names one job"),
    ("cancel xyz", "'xyz' is not a job id"),
    ("restart xyz", "'xyz' is not a job id"),
    ("approve xyz gate --as a@example.org", "'xyz' is not a job id"),
    (f"approve {JOB} gate --as a@example.org --input x", "--input takes NAME=VALUE"),
    ("reject xyz gate --as a@example.org", "'xyz' is not a job id"),
    (f"logs {JOB} --step a --action b", "give --step or --action, not both"),
    (f"logs {JOB} --follow --json", "--json and --follow: give one of them"),
    (f"logs {JOB} --follow --step a", "--follow shows everything; leave out --step and --action"),
    (f"logs {JOB} --search x --follow", "--search and --follow: give one of them"),
    (f"logs {JOB} --search ''", "--search needs a text of 1 to"),
    (f"artifacts {JOB} a.txt --all", "give names or --all, not both"),
    (f"artifacts {JOB} --output x", "--output is for downloads: name files, or give --all"),
    (f"artifacts {JOB} --all --json", "--json is for the list, not for downloads"),
    ("audit --since 2026-01-02 --until 2026-01-01", "--since must be before --until"),
    ("connections list w --as a@example.org", "--as is for `connections check`, not for list"),
    ("connections list w --type db", "--type is for `connections set`, not for list"),
    ("connections set w", "connections set needs the name of the connection"),
    ("secrets list w --from-file x", "--from-file is for `secrets set`, not for list"),
    ("secrets remove w", "secrets remove needs the name of the secret"),
    ("libraries refresh", "libraries refresh needs the name of the workspace"),
    ("libraries list w lib", "libraries list takes no name of a library"),
    ("state get w --version 0", "argument --version: must be a whole number between 1 and"),
    (f"state restore w {'9' * 30}", "argument version: must be a whole number between 1 and"),
    ("trigger w t --input x", "--input takes NAME=VALUE"),
    ("completion --workspace w", "--workspace is for `--names tasks`"),
    ("import_workspace w /nowhere", "there is nothing at '/nowhere'"),
    (f"import_workspace w {README}", f"{README} is a file: give the folder that contains it"),
    (f"import_workspace w {HELLO} --auth x", "--auth is for git repositories; this is a folder"),
    (
        f"import_workspace w {HELLO} --ref main --chdir /tmp",
        "--chdir is for folders and Torc files, not for git",
    ),
    (
        "import_workspace w https://example.org/x --chdir /tmp",
        "--chdir is for folders and Torc files, not for git",
    ),
    ("import_workspace w {torc} --ref main", "--ref is for git repositories; this is a file"),
    ("import_workspace w {torc} --auth x", "--auth is for git repositories; this is a file"),
    ("jobs --status failed --status running", "argument --status: is given twice: keep one"),
    ("audit --who a --who b", "argument --who: is given twice: keep one"),
    ("state get w --task a --task b", "argument --task: is given twice: keep one"),
    ("worker --name a --name b", "argument --name: is given twice: keep one"),
    (f"lock {HELLO} lib --all", "give names or --all, not both"),
]
RIGHT = [
    "jobs", f"jobs {JOB}", "workers", "workspaces", "tasks", "audit", "triggers", "worker", "agents",
    "scheduler", "secrets list w", f"logs {JOB}", "trigger w t", "remove_factors a@example.org",
    "audit --who a --what secret", "trigger w t --input a=1 --input b=2",
    f"plan {HELLO} --workspace w", f"validate {HELLO} --workspace w",
]  # fmt: skip


@pytest.fixture(autouse=True)
def without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings.STROEM
    bare = dataclasses.replace(config, db=dataclasses.replace(config.db, url=None))
    monkeypatch.setattr(settings, "STROEM", bare)


@pytest.fixture
def torc(tmp_path: Path) -> Path:
    file = tmp_path / "flow.yaml"
    file.write_text("name: flow\njobs:\n  - {name: one, command: 'true'}\n")
    return file


def complaint(words: str) -> str:
    import shlex

    with pytest.raises(CommandError) as ended:
        call_command(*shlex.split(words))
    assert ended.value.returncode in (1, 2)
    return str(ended.value).removeprefix("Error: ")


@pytest.mark.parametrize(("words", "sentence"), WRONG, ids=[words for words, _ in WRONG])
def test_a_wrong_option_is_said_before_the_database_is_missed(
    torc: Path, words: str, sentence: str
) -> None:
    assert complaint(words.replace("{torc}", str(torc))).startswith(sentence)


@pytest.mark.parametrize("words", RIGHT)
def test_without_one_every_command_says_so(words: str) -> None:
    assert complaint(words) == NO_DATABASE


def test_a_run_that_cannot_start_makes_no_folder(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    said = complaint(f"run {HELLO} hello-world --artifacts {kept} --chdir /tmp")
    assert said.startswith("--chdir is for Torc files") and not kept.exists()
