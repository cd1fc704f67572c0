"""Every key of the YAML reference has an effect that somebody sees, or `validate` says that it has
none. `effects/rows.yaml` says where each is seen; a key without a row fails."""

from __future__ import annotations

import ast
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from django.test import Client

from engine.slurm_script import Launch, Request, build
from engine.spec import agents, connections, entry, schedulers, slurm, triggers, workspace_settings
from engine.spec.fields import ACTION_FIELDS, ARTIFACT_FIELDS, STEP_FIELDS, TASK_FIELDS, TOP_FIELDS
from engine.spec.reporting import report
from runners.docker.config import DockerConfig, NamedVolume
from runners.docker.request import Sources, build_request
from runners.pod.config import PodConfig
from runners.pod.manifest import build_plan
from tests.apps.jobs.builders import start, until, workspace
from tests.engine.spec.builders import load
from tests.house import House, database_url
from tests.shared_house import _django_db_helper, shared_db
from tests.workers.conftest import bench, celery_app
from tests.workers.fakes import FakeLedger, FakeRunner, claim, material
from workers.attempts import Attempt

__all__ = ["_django_db_helper", "bench", "celery_app", "shared_db"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("shared_db")]
ROOT = Path(__file__).resolve().parents[2]
EFFECTS = Path(__file__).with_name("effects")
ROWS: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((EFFECTS / "rows.yaml").read_text())
KEYS = {
    "top": TOP_FIELDS,
    "action": tuple(ACTION_FIELDS),
    "step": STEP_FIELDS,
    "artifacts": ARTIFACT_FIELDS,
    "logs": workspace_settings.FIELDS,
    "artifacts_kept": workspace_settings.FIELDS,
    "task": TASK_FIELDS,
    "input": entry._INPUT_FIELDS,
    "retry": entry._RETRY_FIELDS,
    "escalation": ("after", "users", "groups"),
    "resources": ("cpu", "memory", "num_cpus", "num_gpus", "num_nodes", "runtime"),
    "workflow_action": slurm._FIELDS,
    "slurm_scheduler": schedulers._SCHEDULER_FIELDS,
    "hook": ("action", "input"),
    "event_source": triggers.FIELDS["event_source"],
    "mcp_server": connections.MCP_FIELDS,
    "tool": agents.TOOL_FIELDS,
}
ALL = [(scope, key) for scope, keys in KEYS.items() for key in keys]


def rows(kind: str) -> list[Any]:
    return [
        pytest.param(row, id=f"{scope}.{key}")
        for scope, keys in ROWS.items()
        for key, row in keys.items()
        if kind in row
    ]


def test_every_key_has_a_row_and_every_row_a_key() -> None:
    assert {scope: set(keys) for scope, keys in ROWS.items()} == {
        scope: set(keys) for scope, keys in KEYS.items()
    }


# -- what is seen when they run --------------------------------------------------------------------

FILES = ("HOOKS", "TRIED", "WATCHED", "BARRIER", "ONE")


class Runs:
    """Runs each task of the workspace once, all at the same time."""

    def __init__(self, folder: Path) -> None:
        from apps.jobs.services import start_job
        from apps.workspaces.services import import_folder

        self.folder = folder
        place = folder / "keys"
        for path in (EFFECTS / "keys").rglob("*"):
            if path.is_file():
                target = place / path.relative_to(EFFECTS / "keys")
                target.parent.mkdir(parents=True, exist_ok=True)
                text = path.read_text(encoding="utf-8")
                for name in FILES:
                    text = text.replace(f" {name}", f" {folder / name}")
                target.write_text(text, encoding="utf-8")
        row = import_folder("keys", place)
        assert not row.has_failed, row.problems
        tasks = yaml.safe_load((place / "flow.yaml").read_text())["tasks"]
        self.jobs = {
            name: start_job("keys", name, {}, source_type="user", source_id="run").id
            for name in tasks
        }
        self.seen: dict[str, tuple[dict[str, Any], str]] = {}

    def see(self, task: str) -> tuple[dict[str, Any], str]:
        """The result of this task, and what is shown while one follows it."""
        from apps.jobs.services import cancel_job
        from console.database import Database
        from console.follower import Follower, answer
        from console.screen import Screen

        if task not in self.seen:
            job, shown, platform = self.jobs[task], io.StringIO(), Database()
            if task == "cancelled":
                cancel_job(job, actor="run")
            Follower(platform, job, Screen(shown)).follow(is_stopped=lambda: False)
            self.seen[task] = answer(platform, platform.result(job)), shown.getvalue()
        return self.seen[task]

    def lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(scope="module")
