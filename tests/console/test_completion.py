"""What bash offers after a Tab, asked of bash itself."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.jobs.builders import workspace
from tests.house import ROOT

FLOW = """
actions: {work: {type: script, script: "true"}}
tasks:
  main: {flow: {one: {action: work}}}
  "odd $(echo ran >&2) name": {flow: {one: {action: work}}}
"""


def offered(env: dict[str, str], *words: str) -> list[str]:
    """The offers for the last word of this line."""
    script = f"""
        eval "$({shlex.quote(sys.executable)} manage.py completion)"
        COMP_WORDS=({" ".join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}
        _stroem
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    finished = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=100
    )
    assert finished.stderr == ""
    return finished.stdout.splitlines()


@pytest.mark.long
def test_commands_options_and_names_are_offered(
    process_env: dict[str, str], tmp_path: Path
) -> None:
    workspace(tmp_path, FLOW, "shop")
    start = (sys.executable, "manage.py")
    assert offered(process_env, *start, "wor") == ["worker", "workers", "workspaces"]
    assert offered(process_env, *start, "trigger", "--in") == ["--input", "--input-file"]
    assert offered(process_env, *start, "trigger", "sh") == ["shop"]
    assert offered(process_env, *start, "trigger", "shop", "ma") == ["main"]
    found = offered(process_env, *start, "trigger", "shop", "")
    assert found == ["main", "odd $(echo ran >&2) name"]  # and nothing of it ran
    assert offered(process_env, *start, "validate", "READ") == ["README.md"]


@pytest.mark.parametrize("option", ["--settings", "--lifeline-fd"])
def test_what_is_not_for_people_is_not_offered(process_env: dict[str, str], option: str) -> None:
    start = (sys.executable, "manage.py", "server")
    assert option not in offered(process_env, *start, "--")
