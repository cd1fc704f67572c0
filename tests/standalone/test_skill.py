"""What the skill tells coding agents to do works: its commands are run as they stand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SKILL = (ROOT / "skills" / "stroem" / "SKILL.md").read_text(encoding="utf-8")


def fences(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", SKILL, re.MULTILINE | re.DOTALL)


COMMANDS = "".join(fences("sh")).splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (flow,) = fences("yaml")
    folder = tmp_path / "flows"
    folder.mkdir()
    (folder / "greet.yaml").write_text(flow, encoding="utf-8")
    return folder


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=100, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "STROEM": f"{sys.executable} {ROOT}/manage.py"},
    )  # fmt: skip


def within(expected: Any, found: Any) -> bool:
    """Whether `found` has everything that `expected` has."""
    if isinstance(expected, dict):
        return all(key in found and within(value, found[key]) for key, value in expected.items())
    return bool(expected == found)


def test_it_says_who_it_is_and_when_to_use_it() -> None:
    head = SKILL.split("---\n")[1]
    assert re.search(r"^name: stroem$", head, re.MULTILINE)
    assert re.search(r"^description: \S.{50,1000}$", head, re.MULTILINE)


@pytest.mark.long
def test_its_commands_do_what_it_says(folder: Path) -> None:
    assert [command.split()[1] for command in COMMANDS] == ["schema", "validate", "plan", "run"]
    answers = {}
    for command in COMMANDS:
        command = command.replace("/tmp/workflow.schema.json", str(folder.parent / "schema.json"))
        answer = shell(command, folder)
        assert answer.returncode == 0, (command, answer.stdout, answer.stderr)
        answers[command.split()[1]] = answer.stdout.strip().splitlines()

    assert json.loads((folder.parent / "schema.json").read_text())["properties"]["tasks"]
    plan = [json.loads(line) for line in answers["plan"]]
    assert [step["name"] for step in plan] == ["hello", "report"]
    assert {"outlook", "because", "input", "depends_on", "tags"} <= plan[0].keys()
    (expected,) = fences("json")
    assert within(json.loads(expected), json.loads(answers["run"][-1]))


def test_a_mistake_is_told_as_it_says(folder: Path) -> None:
    file = folder / "greet.yaml"
    file.write_text(file.read_text().replace("depends_on", "depend_on"), encoding="utf-8")
    validate = next(command for command in COMMANDS if " validate " in command)

    answer = shell(validate, folder)

    (told,) = fences("text")
    assert answer.returncode == 1 and told in answer.stdout + answer.stderr
