"""Every setting and every environment variable has an effect.
`effects/settings.yaml` says where each is seen; one without a row fails."""

from __future__ import annotations

import dataclasses
import re
import runpy
import threading
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings as live

from apps.conductor import services as conductor
from apps.jobs.models import Job, Step
from apps.workspaces import services as workspaces
from stroem_project import config, health_files
from stroem_project.management.commands import scheduler
from tests.apps.jobs.builders import Hand, start, workspace
from tests.apps.jobs.test_recovery import run_out
from tests.specs.test_effects import ROOT, names_in
from workers import assembly
from workers import config as worker_config

ROWS: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(
    Path(__file__).with_name("effects").joinpath("settings.yaml").read_text(encoding="utf-8")
)
PAGES = ("guides", "reference", "quickstart.md", "security.md")
VARIABLE = re.compile(r"\b(?:STROEM_(?!_)[A-Z]+(?:_[A-Z]+)*|LOG_FORMAT)\b")
NAMED = {"workspaces", "git_auth"}  # sections under names that the operator chooses


def settings_of(kind: Any, path: str = "") -> Iterator[str]:
    """The keys as they are written, with those of their sections."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        marks = getattr(hint, "__metadata__", ())
        if config.OURS in marks:
            continue
        keys = [mark.names[0] for mark in marks if isinstance(mark, config.Key)]
        key = f"{path}{keys[0] if keys else field.name}"
        inner = section_of(hint)
        if inner is None or key == "libraries":
            yield key
        else:
            yield from settings_of(inner, f"{key}.")


def section_of(hint: Any) -> Any:
    found = [hint, *typing.get_args(hint)]
    for part in found[1:]:
        found += typing.get_args(part)
    return next((part for part in found if dataclasses.is_dataclass(part)), None)


def documented() -> set[str]:
    pages = [
        page
        for part in PAGES
        for page in (
            [ROOT / "docs" / part] if part.endswith(".md") else (ROOT / "docs" / part).glob("*.md")
        )
    ]
    found = {name for page in pages for name in VARIABLE.findall(page.read_text(encoding="utf-8"))}
    return {
        name
        for name in found
        if not name.startswith("STROEM_INPUT_") or name == "STROEM_INPUT_FILE"
    }


def test_every_setting_and_variable_has_a_row() -> None:
    assert set(ROWS["server"]) == set(settings_of(config.Config)) - {"worker"}
    own = {field.name for field in dataclasses.fields(worker_config.WorkerConfig)}
    assert set(ROWS["worker"]) == own
    assert set(ROWS["variable"]) == documented()


def rows(kind: str) -> list[Any]:
    return [
        pytest.param(row, id=f"{scope}.{key}")
        for scope, keys in ROWS.items()
        for key, row in keys.items()
        if kind in row
    ]


def django_with(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> dict[str, Any]:
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return runpy.run_path(str(ROOT / "stroem_project" / "settings.py"))


@pytest.mark.parametrize("row", rows("django"))
def test_the_server_is_set_up_otherwise_with_it(
    row: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server-config.yaml").write_text("auth: {base_url: 'https://file.example.com'}\n")
    monkeypatch.delenv("STROEM_KEYS", raising=False)
    monkeypatch.setenv("STROEM__DATA_DIR", str(tmp_path))
    given = {name: value.replace("@TMP@", str(tmp_path)) for name, value in row["with"].items()}
    without, found = django_with(monkeypatch, {}), django_with(monkeypatch, given)
    assert found[row["django"]] != without.get(row["django"])


@pytest.mark.parametrize("row", rows("test"))
def test_its_own_test_is_there(row: dict[str, Any]) -> None:
    file, _, name = row["test"].partition("::")
    assert name in names_in(file)


# -- those that no other test shows -------------------------------------------------------------------

FLOW = "tasks: {main: {flow: {s: {type: script, script: 'true'}}}}"


@pytest.mark.django_db(transaction=True)
def test_a_step_without_a_time_out_gets_that_of_the_settings(tmp_path: Path, settings: Any) -> None:
    settings.STROEM = replace(settings.STROEM, default_step_timeout_s=77.0)
    job = start(workspace(tmp_path, FLOW))
    assert Step.objects.get(job=job).timeout_s == 77
    claimed = Hand().claim()
    assert claimed is not None and claimed.timeout_s == 77


@pytest.mark.django_db(transaction=True)
def test_what_is_not_said_of_lost_workers_is_as_the_settings_say(
    tmp_path: Path, settings: Any
) -> None:
    settings.STROEM = replace(
        settings.STROEM, recovery=replace(settings.STROEM.recovery, on_worker_lost="retry")
    )
    job, hand = start(workspace(tmp_path, FLOW)), Hand()
    claimed = hand.take("s")
    hand.start(claimed)
    run_out()
    conductor.sweep()
    assert Step.objects.get(job=job).status == "ready"
    assert Job.objects.get(pk=job.pk).status == "running"


@pytest.mark.django_db(transaction=True)
def test_a_workspace_comes_from_where_its_settings_say(tmp_path: Path, settings: Any) -> None:
    file = tmp_path / "server.yaml"
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "w.yaml").write_text(FLOW)
    file.write_text(
        "git_auth:\n"
        "  by_token: {type: token, token: abc, username: me}\n"
        "  by_key: {type: ssh_key, key: KEY}\n"
        "  by_path: {type: ssh_key, key_path: id}\n"
        "workspaces:\n"
        "  ours: {type: folder, path: flows}\n"
        "  theirs: {type: git, url: 'https://127.0.0.1:1/x.git', ref: dev, poll_interval_secs: 7,"
        " auth: by_token}\n"
    )
    settings.STROEM = config.given({"STROEM_CONFIG": str(file)})
    scheduler._declare_configured()
    from apps.workspaces.models import Workspace

    workspaces.refresh(Workspace.objects.get(name="ours"))
    ours, theirs = Workspace.objects.get(name="ours"), Workspace.objects.get(name="theirs")
    assert ours.location == str(tmp_path / "flows") and not ours.has_failed
    assert (theirs.ref, theirs.poll_interval_s, theirs.credential) == ("dev", 7, "by_token")
    used = workspaces._git_source(theirs)
    assert used.credential is not None
    assert (used.url, used.credential.username, used.credential.token) == (
        "https://127.0.0.1:1/x.git", "me", "abc",
    )  # fmt: skip
    by_key, by_path = workspaces._credential("by_key"), workspaces._credential("by_path")
    assert by_key is not None and by_key.key == "KEY"
    assert by_path is not None and by_path.key_path == tmp_path / "id"


def test_tokens_are_signed_with_the_secret_of_the_settings(settings: Any) -> None:
    from apps.accounts import tokens

    before = tokens._signing_keys()
    auth = replace(settings.STROEM.auth, jwt_secret="b" * 20 + "c" * 20)
    settings.STROEM = replace(settings.STROEM, auth=auth)
    assert tokens._signing_keys() != before


@pytest.mark.django_db(transaction=True)
def test_the_sweep_and_retention_look_as_often_as_the_settings_say(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = {"tick": 0, "sweep": 0, "expire": 0}
    clock, stop = [1000.0], threading.Event()

    def count(name: str) -> None:
        rounds[name] += 1

    for name in rounds:
        monkeypatch.setattr(conductor, name, lambda name=name: count(name))
    monkeypatch.setattr(conductor.clocks, "run", lambda stop: None)
    monkeypatch.setattr(conductor.subscriptions, "run", lambda stop: None)
    monkeypatch.setattr(conductor.log_rounds, "run", lambda stop: None)
    monkeypatch.setattr(conductor.upkeep, "follow_all", lambda: None)
    monkeypatch.setattr(conductor.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(stop, "wait", lambda _: clock.__setitem__(0, clock[0] + 1) or False)
    settings.STROEM = replace(
        live.STROEM,
        recovery=replace(live.STROEM.recovery, sweep_interval_s=10.0),
        retention=replace(live.STROEM.retention, interval_s=20.0),
    )

    def rest() -> None:
        if rounds["tick"] == 40:
            stop.set()

    # In a thread of its own, which from then on never waits for secrets.
    thread = threading.Thread(target=conductor.run_forever, args=(stop, rest))
    thread.start()
    thread.join(30)
    assert rounds == {"tick": 40, "sweep": 4, "expire": 2}


def worker_with(tmp_path: Path, text: str) -> worker_config.WorkerConfig:
    file = tmp_path / "worker.yaml"
    file.write_text(text)
    return worker_config.load(file, {}, data_dir=tmp_path)


def test_runners_use_the_image_of_the_settings(tmp_path: Path) -> None:
    loaded = worker_with(tmp_path, "tags: [docker]\ndocker: {}\nrunner_image: ours:1\n")
    made = assembly._catalog_config(loaded, typing.cast(Any, None), {})
    assert made.runner_image == "ours:1"


def test_a_worker_keeps_what_it_installs_where_the_settings_say(tmp_path: Path) -> None:
    loaded = worker_with(tmp_path, "dependency_cache_dir: installed\n")
    made = assembly._catalog_config(loaded, typing.cast(Any, None), {})
    assert made.local is not None and made.local.cache_dir == tmp_path / "installed"


def test_a_process_touches_the_files_that_probes_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROEM_HEALTH_DIR", str(tmp_path / "health"))
    health_files.touch("alive")
    assert (tmp_path / "health" / "alive").exists()
