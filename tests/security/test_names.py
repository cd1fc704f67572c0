"""Names of files and folders that hold line breaks and escape sequences begin no line of a report,
a page or a log, and reach no terminal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from apps.accounts.models import User
from apps.workspaces import services
from engine.plain import FORMATTERS
from engine.spec.model import Place
from tests.apps.jobs.test_admin import client_of
from tests.house import ROOT

FORGED = "all is well"
BAD = "\x1b\x07\u202e\u2028"
HOSTILE = f"x\n{FORGED}\x1b]0;title\x07\x1b[2J\u202e\u2028.yaml"
FLOW = "actions: {a: {type: script, script: 'true'}}\ntasks: {main: {flow: {a: {action: a}}}}\n"


def check(shown: str) -> None:
    assert FORGED in shown
    assert not [line for line in shown.splitlines() if line.lstrip().startswith(FORGED)]
    assert not set(BAD) & set(shown)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shop"
    (made / f"folder{HOSTILE}").mkdir(parents=True)
    (made / HOSTILE).write_text(FLOW)
    os.symlink("nowhere", made / f"link{HOSTILE}")
    os.symlink(HOSTILE, made / "link.yaml")
    (made / "flow.yaml").write_text(FLOW)
    return made


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    "command",
    [
        ("validate", "{folder}"),
        ("validate", "{missing}"),
        ("validate", "{file}"),
        ("run", "{missing}", "main"),
        ("run", "{file}", "main"),
        ("import_workspace", "shop", "{missing}"),
        ("import_workspace", "shop", "{folder}"),
        ("worker", "--config", "{missing}"),
        ("trigger", "shop", "main", "--input-file", "a={missing}"),
    ],
    ids=lambda words: "-".join(words).replace("{", "").replace("}", ""),
)
@pytest.mark.django_db(transaction=True)
def test_commands_show_names_on_one_line(
    tmp_path: Path, folder: Path, process_env: dict[str, str], command: tuple[str, ...]
) -> None:
    (tmp_path / f"data{HOSTILE}").write_text("a: [\n")
    places = {
        "folder": folder,
        "missing": tmp_path / f"missing{HOSTILE}",
        "file": tmp_path / f"data{HOSTILE}",
    }
    words = [word.format(**places) for word in command]
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *words],
        env=process_env, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    check(done.stdout + done.stderr)


def test_settings_that_cannot_be_read_are_named_on_one_line(tmp_path: Path) -> None:
    named = {"STROEM_CONFIG": str(tmp_path / HOSTILE)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "doctor"],
        env={**os.environ, **named}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    check(done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.django_db(transaction=True)
def test_pages_show_names_on_one_line(folder: Path) -> None:
    found = services.import_folder("shop", folder)
    assert len(found.problems) == 4
    client = client_of(User.objects.create_superuser("root@example.org"))
    for address in ("/admin/workspaces/workspace/", "/admin/"):
        assert not set(BAD) & set(client.get(address, follow=True).content.decode())
    check(client.get(f"/admin/workspaces/workspace/{found.pk}/change/").content.decode())


def test_a_place_and_a_line_of_the_log_begin_once() -> None:
    check(str(Place(HOSTILE, 3, 4)))
    for exc_info in (None, (OSError, OSError(HOSTILE), None)):
        record = logging.LogRecord(
            "stroem.worker", logging.ERROR, "x.py", 1, "cannot remove %s", (HOSTILE,), exc_info
        )
        shown = FORMATTERS["text"]().format(record)
        assert not set(BAD) & set(shown)
        assert shown.splitlines()[0].startswith("20")
        assert all(line.startswith("  ") for line in shown.splitlines()[1:])
