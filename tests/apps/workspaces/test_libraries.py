"""Libraries: found by name, pinned, refreshed on purpose, never changed in silence."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.accounts.models import Role
from apps.audit.models import Entry
from apps.workspaces import services
from apps.workspaces.libraries import listing, pins
from apps.workspaces.models import Library, Revision, Workspace
from apps.workspaces.revisions import definition_of
from apps.workspaces.services import import_folder
from console.workspace_path import read_path
from engine.errors import Conflict, NotFound
from tests.apps.api.callers import caller as client
from tests.apps.jobs.builders import fresh, start
from tests.apps.jobs.lending import local_worker, log_of, step_of
from tests.apps.triggers.test_pages import person

pytestmark = pytest.mark.django_db(transaction=True)
LIBRARY = """
secrets: { own: not-imported-0 }
connection_types: { chat: { room: { type: string } } }
actions:
  tell:
    type: script
    source: scripts/tell.sh
    input: { to: { type: string, required: true }, chat: { type: chat } }
  both: { type: task, task: twice }
tasks:
  twice:
    flow:
      one: { action: tell, input: { to: one } }
      two: { type: script, source: scripts/two.sh, depends_on: [one] }
"""
TELL = 'echo "told $STROEM_INPUT_TO by $(cat "$STROEM_LIBRARY_DIR/version.txt")"\n'
USER = """
libraries: { common: { SOURCE } }
connections: { here: { type: common.chat, room: lobby } }
tasks:
  main: { flow: { say: { action: common.tell, input: { to: Ann, chat: here } } } }
  all: { flow: { run: { action: common.both } } }
