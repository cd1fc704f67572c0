"""A worker finds the runner for a step, and pays for no other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.errors import PlatformError
from runners.catalog import Catalog, CatalogConfig
from runners.host.local import LocalConfig, LocalRunner


@pytest.fixture
def catalog(tmp_path):
    return Catalog(CatalogConfig(owner="w1", local=LocalConfig(cache_dir=tmp_path)))


def test_a_local_script_goes_to_the_local_runner_made_once(catalog):
    assert isinstance(catalog.choose("script", "local"), LocalRunner)
    assert catalog.choose("script") is catalog.get("local")
    assert catalog.places == {"local"}


@pytest.mark.parametrize(
    ("action_type", "runner", "section"),
    [
        ("script", "docker", "docker"),
        ("docker", "local", "docker"),
        ("script", "pod", "kubernetes"),
        ("pod", "local", "kubernetes"),
    ],
)
def test_a_runner_that_the_worker_lacks_is_named_with_its_section(
    catalog, action_type, runner, section
):
    with pytest.raises(PlatformError, match=f"no section '{section}'"):
        catalog.choose(action_type, runner)


def test_what_no_worker_does_is_refused(catalog):
    with pytest.raises(PlatformError, match="approval"):
        catalog.choose("approval")


def test_each_kind_of_step_finds_its_own_runner(tmp_path):
    catalog = Catalog(
        CatalogConfig("w1", LocalConfig(tmp_path), docker={}, kubernetes={"namespace": "steps"})
    )
    assert catalog.places == {"local", "docker", "pod"}
    assert catalog.choose("script", "docker").needs == {"docker"}
    assert catalog.choose("docker").needs == {"docker"}


def test_the_clients_of_docker_and_kubernetes_are_not_imported_for_local_steps(tmp_path):
    code = (
        "import sys; from pathlib import Path; from runners.catalog import *; from runners.host.local"
        " import LocalConfig;c = Catalog(CatalogConfig('w', LocalConfig(Path(sys.argv[1])),"
        " docker={}, kubernetes={'namespace': 'n'}));c.choose('script').sweep(frozenset());print([n"
        " for n in ('docker', 'kubernetes', 'django', 'celery') if n in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
