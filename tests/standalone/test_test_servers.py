"""The servers and fixtures that every test relies on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
import pytest

def test_skips(): pytest.skip("no engine here")
@pytest.mark.skip(reason="not today")
def test_marked(): pass
@pytest.mark.xfail(strict=True)
def test_expected_to_fail(): assert False
def test_passes(): pass
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("ci", "summary"),
    [("true", "1 failed, 1 passed, 1 xfailed, 1 error"), ("", "1 passed, 2 skipped, 1 xfailed")],
)
def test_a_skip_is_a_failure_in_ci_only(tmp_path: Path, ci: str, summary: str) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_makereport\n")
    (tmp_path / "test_suite.py").write_text(SUITE)
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:django",
            "-p",
            "no:cacheprovider",
            "-c",
            os.devnull,
            ".",
        ],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert summary in finished.stdout, finished.stdout


def test_the_settings_of_whoever_runs_the_tests_do_not_reach_them(tmp_path: Path) -> None:
    code = (
        "import os, tests.servers; print(sorted(n for n in os.environ if n.startswith('STROEM_')))"
    )
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("STROEM_", "PYTEST_"))
        },
        "STROEM__AUTH__BASE_URL": "https://production.example.org",
        "STROEM_CONFIG": "/etc/stroem.yaml",
        "STROEM_TEST_DB_URL": "postgresql://given/db",
        "STROEM_TEST_BROKER_URL": "amqp://given",
    }
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    names = finished.stdout
    assert "STROEM__DB__URL" in names and "STROEM__DATA_DIR" in names, finished.stderr
    assert "BASE_URL" not in names and "STROEM_CONFIG" not in names


def test_other_processes_reach_the_database_and_the_broker_of_the_test(
    process_env: dict[str, str],
) -> None:
    with psycopg.connect(process_env["STROEM__DB__URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM jobs_job").fetchone() == (0,)


def test_the_broker_is_empty_at_the_start_of_a_test(broker_client: redis.Redis) -> None:
    assert broker_client.dbsize() == 0
    broker_client.set("left", "over")


def test_the_broker_is_empty_at_the_start_of_the_next_one(broker_client: redis.Redis) -> None:
    assert broker_client.dbsize() == 0