"""


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(repository: Path, version: str = "1", text: str = LIBRARY) -> str:
    (repository / "scripts").mkdir(parents=True, exist_ok=True)
    (repository / ".workflows").mkdir(exist_ok=True)
    (repository / ".workflows" / "common.yaml").write_text(text)
    (repository / "scripts" / "tell.sh").write_text(TELL)
    (repository / "scripts" / "two.sh").write_text("echo two\n")
    (repository / "version.txt").write_text(version)
    if not (repository / ".git").exists():
        git(repository, "init", "--quiet", "--initial-branch=main")
    git(repository, "add", "-A")
    git(repository, "commit", "--quiet", "-m", version)
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repositories" / "common"
    commit(folder)
    return folder


@pytest.fixture(autouse=True)
def rules(settings: Any, tmp_path: Path) -> None:
    """The operator allows what lies in the folder of repositories."""
    allow(settings, tmp_path)


def allow(settings: Any, tmp_path: Path) -> None:
    from stroem_project.config import Source

    there = tmp_path / "repositories"
    sources = {"ours": Source("git", url=f"{there}/"), "folders": Source("folder", path=there)}
    settings.STROEM = replace(settings.STROEM, libraries=sources)


def user(folder: Path, source: str, lock: Any = None, text: str = USER) -> Workspace:
    root = folder / "site"
    root.mkdir(exist_ok=True)
    (root / "site.yaml").write_text(text.replace("SOURCE", source))
    if lock is not None:
        (root / "libraries.lock").write_text(json.dumps(lock))
    return import_folder("site", root, keeps=True)


def errors(found: Workspace) -> list[str]:
    return [one["message"] for one in found.problems if one["severity"] == "error"]


def run(tmp_path: Path, task: str = "main") -> str:
    job = start(Workspace.objects.get(name="site"), task)
    with local_worker(tmp_path) as worker:
        worker.carry_out()
    assert fresh(job).status == "completed", step_of(job, "say").error
    return log_of(job)


@pytest.mark.parametrize("kind", ["url", "path"])
def test_an_action_of_a_library_runs_with_its_files(
    tmp_path: Path, repository: Path, kind: str
) -> None:
    found = user(tmp_path, f"{kind}: {repository}")
    assert errors(found) == []
    assert [one["message"] for one in found.problems] == [
        "'secrets' of library 'common' is not imported: a workspace has its own"
    ]
    assert "told Ann by 1" in run(tmp_path)
    assert found.current is not None
    library = definition_of(found.current.pk).libraries["common"]
    assert (library.commit == "") == (kind == "path") and len(library.tree) == 64


def test_tasks_with_inline_steps_come_along(tmp_path: Path, repository: Path) -> None:
    user(tmp_path, f"url: {repository}")
    job = start(Workspace.objects.get(name="site"), "all")
    with local_worker(tmp_path) as worker:
        assert worker.carry_out() == 2
    child = type(job).objects.get(parent_job_id=job.id)
    assert child.task_name == "common.twice" and child.status == "completed"
    assert "told one by 1" in log_of(child) and "two" in log_of(child)


def test_a_library_stays_at_its_commit_until_it_is_refreshed(
    tmp_path: Path, repository: Path
) -> None:
    first = git(repository, "rev-parse", "HEAD")
    user(tmp_path, f"url: {repository}, ref: main")
    second = commit(repository, "2")
    site = user(tmp_path, f"url: {repository}, ref: main")
    assert Library.objects.get().commit == first and Revision.objects.count() == 1
    assert pins.refresh(site, ["common"], by="ann") == ["common"]
    site = user(tmp_path, f"url: {repository}, ref: main")
    row = Library.objects.get()
    assert (row.commit, row.pinned_by, row.is_due) == (second, "ann", False)
    assert Revision.objects.count() == 2 and "told Ann by 2" in run(tmp_path)


def test_a_refresh_that_fails_keeps_the_pin_and_says_so(tmp_path: Path, repository: Path) -> None:
    site = user(tmp_path, f"url: {repository}")
    os.rename(repository, repository.parent / "gone")
    assert errors(user(tmp_path, f"url: {repository}")) == []  # nobody is asked
    pins.refresh(site, [], by="ann")
    found = user(tmp_path, f"url: {repository}")
    assert errors(found) == []
    assert any("Library 'common' stays at" in one["message"] for one in found.problems)
    assert not Library.objects.get().is_due and "told Ann by 1" in run(tmp_path)


def lock_of(repository: Path, tree: str | None = None) -> dict[str, Any]:
    from apps.workspaces.sources.git import GitSource, read_git

    found = read_git(GitSource(str(repository), is_local=True))
    pin = {"address": str(repository), "ref": "", "commit": found.label}
    return {"common": pin | {"tree": tree or found.digest}}


def test_a_lock_file_pins_the_commit(tmp_path: Path, repository: Path) -> None:
    locked = lock_of(repository)
    commit(repository, "2")
    site = user(tmp_path, f"url: {repository}", locked)
    assert errors(site) == [] and "told Ann by 1" in run(tmp_path)
    assert Library.objects.get().pinned_by == "libraries.lock"
    with pytest.raises(Conflict, match=r"pinned by libraries\.lock"):
        pins.refresh(site, ["common"], by="ann")
    with pytest.raises(NotFound, match="no library 'other'"):
        pins.refresh(site, ["other"], by="ann")


def test_files_that_are_not_the_pinned_ones_are_refused(tmp_path: Path, repository: Path) -> None:
    good = user(tmp_path, f"url: {repository}")
    (message,) = errors(user(tmp_path, f"url: {repository}", lock_of(repository, "a" * 64)))
    assert "its files are not those that were pinned" in message and "aaaaaaaaaaaa" in message
    assert Workspace.objects.get().current_id == good.current_id


def test_a_changed_folder_is_refused_by_its_pin(tmp_path: Path, repository: Path) -> None:
    tree = definition_of(user(tmp_path, f"path: {repository}").current_id or 0)
    pin = {"address": str(repository), "ref": "", "commit": ""}
    locked = {"common": pin | {"tree": tree.libraries["common"].tree}}
    assert errors(user(tmp_path, f"path: {repository}", locked)) == []
    Library.objects.all().delete()
    (repository / "version.txt").write_text("changed")
    (message,) = errors(user(tmp_path, f"path: {repository}", locked))
    assert "not those that were pinned" in message


def test_stored_files_are_checked_too(tmp_path: Path, repository: Path) -> None:
    user(tmp_path, f"url: {repository}")
    Library.objects.update(tree="b" * 64)
    (message,) = errors(user(tmp_path, f"url: {repository}"))
    assert "not those that were pinned" in message


@pytest.mark.parametrize(
    ("lock", "told"),
    [
        ({}, "libraries.lock has no pin for it"),
        ([], "is not a lock file"),
        ({"common": {"address": "x"}}, "is not a lock file"),
        (
            {"common": {"address": "https://a", "ref": "", "commit": "", "tree": "c" * 64}},
            "has a pin for https://a, and the files name another source",
        ),
    ],
)
def test_a_lock_file_that_does_not_fit_is_refused(
    tmp_path: Path, repository: Path, lock: Any, told: str
) -> None:
    (message,) = errors(user(tmp_path, f"url: {repository}", lock))
    assert told in message


@pytest.mark.parametrize(
    "source",
    [
        "path: /etc",
        "url: https://10.0.0.1/x.git",
        "url: /etc",
        "url: REPOS/../../etc",
        "path: ../..",
    ],
)
def test_files_of_a_workspace_send_the_server_nowhere_that_the_operator_does_not_allow(
    tmp_path: Path, source: str
) -> None:
    source = source.replace("REPOS", str(tmp_path / "repositories"))
    (message,) = errors(user(tmp_path, source))
    assert "no entry of `libraries` in the server's settings allows it" in message


@pytest.mark.parametrize(
    ("above", "url", "is_covered"),
    [
        ("ssh://git@host/team/", "ssh://git@host/team/x.git", True),
        ("git@host:team/", "git@host:team/x.git", True),
        ("https://host/", "https://host/a/x.git", True),
        ("https://host", "https://host/x.git", False),
        ("https://", "https://eve@host/x.git", False),
        ("https://host/team/", "https://host/team/../x.git", False),
        ("https://host/team/", "https://host/team/%2e%2e/x.git", False),
        ("ssh://git@host/team/", "ssh://eve@host/team/x.git", False),
    ],
)
def test_an_address_allows_what_lies_below_it(above: str, url: str, is_covered: bool) -> None:
    assert pins._covers(above, url) is is_covered


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "loop/x"])
def test_a_path_that_leads_nowhere_is_one_clear_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "loop").symlink_to("loop")
    (message,) = errors(user(tmp_path, f"path: {path}"))
    assert message == f"Library 'common': '{path}' leads nowhere: a home that nobody has, or a loop"


def test_an_unreachable_library_is_one_clear_error(tmp_path: Path) -> None:
    (message,) = errors(user(tmp_path, f"url: {tmp_path}/repositories/missing"))
    assert message.startswith("Library 'common': ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (USER.replace("common.tell", "common.tlel"), "library 'common' has no action 'tlel'"),
        (USER + "actions: { common.tell: { type: script, script: x } }", "is defined twice"),
        (USER.replace("SOURCE", "url: x, path: y"), "needs either 'url'"),
        (USER.replace("SOURCE", "path: y, ref: main"), "a folder has none"),
        (USER.replace("to: Ann, ", ""), "'to'"),
    ],
)
def test_mistakes_with_libraries_are_errors_of_the_workspace(
    tmp_path: Path, repository: Path, text: str, told: str
) -> None:
    found = user(tmp_path, f"url: {repository}", text=text).problems
    assert any(told in one["message"] for one in found), found


def test_mistakes_in_a_library_name_its_file(tmp_path: Path, repository: Path) -> None:
    commit(repository, "2", LIBRARY + "  odd: { flow: { a: { action: other.work } } }\n")
    found = user(tmp_path, f"url: {repository}")
    (error,) = [one for one in found.problems if one["severity"] == "error"]
    assert error["file"] == ".libraries/common/.workflows/common.yaml" and error["line"] == 15
    assert "a library may use only what it defines itself" in error["message"]


def test_hostile_links_of_a_library_lead_nowhere(tmp_path: Path, repository: Path) -> None:
    (repository / "out").symlink_to("/etc/passwd")
    (repository / "up").symlink_to("../../site.yaml")
    (repository / "in").symlink_to("version.txt")
    commit(repository, "2")
    found = user(tmp_path, f"url: {repository}")
    left_out = {one["file"] for one in found.problems if one["code"] == "left_out"}
    assert left_out == {".libraries/common/out", ".libraries/common/up"}
    assert "told Ann by 2" in run(tmp_path)


def test_the_folder_of_libraries_belongs_to_the_platform(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "site" / ".libraries" / "common").mkdir(parents=True)
    (tmp_path / "site" / ".libraries" / "common" / "x.yaml").write_text("actions: {}")
    (message,) = errors(user(tmp_path, f"url: {repository}"))
    assert "is for the files of libraries" in message


def test_the_list_says_what_uses_it_in_the_api_and_on_pages(
    tmp_path: Path, repository: Path
) -> None:
    site = user(tmp_path, f"url: {repository}")
    (one,) = client(Role.VIEWER).get("/api/workspaces/site/libraries").json()
    head = git(repository, "rev-parse", "HEAD")
    assert (one["name"], one["commit"], one["pinned_by"]) == ("common", head, "first read")
    assert one["used_by"] == ["task all", "task main", "connection here"]
    viewer = person(Role.VIEWER)
    listed = viewer.get("/admin/workspaces/library/").content.decode()
    assert head[:12] in listed and "task all, task main, connection here" in listed
    page = viewer.get(f"/admin/workspaces/workspace/{site.pk}/change/").content.decode()
    assert "task all, task main, connection here" in page and head[:12] in page
    assert (
        "common"
        not in person(Role.ADMIN, "other")
        .get("/admin/workspaces/library/")
        .content.decode()
        .partition("<main")[2]
    )


def rounds_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process, which knows the settings of the test."""
    monkeypatch.setattr(listing.rounds, "refresh", services.refresh)


