"""Mistakes on the command line: each gets one answer that names the place and the cure.

`mistakes.txt` lists commands with their answers and exit codes, as somebody sees them who has
imported `examples/hello` under the name `default`. Read an answer aloud before changing it.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)
from tests.house import ROOT

LIST = Path(__file__).with_name("mistakes.txt")


@dataclass(frozen=True)
class Mistake:
    command: str
    answer: str
    code: int


def mistakes() -> list[Mistake]:
    found = []
    for block in LIST.read_text().strip().split("\n\n"):
        command, *answer, code = block.splitlines()
        found.append(Mistake(command[2:], "\n".join(answer), int(code.strip("[]"))))
    return found


def answer(command: str, env: dict[str, str]) -> tuple[str, int]:
    words = shlex.split(command)
    settings = dict(word.split("=", 1) for word in words[: words.index("manage.py")])
    finished = subprocess.run(
        [sys.executable, *words[words.index("manage.py") :]],
        cwd=ROOT,
        env=env | settings,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return (finished.stdout + finished.stderr).strip(), finished.returncode


@pytest.fixture(scope="module")
def imported(shared_db: None) -> None:  # noqa: F811
    """Mistakes change nothing, so they share what is there."""
    from apps.workspaces.services import import_folder

    import_folder("default", ROOT / "examples" / "hello")


@pytest.mark.sample(8)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("mistake", mistakes(), ids=lambda mistake: mistake.command)
def test_a_mistake_gets_the_answer_that_the_list_promises(
    imported: None, process_env: dict[str, str], mistake: Mistake
) -> None:
    env = process_env | {"COLUMNS": "80"}
    env.pop("PORT", None)
    assert answer(mistake.command, env) == (mistake.answer, mistake.code)


def test_the_list_has_no_traceback_and_no_success() -> None:
    assert len(mistakes()) >= 20
    assert all(mistake.code in (1, 2) for mistake in mistakes())
    assert "Traceback" not in LIST.read_text()
