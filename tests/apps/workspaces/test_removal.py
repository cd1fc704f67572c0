"""Workspaces that come and go: a first import that fails leaves none; removal takes everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from apps.accounts.models import User, WorkspaceGrant
from apps.jobs.flow.starting import Origin, start_at
from apps.jobs.models import Job
from apps.jobs.services import cancel_job
from apps.jobs.upkeep.removal import remove_workspace
from apps.workspaces import secrets, services
from apps.workspaces.models import Blob, Revision, Secret, Workspace
from engine.errors import Conflict, NotFound
from stroem_project.config import Source
from tests.apps.jobs.builders import Hand, failed, start, workspace

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
actions:
  work: {type: script, script: "true"}
  ask: {type: approval, message: "Go on?"}
  call: {type: task, task: main}
tasks:
  main: {flow: {one: {action: work}}}
  calls: {flow: {a: {action: call}}, on_error: [{action: work}]}
  asks: {flow: {a: {action: ask}}}
"""
TABLES = (
    "jobs_job", "jobs_step", "jobs_attempt", "jobs_stepevent", "hooks_hookrun",
    "approvals_approvalrequest", "workspaces_revision", "workspaces_blob", "workspaces_secret",
)  # fmt: skip


def counts() -> dict[str, int]:
    found = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT count(*) FROM {table}")
            found[table] = cursor.fetchone()[0]
    return found


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def root() -> Client:
    return client_of(User.objects.create_superuser("root@example.org"))


# the first import


def broken(folder: Path) -> Path:
    (folder / "flow.yaml").write_text("actions: {a: {type: scirpt}}\n")
    return folder


def test_a_first_import_that_fails_leaves_no_workspace(tmp_path: Path) -> None:
    read = services.import_folder("shop", broken(tmp_path))
    assert read.has_failed and read.current is None
    assert not Workspace.objects.exists()
    services.import_git("shop", str(tmp_path / "nowhere.git"), is_local=True)
    assert not Workspace.objects.exists()


def test_one_of_the_settings_stays_and_is_read_again(tmp_path: Path) -> None:
    services.import_folder("shop", broken(tmp_path), keeps=True)
    (tmp_path / "flow.yaml").write_text(FLOW)
    assert services.refresh(Workspace.objects.get()).current is not None


def test_a_later_import_that_fails_keeps_the_workspace(tmp_path: Path) -> None:
    shop = workspace(tmp_path, FLOW, "shop")
    services.import_folder("shop", broken(tmp_path))
    shop.refresh_from_db()
    assert shop.has_failed and shop.current is not None


# removal


def test_everything_of_a_workspace_goes_and_nothing_of_another(tmp_path: Path) -> None:
    # the same files, so that both share an archive
    other = workspace(tmp_path, FLOW, "other")
    kept = start(other)
    before = counts()
    shop = workspace(tmp_path, FLOW, "shop")
    secrets.store_secret(shop, "pw", "canary-4711", by="x")
    asked, called = start(shop, "asks"), start(shop, "calls")
    hand = Hand()
    while (claim := hand.claim()) is not None:
        hand.start(claim)
        hand.finish(claim, failed())
    cancel_job(asked.pk, actor="test")
    for job in Job.objects.filter(status__in=("pending", "running"), workspace=shop):
        cancel_job(job.pk, actor="test")
    assert Job.objects.filter(parent_job_id=called.pk).exists()
    total = Job.objects.filter(workspace=shop).count()

    assert remove_workspace("shop") == total

    assert not Workspace.objects.filter(name="shop").exists()
    assert Blob.objects.count() == Revision.objects.count() == 1
    assert {**counts(), "jobs_attempt": 0, "jobs_stepevent": 0} == {
        **before, "jobs_attempt": 0, "jobs_stepevent": 0,
    }  # fmt: skip
    assert Job.objects.get().pk == kept.pk
    assert not Secret.objects.exists()
    assert services.import_folder("shop", shop.location).current is not None  # the name is free