@pytest.mark.long
def test_admins_refresh_it_by_button_address_and_command(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds_here(monkeypatch)
    user(tmp_path, f"url: {repository}")
    path = "/api/workspaces/site/libraries/common/refresh"
    assert client(Role.OPERATOR).post(path).status_code == 403
    second = commit(repository, "2")
    assert client(Role.ADMIN).post(path).json()["commit"] == second
    assert client(Role.ADMIN).post(path.replace("common", "odd")).status_code == 404
    third = commit(repository, "3")
    chosen = {"action": "refresh", "_selected_action": [Library.objects.get().pk]}
    person(Role.VIEWER).post("/admin/workspaces/library/", chosen)
    assert Library.objects.get().commit == second
    person(Role.ADMIN).post("/admin/workspaces/library/", chosen)
    assert Library.objects.get().commit == third
    fourth = commit(repository, "4")
    out = StringIO()
    call_command("libraries", "refresh", "site", "common", stdout=out)
    assert fourth[:12] in out.getvalue() and "task all" in out.getvalue()
    noted = Entry.objects.filter(act="library.refresh").order_by("pk")
    assert [entry.via for entry in noted] == ["api", "page", "command"]
    locked = user(tmp_path, f"url: {repository}", lock_of(repository))
    assert errors(locked) == []
    assert client(Role.ADMIN).post(path).status_code == 409


def test_a_folder_is_locked_by_a_command_and_checked_without_a_server(
    tmp_path: Path, repository: Path
) -> None:
    root = tmp_path / "site"
    user(tmp_path, f"url: {repository}")
    out = StringIO()
    call_command("lock", str(root), stdout=out)
    first = git(repository, "rev-parse", "HEAD")
    assert f"common: pinned at commit {first[:12]}" in out.getvalue()
    second = commit(repository, "2")
    call_command("lock", str(root), stdout=(again := StringIO()))
    assert f"common: kept at commit {first[:12]}" in again.getvalue()
    assert read_path(str(root))[1].errors == ()
    call_command("lock", str(root), "common", stdout=(moved := StringIO()))
    assert f"common: pinned at commit {second[:12]}" in moved.getvalue()
    with pytest.raises(CommandError, match=r"name no library 'comon' \(did you mean 'common'"):
        call_command("lock", str(root), "comon", stdout=StringIO())
    assert errors(import_folder("site", root)) == [] and Library.objects.get().is_locked
    lock = root / "libraries.lock"
    lock.write_text(
        lock.read_text().replace(json.loads(lock.read_text())["common"]["tree"], "d" * 64)
    )
    (problem,) = read_path(str(root))[1].errors
    assert "not those that were pinned" in problem.message
    os.rename(repository, repository.parent / "gone")
    (problem,) = read_path(str(root))[1].errors
    assert problem.message.startswith("Library 'common': ")


def test_a_library_that_is_no_longer_named_goes(tmp_path: Path, repository: Path) -> None:
    user(tmp_path, f"url: {repository}")
    user(tmp_path, "", text="tasks: {}")
    assert not Library.objects.exists()
