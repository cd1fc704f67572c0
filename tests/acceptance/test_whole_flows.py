"""The flows of the guide "Three whole flows" run as they are written there, at the first try."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.accounts.models import User
from apps.approvals.models import ApprovalRequest
from apps.jobs.models import Job, Step
from tests.apps.jobs.builders import until
from tests.house import ROOT, House, database_url
from tests.shared_house import Runs, _django_db_helper, shared_db

__all__ = ["_django_db_helper", "shared_db"]
pytestmark = pytest.mark.django_db(transaction=True)
PAGE = (ROOT / "docs" / "guides" / "whole-flows.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```yaml\n# file: (\S+)\n(.*?)^```$", PAGE, flags=re.M | re.S))
PACKAGE = "def tabulate(rows, headers): return str([headers, *rows])\n"


@pytest.fixture(scope="module")
def runs(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Its worker installs `tabulate` from a folder: no test needs the network."""
    wheels = tmp_path_factory.mktemp("wheels")
    info = "tabulate-1.0.dist-info"
    with zipfile.ZipFile(wheels / "tabulate-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tabulate.py", PACKAGE)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tabulate\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{info}/RECORD", "")
    sources = {
        "UV_FIND_LINKS": str(wheels), "UV_OFFLINE": "1",
        "PIP_FIND_LINKS": str(wheels), "PIP_NO_INDEX": "1",
    }  # fmt: skip
    environ = os.environ | sources | {"STROEM__DB__URL": database_url()}
    house = House(tmp_path_factory.mktemp("house"), environ)
    try:
        house.scheduler()
        yield Runs(house.worker("only"))
    finally:
        house.close()


def saved(name: str, folder: Path) -> Path:
    place = folder / name.removesuffix(".yaml")
    place.mkdir()
    (place / name).write_text(FILES[name], encoding="utf-8")
    return place


def test_the_backup_is_packed_and_the_oldest_goes(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "letter").write_text("dear")
    kept = tmp_path / "kept"
    kept.mkdir()
    for number in range(3):
        (kept / f"2020010{number}T000000.tar.gz").write_text("old")

    answer, shown = runs.run(
        saved("backup.yaml", tmp_path),
        "backup",
        [f"source={tmp_path / 'data'}", f"folder={kept}", "keep=2"],
    )

    assert answer["status"] == "completed", shown
    names = sorted(path.name for path in kept.iterdir())
    assert len(names) == 2 and names[0] == "20200102T000000.tar.gz"


@pytest.mark.long
def test_a_backup_that_fails_is_told(runs: Runs, tmp_path: Path) -> None:
    place = saved("backup.yaml", tmp_path)
    (place / "backup.yaml").write_text(
        FILES["backup.yaml"].replace("delay: 10s", "delay: 1s"), encoding="utf-8"
    )
    answer, shown = runs.run(place, "backup", ["source=/no/such", f"folder={tmp_path / 'kept'}"])
    assert answer["status"] == "failed"
    assert "backup failed: Step 'pack': Exit code: 2" in shown


def test_two_people_approve_the_release(runs: Runs, tmp_path: Path) -> None:
    """By the very commands of the page."""
    for name in ("anna", "bert"):
        User.objects.create_superuser(f"{name}@example.com", "a long password")
    saved("release.yaml", tmp_path)
    commands = re.findall(r"^python manage.py (.*release.*|approve .*)$", PAGE, flags=re.M)
    job = ""
    for command in commands:
        words = [job if word == "JOB" else word for word in shlex.split(command)]
        if words[0] == "approve":
            until(lambda: ApprovalRequest.objects.exists(), within_s=20)
        said = manage(tmp_path, *words)
        job = job or (said.split()[-1] if words[0] == "trigger" else "")
    assert said.strip() == "sign-off: approved"
    until(lambda: Job.objects.get(pk=job).status == "completed", within_s=20)
    assert Step.objects.get(job_id=job, name="publish").status == "completed"


def manage(folder: Path, *words: str) -> str:
    finished = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *words],
        cwd=folder,
        env=os.environ | {"STROEM__DB__URL": database_url()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_report_adds_up_what_came_back(runs: Runs, tmp_path: Path) -> None:
    answer, shown = runs.run(saved("fan.yaml", tmp_path), "report", [])
    assert answer["status"] == "completed", shown
    assert answer["output"] == {"total": {"letters": 16}}
