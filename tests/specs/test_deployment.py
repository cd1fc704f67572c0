"""What ships for operators is right: compose file and image, checked without a registry."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from engine import VERSION
from stroem_project import config
from tests.apps.jobs.builders import until
from tests.browser.stage import free_port
from tests.house import House
from workers import config as worker_config

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
FILLED_IN = {
    "POSTGRES_PASSWORD": "a1b2c3",
    "VALKEY_PASSWORD": "d4e5f6",
    "STROEM_KEYS": "A" * 43 + "=",
    "STROEM_ADMIN_EMAIL": "ops@example.com",
    "STROEM_ADMIN_PASSWORD": "correct horse battery",
}
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::(?P<mode>[-?])(?P<rest>[^}]*))?\}")
SECRET_WORDS = ("PASSWORD", "TOKEN", "KEYS", "EMAIL")


def filled(text: str) -> str:
    """What compose makes of `${NAME:?message}` and `${NAME:-default}`."""
    return VARIABLE.sub(lambda found: FILLED_IN.get(found["name"]) or found["rest"], str(text))


# --- compose
# -----------------------------------------------------------------------------------------------------


def test_compose_asks_for_every_secret_and_has_none_of_its_own() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    found = list(VARIABLE.finditer(text))
    assert {variable["name"] for variable in found} - {"STROEM_BASE_URL"} == set(FILLED_IN)
    for variable in found:
        if any(word in variable["name"] for word in SECRET_WORDS):
            assert variable["mode"] == "?", f"{variable['name']} must be required"
    for name, service in COMPOSE["services"].items():
        for key, value in service.get("environment", {}).items():
            if any(word in key for word in SECRET_WORDS):
                assert VARIABLE.fullmatch(str(value)), f"{name}: {key} is written down"


def test_the_sample_of_the_env_file_names_what_compose_needs_and_gives_no_value() -> None:
    lines = (ROOT / "compose.env.example").read_text(encoding="utf-8").splitlines()
    sample = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert {name for name, value in sample.items() if not value} == set(FILLED_IN)


def test_compose_gives_nobody_the_engine_of_the_host() -> None:
    for name, service in COMPOSE["services"].items():
        assert not service.get("privileged"), name
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", [])), name
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"]["server"]["ports"])
    assert COMPOSE["networks"]["back"]["internal"] is True


@pytest.mark.parametrize("name", ["migrate", "server", "scheduler", "agents", "worker"])
def test_the_settings_of_a_compose_service_are_settings_that_stroem_knows(name: str) -> None:
    environ = {
        key: filled(value) for key, value in COMPOSE["services"][name]["environment"].items()
    }

    loaded = config.load(
        {key: value for key, value in environ.items() if not key.startswith("STROEM__WORKER__")}
    )

    assert loaded.db.url == "postgresql://stroem:a1b2c3@postgres:5432/stroem"
    assert loaded.broker.url == "redis://:d4e5f6@valkey:6379/0"


def test_the_settings_of_the_compose_worker_are_settings_that_it_knows(tmp_path: Path) -> None:
    environ = {
        key: filled(value) for key, value in COMPOSE["services"]["worker"]["environment"].items()
    }

    loaded = worker_config.load(None, environ, data_dir=tmp_path)

    assert (loaded.tags, loaded.max_concurrent) == (("script",), 4)


def test_only_the_process_for_agents_gets_the_keys_of_providers_and_only_if_it_is_asked_for() -> (
    None
):
    readers = {
        name: [one["path"] for one in service.get("env_file", ())]
        for name, service in COMPOSE["services"].items()
    }
    assert [name for name, files in readers.items() if "agents-keys.env" in files] == ["agents"]
    ours = ("migrate", "server", "scheduler", "agents", "worker")
    assert all("agents.env" in readers[name] for name in ours)
    assert COMPOSE["services"]["agents"]["profiles"] == ["agents"]


def test_what_compose_starts_are_commands_that_exist() -> None:
    from django.core.management import get_commands

    ours = {"migrate", "server", "scheduler", "agents", "worker"}
    assert {
        service["command"][0] for name, service in COMPOSE["services"].items() if name in ours
    } == ours
    assert ours <= set(get_commands())


# --- image
# -------------------------------------------------------------------------------------------------------

INSTRUCTIONS = {
    "ARG",
    "FROM",
    "COPY",
    "RUN",
    "ENV",
    "WORKDIR",
    "USER",
    "VOLUME",
    "EXPOSE",
    "ENTRYPOINT",
    "CMD",
}


def instructions(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in whole.splitlines() if line.strip()]  # type: ignore[misc]


def test_the_image_copies_what_exists_and_runs_as_nobody_special() -> None:
    found = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert {name for name, _ in found} <= INSTRUCTIONS
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name, rest in found:
        if name == "COPY" and "--from" not in rest:
            source = rest.split()[0]
            assert (ROOT / source).exists(), source
            assert f"!{source}" in kept, f".dockerignore hides {source}"
    users = [rest for name, rest in found if name == "USER"]
    assert users and users[-1] == "10001"
    assert "--require-hashes" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.django_db(transaction=True)
def test_the_server_makes_the_administrator_that_its_environment_names(
    tmp_path: Path, process_env: dict[str, str]
) -> None:
    from apps.accounts.models import User

    named = {
        "STROEM_ADMIN_EMAIL": "ops@example.com",
        "STROEM_ADMIN_PASSWORD": "correct horse battery",
    }
    house = House(tmp_path, process_env | named)
    try:
        house.start("server", "--host", "127.0.0.1", "--port", str(free_port()))
        until(
            lambda: User.objects.filter(email="ops@example.com", is_superuser=True).exists(),
            within_s=60,
        )
    finally:
        house.close()
    assert User.objects.get(email="ops@example.com").check_password("correct horse battery")
    assert "correct horse" not in (tmp_path / "server.log").read_text()


@pytest.mark.django_db(transaction=True)
def test_a_worker_needs_no_file_that_the_image_has_not(
    tmp_path: Path, process_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "opt"
    for name, rest in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
        source = ROOT / rest.split()[0]
        if name == "COPY" and source.is_dir():
            shutil.copytree(
                source, copy / source.name, ignore=shutil.ignore_patterns("__pycache__")
            )
    shutil.copy(ROOT / "manage.py", copy)
    monkeypatch.setattr("tests.house.ROOT", copy)
    house = House(tmp_path, process_env)
    try:
        house.worker("from-the-image")  # waits until it has registered
    finally:
        house.close()


def test_the_product_has_one_version() -> None:
    assert (
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        == VERSION
    )
