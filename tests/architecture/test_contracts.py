"""The import contracts hold, and each of them breaks when a wrong import is planted in a copy of
the house."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.house import PACKAGES, ROOT

LINT = Path(sys.executable).with_name("lint-imports")
IGNORED = shutil.ignore_patterns("__pycache__", "static", "templates")

# contract, the file where somebody writes the import, the import
PLANTED = [
    ("floors", "engine/planner_notes.py", "import runners.base"),
    ("floors", "runners/notes.py", "import workers"),
    ("floors", "apps/jobs/notes.py", "import stroem_project"),
    ("floors", "console/notes.py", "import standalone.addresses"),
    ("fuse-box", "apps/jobs/notes.py", "import stroem_project"),
    ("fuse-box", "console/notes.py", "import stroem_project.config"),
    ("fuse-box", "standalone/notes.py", "def later() -> None:\n    import stroem_project.settings"),
    ("port", "console/notes.py", "import apps.jobs.models"),
    ("client", "stroem/notes.py", "import apps.jobs.models"),
    ("client", "stroem/notes.py", "def later() -> None:\n    import django"),
    ("floors", "console/notes.py", "import stroem.http"),
    ("port", "console/management/commands/notes.py", "import workers.config"),
    ("apps-below", "apps/jobs/notes.py", "import workers"),
    ("apps-below", "apps/fleet/notes.py", "def later() -> None:\n    import runners.base"),
    ("ledger", "workers/notes.py", "import apps.jobs.models"),
    ("rooms", "apps/jobs/notes.py", "import apps.approvals"),
    ("rooms", "apps/hooks/notes.py", "import apps.approvals"),
    ("rooms", "apps/accounts/notes.py", "import apps.jobs.models"),
    ("rooms", "apps/attic/__init__.py", ""),
    ("pure-engine", "engine/notes.py", "import django"),
    ("engines-in-runners", "workers/notes.py", "import docker"),
    ("models-in-runners", "workers/notes.py", "import pydantic_ai"),
    ("runner-rooms", "runners/docker/notes.py", "import runners.pod.config"),
    ("runner-rooms", "runners/attic/__init__.py", ""),
    ("runners-without-database", "runners/notes.py", "import psycopg"),
]

# contract, the file where somebody writes the import, the module, the arrow that closes the circle
CIRCLES = [("acyclic-runners", "runners/guard/notes.py", "runners.host.local", ".guard -> .host")]


def lint(house: Path, contract: str) -> subprocess.CompletedProcess[str]:
    command = [str(LINT), "--no-logo", "--no-cache", "--contract", contract]
    wide = {**os.environ, "COLUMNS": "500"}  # so that no name is broken over two lines
    return subprocess.run(
        command, cwd=house, env=wide, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages and the contracts, where something wrong may be planted."""
    copy = tmp_path_factory.mktemp("house")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=IGNORED)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("contract", "place", "text"), PLANTED, ids=[f"{c}: {p}" for c, p, _ in PLANTED]
)
def test_a_planted_import_breaks_its_contract(
    house: Path, contract: str, place: str, text: str
) -> None:
    planted = house / place
    new_room = not planted.parent.exists()
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(f"{text}\n")
    try:
        answer = lint(house, contract)
    finally:
        shutil.rmtree(planted.parent) if new_room else planted.unlink()
    assert answer.returncode != 0, answer.stdout
    module = place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert module in answer.stdout, answer.stdout + answer.stderr


@pytest.mark.parametrize(("contract", "place", "module", "arrow"), CIRCLES)
def test_a_circle_is_seen_although_only_type_checkers_import_it(
    house: Path, contract: str, place: str, module: str, arrow: str
) -> None:
    planted = house / place
    planted.write_text(
        f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {module}\n"
    )
    try:
        answer = lint(house, contract)
    finally:
        planted.unlink()
    assert answer.returncode != 0, answer.stdout
    assert arrow in answer.stdout, answer.stdout + answer.stderr


HIDDEN = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from {} import {}\n"


@pytest.mark.parametrize(
    ("room", "above", "below"),
    [
        ("apps/jobs", "services", "values"),
        ("apps/jobs/flow", "advance", "contexts"),
        ("apps/workflow_actions", "services", "models"),
    ],
)
def test_a_planted_circle_breaks_the_contract_even_for_types(
    house: Path, room: str, above: str, below: str
) -> None:
    path = house / room / f"{below}.py"
    before = path.read_text()
    path.write_text(f"{before}\n{HIDDEN.format(room.replace('/', '.'), above)}")
    try:
        answer = lint(house, "no-circles")
    finally:
        path.write_text(before)
    assert answer.returncode != 0, answer.stdout
    assert f"No cycles are allowed in {room.replace('/', '.')}." in answer.stdout, answer.stdout


def test_the_house_keeps_all_contracts() -> None:
    answer = subprocess.run(
        [str(LINT), "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_worker_may_enter_through_a_ledger(house: Path) -> None:
    planted = house / "workers" / "notes.py"
    planted.write_text("import apps.jobs.ledger\n")
    try:
        answer = lint(house, "ledger")
    finally:
        planted.unlink()
    assert answer.returncode == 0, answer.stdout
