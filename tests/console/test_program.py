"""`manage.py` itself: help, version, and what it says where it cannot work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine import VERSION
from tests.house import ROOT

NOWHERE = "postgresql://u@127.0.0.1:1/x"


def manage(*words: str, python: tuple[str, ...] = (), **settings: str) -> tuple[int, str, str]:
    finished = subprocess.run(
        [sys.executable, *python, "manage.py", *words],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return finished.returncode, finished.stdout, finished.stderr


@pytest.mark.parametrize("words", [["--version"], ["version"], ["jobs", "--version"]])
def test_the_version_is_ours(words: list[str]) -> None:
    assert manage(*words)[:2] == (0, f"Stroem {VERSION}\n")


@pytest.mark.sample(3)
@pytest.mark.parametrize("words", [["--help"], ["help"], []])
def test_help_lists_our_commands_first_each_with_a_sentence(words: list[str]) -> None:
    code, out, _ = manage(*words)
    ours, _, django = out.partition("Django's own commands:")
    named = re.findall(r"^  ([a-z_]+) +(\S.*)$", ours, re.MULTILINE)
    assert code == 0
    assert {"up", "run", "jobs", "tasks", "workspaces", "migrate"} <= {name for name, _ in named}
    assert "makemigrations" in django and "makemigrations" not in ours


def test_without_the_packages_the_way_out_is_named() -> None:
    code, out, err = manage("jobs", python=("-E", "-s", "-S"))
    assert (code, out) == (2, "")
    assert "does not have Stroem's packages" in err and "make install" in err
    assert "Traceback" not in err


@pytest.mark.long
def test_a_database_that_is_away_is_told_at_once_and_why() -> None:
    code, _, err = manage("makemigrations", "--check", "--dry-run", STROEM__DB__URL=NOWHERE)
    assert code == 0
    # a pool would wait for its time-out, and then not know why
    assert "Connection refused" in err and "couldn't get a connection" not in err


def test_no_color_reaches_errors(tmp_path: object) -> None:
    command = f"{sys.executable} manage.py validate /nowhere"
    for settings, has_colour in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        finished = subprocess.run(
            ["script", "-qec", command, "/dev/null"],
            cwd=ROOT,
            env=env | {"TERM": "xterm"} | settings,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert "There is nothing at" in finished.stdout
        assert ("\x1b[" in finished.stdout) is has_colour


@pytest.mark.long
@pytest.mark.parametrize("words", [[], ["--workspace", "shop"]])
def test_validate_needs_the_keys_only_for_the_database(words: list[str], tmp_path: Path) -> None:
    """Stored connections are read with the keys of the server."""
    (tmp_path / "flow.yaml").write_text("actions: {a: {type: script, script: 'true'}}\n")
    settings = {"STROEM_KEYS": "", "STROEM__DATA_DIR": str(tmp_path / "data")}
    manage("validate", str(tmp_path / "flow.yaml"), *words, STROEM__DB__URL=NOWHERE, **settings)
    assert (tmp_path / "data/secret.key").exists() is bool(words)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has this device")
def test_output_that_cannot_be_written_is_one_sentence_and_a_failure():
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(
            [sys.executable, "manage.py", "validate", "examples/hello"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert finished.stderr == "error: Nothing more can be written: no space left on device.\n"
    assert finished.returncode == 1