def runs(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    environ = os.environ | {"STROEM__DB__URL": database_url()}
    house = House(tmp_path_factory.mktemp("house"), environ, unmatched_step_timeout_secs=5)
    try:
        house.scheduler()
        house.worker("only", slots=8)
        yield Runs(tmp_path_factory.mktemp("effects"))
    finally:
        house.close()


@pytest.mark.parametrize("row", rows("task"))
def test_its_effect_is_seen_when_it_runs(runs: Runs, row: dict[str, Any]) -> None:
    answer, shown = runs.see(row["task"])
    step = answer["steps"].get(row.get("step"), {})
    if "output" in row:
        assert step["output"] == row["output"], step
    assert row.get("error", "") in (step.get("error") or "")
    assert row.get("status", step.get("status")) == step.get("status")
    assert row.get("log", "") in shown
    assert "hidden" not in row or row["hidden"] not in shown + json.dumps(answer)
    for name, count in row.get("lines", {}).items():
        until(lambda name=name, count=count: len(runs.lines(name)) == count, within_s=20)
    if "hooks" in row:
        until(lambda: row["hooks"] in runs.lines("HOOKS"), within_s=20)


# -- what is asked -----------------------------------------------------------------------------------


def order_of(make: Callable[..., Any], fragment: Mapping[str, Any]) -> Any:
    loaded = load(yaml.safe_dump({"actions": {"a": dict(fragment)}}))
    assert loaded.workspace is not None and not loaded.errors, report(loaded)
    ledger, runner = FakeLedger(), FakeRunner()
    ledger.material_of = lambda _: material(loaded.workspace.actions["a"])
    parts = make(ledger, runner, server_url="http://stroem:8080")
    parts.execution.perform(Attempt(claim(7), 0.0))
    return runner.orders[0]


SCHEDULER = {"account": "lab", "worker_config": "/etc/worker.yaml"}


def asked_of_slurm(row: Mapping[str, Any], *, is_given: bool) -> str:
    scheduler = {**SCHEDULER, **(row.get("with", {}) if is_given else {})}
    request = Request("j", "a", "gpu", "/out")
    if is_given:
        request = replace(request, **row.get("request", {}))
    return build(scheduler, request, Launch(("python", "manage.py", "worker"), "/opt"))


def asked(make: Callable[..., Any], kind: str, fragment: Mapping[str, Any]) -> Any:
    defaults: dict[str, Any] = {"type": kind if kind == "pod" else "docker", "image": "i"}
    if "runner" in fragment or fragment.get("type") == "script":
        defaults = {"type": "script", "script": "true"}
    order = order_of(make, {**defaults, **fragment})
    if kind == "pod":
        return build_plan(order, PodConfig(namespace="n", owner="w"))
    if kind == "workspace":
        return order.work.workspace_mode
    if kind == "platform":
        return order.container.platform
    config = DockerConfig(owner="w", volumes={"sets": NamedVolume(volume="sets")})
    image = getattr(order.work, "image", "i")
    return build_request(order, config, image, Sources())


@pytest.mark.parametrize("row", rows("asks"))
def test_something_else_is_asked_for_with_it(
    request: pytest.FixtureRequest, row: dict[str, Any]
) -> None:
    if row["asks"] == "slurm":
        assert asked_of_slurm(row, is_given=True) != asked_of_slurm(row, is_given=False)
        return
    without = row.get("instead_of", {"runner": "docker"} if "runner" in row["with"] else {})
    make = request.getfixturevalue("bench")
    assert asked(make, row["asks"], row["with"]) != asked(make, row["asks"], without)


# -- what people see -----------------------------------------------------------------------------------


def page_of(row: Mapping[str, Any], tmp_path: Path, *, is_given: bool) -> str:
    from apps.accounts.models import User

    given = row["with"] if is_given and "with" in row else {}
    of = row.get("of")
    action = {"type": "script", "script": "true", **(given if row["page"] == "job" else {})}
    step = {"action": "a", **(row.get("step", {}) if is_given else {})}
    field = {"type": "string", **(given if of == "input" else {})}
    task = {
        "input": {"first": {"type": "string"}, "it": field},
        "flow": {"s": step},
        **(given if of == "task" else {}),
    }
    made = workspace(tmp_path, yaml.safe_dump({"actions": {"a": action}, "tasks": {"t": task}}))
    client = Client()
    client.force_login(
        User.objects.create_superuser(f"{uuid4().hex}@example.org", "a long password")
    )
    match row["page"]:
        case "job":
            job = start(made, "t")
            path = f"/admin/jobs/job/{job.pk}/change/"
        case "task":
            path = f"/admin/tasks/{made.name}/t/"
        case _:
            path = "/admin/tasks/"
    answer = client.get(path)
    assert answer.status_code == 200, path
    return answer.content.decode()


@pytest.mark.sample(6)
@pytest.mark.parametrize("row", rows("page"))
def test_people_see_it(tmp_path: Path, row: dict[str, Any]) -> None:
    without = page_of(row, tmp_path / "without", is_given=False)
    text = page_of(row, tmp_path / "with", is_given=True)
    if row.get("first"):
        assert text.index(">it<") < text.index(">first<")
        assert without.index(">it<") > without.index(">first<")
    else:
        assert row["shows"] in text and row["shows"] not in without


# -- what validate says ----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", rows("warns"))
def test_validate_says_that_it_has_none(row: dict[str, Any]) -> None:
    assert row["warns"]["says"] in report(load(row["warns"]["file"]))


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("row", rows("test"))
def test_its_own_test_is_there(row: dict[str, Any]) -> None:
    file, _, name = row["test"].partition("::")
    assert name in names_in(file)
