"""Short commands import what they need, and no more: their start is most of their time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.house import plain_environment
from tests.house import ROOT

# Pages, the API, the broker's clients, servers, and the runners' engines.
HEAVY = (
    "unfold.admin", "apps.jobs.pages", "rest_framework.views", "drf_spectacular.openapi",
    "markdown_it", "celery", "kombu", "uvicorn", "requests", "docker", "kubernetes", "workers",
)  # fmt: skip
PROGRAM = """
import os, runpy, sys
os._exit = sys.exit
sys.argv = ["manage.py", *sys.argv[1:]]
try:
    runpy.run_path("manage.py", run_name="__main__")
finally:
    print("MODULES", *sorted(sys.modules), sep="\\n")
"""


READER = ("engine.spec.parser", "engine.templating.rendering", "jinja2")  # of workflow files
MODELS = (
    "django.contrib.auth.models",
    "apps.accounts.models",
    "apps.jobs.models",
    "engine.planner",
)


@pytest.mark.parametrize(
    ("words", "needless", "most"),
    [
        (["validate", "examples/hello"], MODELS, 720),
        (["schema"], MODELS, 720),
        (["jobs"], READER, 1_050),
        (["jobs", "--help"], READER, 1_050),
    ],
)
def test_a_short_command_imports_no_page_no_server_and_no_broker(
    process_env: dict[str, str], words: list[str], needless: tuple[str, ...], most: int
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=ROOT, env=process_env | {"PATH": os.defpath}, capture_output=True, text=True,
    )  # fmt: skip
    modules = set(found.stdout.partition("MODULES\n")[2].splitlines())
    assert "console.operator_command" in modules, found.stderr
    assert sorted(modules.intersection(HEAVY + needless)) == []
    assert len(modules) <= most


def test_checking_files_imports_no_client_of_the_database(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, "validate", "examples/hello"],
        cwd=ROOT, env=plain_environment(STROEM__DATA_DIR=str(tmp_path)), capture_output=True,
        text=True,
    )  # fmt: skip
    modules = set(found.stdout.partition("MODULES\n")[2].splitlines())
    assert "Valid: " in found.stdout and "psycopg" not in modules, found


PAGES = ("unfold.admin", "apps.jobs.pages", "rest_framework.views", "allauth", "jwt")
TORC = "engine.spec.torc.conversion"


@pytest.mark.long
def test_a_run_imports_no_page_and_no_reader_of_torc() -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", "examples/hello", "hello-world"],
        cwd=ROOT, env=plain_environment(), capture_output=True, text=True,
    )  # fmt: skip
    modules = set(found.stdout.partition("MODULES\n")[2].splitlines())
    assert "hello-world: completed" in found.stdout, found.stderr
    assert sorted(modules.intersection((*PAGES, TORC, "requests"))) == []
    assert len(modules) <= 1_520


def test_a_worker_imports_no_page_and_no_reader_of_workflows(process_env: dict[str, str]) -> None:
    lifeline, end = os.pipe()
    os.close(end)  # so it stops at once
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, "worker", "--lifeline-fd", str(lifeline)],
        cwd=ROOT, env=process_env, capture_output=True, text=True, pass_fds=(lifeline,),
    )  # fmt: skip
    os.close(lifeline)
    modules = set(found.stdout.partition("MODULES\n")[2].splitlines())
    assert "workers.process" in modules, found.stderr
    assert sorted(modules.intersection((*PAGES, TORC, *READER[:1], "console.port"))) == []
    assert len(modules) <= 1_500