def test_open_jobs_and_the_settings_stand_against_it(tmp_path: Path, settings: Any) -> None:
    shop = workspace(tmp_path, FLOW, "shop")
    job = start(shop)
    with pytest.raises(Conflict, match="1 job has not ended in workspace 'shop'"):
        remove_workspace("shop")
    cancel_job(job.pk, actor="test")
    defined = {"shop": Source("folder", path=tmp_path)}
    found = settings.STROEM
    settings.STROEM = replace(found, workspaces=defined)
    with pytest.raises(Conflict, match="The settings define workspace 'shop'"):
        remove_workspace("shop")
    settings.STROEM = found
    shop.refresh_from_db()
    assert shop.current is not None
    assert remove_workspace("shop") == 1
    with pytest.raises(NotFound):
        remove_workspace("shop")


def test_the_page_says_what_goes_and_only_superusers_open_it(tmp_path: Path, root: Client) -> None:
    shop = workspace(tmp_path, FLOW, "shop")
    admin = User.objects.create_user("ada@example.org")
    WorkspaceGrant.objects.create(user=admin, pattern="*", role="admin")
    page = f"/admin/workspaces/workspace/{shop.pk}/change/"
    assert "Remove …" in root.get(page).content.decode()
    assert "Remove …" not in client_of(admin).get(page).content.decode()
    address = "/admin/workspaces/shop/remove/"
    assert client_of(admin).get(address).status_code == 403
    assert client_of(admin).post(address).status_code == 403
    assert "1 revision" in root.get(address).content.decode()
    assert Workspace.objects.exists()
    answer = root.post(address, follow=True)
    assert "Workspace shop is removed" in answer.content.decode()
    assert not Workspace.objects.exists()
    assert root.get(address).status_code == 404


def test_the_api_removes_one_for_superusers(tmp_path: Path, root: Client) -> None:
    shop = workspace(tmp_path, FLOW, "shop")
    viewer = User.objects.create_user("ada@example.org")
    address = "/api/workspaces/shop"
    assert client_of(viewer).delete(address).status_code == 404
    WorkspaceGrant.objects.create(user=viewer, pattern="shop", role="admin")
    assert client_of(viewer).delete(address).status_code == 403
    job = start(shop)
    assert root.delete(address).status_code == 409
    cancel_job(job.pk, actor="test")
    answer = root.delete(address)
    assert (answer.status_code, answer.json()) == (200, {"workspace": "shop", "removed_jobs": 1})
    assert root.delete(address).status_code == 404


def test_failing_ones_stand_first_on_list_and_dashboard(tmp_path: Path, root: Client) -> None:
    error = {"severity": "error", "text": "flow.yaml:1:1: error: no such type", "file": "flow.yaml"}
    for name in ("aaa", "bbb", "ccc"):
        workspace(tmp_path, FLOW, name)
    assert "failed to load" not in root.get("/admin/").content.decode()
    Workspace.objects.filter(name="ccc").update(problems=[error])
    text = root.get("/admin/workspaces/workspace/").content.decode()
    assert text.index(">ccc<") < text.index(">aaa<") < text.index(">bbb<")
    text = root.get("/admin/").content.decode()
    assert "Workspaces that failed to load" in text and "no such type" in text
    stranger = client_of(User.objects.create_user("ada@example.org"))
    assert "no such type" not in stranger.get("/admin/").content.decode()


@pytest.mark.parametrize("is_known", [True, False], ids=["started before", "never started"])
def test_a_job_that_starts_while_its_workspace_is_removed_is_refused_in_one_sentence(
    tmp_path: Path, is_known: bool
) -> None:
    made = workspace(tmp_path, FLOW)
    revision = made.current
    assert revision is not None
    if is_known:
        start(made)
        Hand().work()
    remove_workspace(made.name)
    with pytest.raises(NotFound, match="The workspace of task 'main' was removed just now"):
        start_at(revision, "main", {}, Origin("user", "root"))
    assert not Job.objects.exists()
