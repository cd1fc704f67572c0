"""State over HTTP: what is there, what came before, what people put into it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Role
from apps.artifacts.models import State, StateVersion
from apps.artifacts.state import history, uploads
from apps.jobs.models import Job
from apps.workspaces.models import Workspace
from tests.apps.api.callers import caller
from tests.apps.artifacts.conftest import directory as directory
from tests.apps.jobs.builders import workspace
from tests.engine.test_archives import packed

pytestmark = pytest.mark.django_db
FLOW = """
secrets: {pw: canary-4711-secret}
tasks: {main: {flow: {a: {type: script, script: "true"}}}}
"""
TASK, GLOBAL = "/api/workspaces/shop/tasks/main/state", "/api/workspaces/shop/state"


@pytest.fixture
def shop(tmp_path: Path, directory: Path) -> Workspace:
    return workspace(tmp_path, FLOW, "shop")


@pytest.fixture
def operator(shop: Workspace) -> APIClient:
    return caller(Role.OPERATOR)


def upload(client: APIClient, query: str = "", body: bytes = b"", path: str = TASK) -> Any:
    return client.post(f"{path}{query}", data=body, content_type="application/gzip")


def test_nothing_is_version_0(operator: APIClient) -> None:
    found = operator.get(TASK).json()
    assert (found["version"], found["values"], found["files"]) == (0, {}, [])
    assert (found["workspace"], found["task"], found["snapshot_id"]) == ("shop", "main", None)
    assert operator.get(f"{TASK}/history").json() == {"items": [], "total": 0}
    assert operator.get(GLOBAL).json()["task"] is None
    assert State.objects.count() == 0


def test_an_upload_is_a_version_and_a_completed_job(operator: APIClient) -> None:
    body = packed(("a/b.txt", b"hello"), ("run.sh", b"echo"), mode=0o755)
    answer = upload(operator, "?env=prod&n=1", body)
    assert answer.status_code == 201
    made = answer.json()
    job = Job.objects.get(pk=made["job_id"])
    assert (job.status, job.source_type, job.task_name) == ("completed", "upload", "main")
    email = job.input["upload"].pop("uploaded_by")
    assert job.input == {
        "upload": {
            "size_bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "has_json": True,
            "mode": "replace",
        }
    }
    assert job.output == {"snapshot_id": made["snapshot_id"]} and job.completed_at is not None
    found = operator.get(TASK).json()
    assert found["values"] == {"env": "prod", "n": "1"} and found["by"] == email
    assert [(one["path"], one["size_bytes"]) for one in found["files"]] == [
        ("a/b.txt", 5), ("run.sh", 4)
    ]  # fmt: skip
    assert found["job_id"] == made["job_id"] and found["source"] == "upload"
    page = operator.get(f"/api/jobs/{made['job_id']}").json()
    assert page["steps"] == [] and page["status"] == "completed"


def test_an_upload_replaces_or_merges(operator: APIClient) -> None:
    upload(operator, "?a=1&b=2", packed(("x", b"1"), ("y", b"1")))
    upload(operator, "?mode=merge&b=3", packed(("y", b"2"), ("z", b"2")))
    found = operator.get(TASK).json()
    assert found["values"] == {"a": "1", "b": "3"}
    assert {one["path"]: one["sha256"][:4] for one in found["files"]} == {
        name: hashlib.sha256(text).hexdigest()[:4]
        for name, text in (("x", b"1"), ("y", b"2"), ("z", b"2"))
    }
    upload(operator, "?c=4")
    found = operator.get(TASK).json()
    assert found["values"] == {"c": "4"} and found["files"] == [] and found["version"] == 3


def test_the_state_of_the_workspace_is_for_its_admins(shop: Workspace) -> None:
    refused = upload(caller(Role.OPERATOR), "?a=1", path=GLOBAL)
    assert refused.status_code == 403
    assert refused.json()["error"] == "Admin privileges required for global-state upload"
    made = upload(caller(Role.ADMIN), "?a=1", path=GLOBAL).json()
    assert Job.objects.get(pk=made["job_id"]).task_name == "_global_state"
    assert caller(Role.VIEWER).get(GLOBAL).json()["values"] == {"a": "1"}


@pytest.mark.parametrize(
    ("query", "body", "said"),
    [
        ("?mode=add", b"", "Invalid mode 'add': must be 'replace' or 'merge'"),
        ("", packed(("state.json", b"{}")), "must not contain a root-level state.json"),
        ("", packed(("../x", b"")), "leads out of the directory"),
        ("", packed(("/etc/x", b"")), "leads out of the directory"),
        ("", packed(("x", tarfile.SYMTYPE[0])), "'x' is a symbolic link"),
        ("", packed(("x", tarfile.LNKTYPE[0])), "'x' is a hard link"),
        ("", packed(("x", b""), ("x/y", b"")), "more than once"),
        ("", b"no archive", "no whole tar file"),
        ("", packed(("x", bytes(range(256)) * 9))[:50], "no whole tar file"),
        ("", packed(("x", b"\0" * (51 << 20))), "more than 10,000 files or 50 MB"),
        ("?a=" + "x" * 1_000_001, b"", "its values would take"),
    ],
    ids=[
        "mode", "values", "above", "absolute", "link", "hard-link", "twice", "junk", "cut",
        "bomb", "large-values",
    ],
)  # fmt: skip
def test_a_wrong_upload_is_refused_in_words_and_changes_nothing(
    operator: APIClient, query: str, body: bytes, said: str
) -> None:
    answer = upload(operator, query, body)
    assert answer.status_code == 400 and said in answer.json()["error"], answer.content
    assert StateVersion.objects.count() == 0 and Job.objects.count() == 0


def test_what_is_merged_has_a_limit(operator: APIClient, monkeypatch: Any) -> None:
    monkeypatch.setattr(uploads, "MOST_FILE_BYTES", 10)
    upload(operator, "", packed(("x", b"123456")))
    answer = upload(operator, "?mode=merge", packed(("y", b"123456")))
    assert answer.json()["error"] == (
        "Merged snapshot exceeds 10 bytes; use mode=replace or reduce payload"
    )


def test_secrets_in_an_upload_are_masked(operator: APIClient) -> None:
    upload(operator, "?a=canary-4711-secret")
    assert "canary" not in operator.get(TASK).content.decode()


def test_versions_differ_and_come_back(operator: APIClient) -> None:
    upload(operator, "?a=1&b=1", packed(("x", b"1")))
    upload(operator, "?a=2", packed(("y", b"1")))
    page = operator.get(f"{TASK}/history").json()
    assert [(one["version"], one["written"], one["files"]) for one in page["items"]] == [
        (2, ["a"], 1), (1, ["a", "b"], 1)
    ]  # fmt: skip
    assert operator.get(f"{TASK}/history?limit=1&offset=1").json()["items"][0]["version"] == 1
    found = operator.get(f"{TASK}/versions/2?against=1").json()["differences"]
    assert [(one["name"], one["what"], one["is_file"]) for one in found] == [
        ("a", "changed", False), ("b", "removed", False), ("x", "removed", True),
        ("y", "added", True),
    ]  # fmt: skip
    assert "differences" not in operator.get(f"{TASK}/versions/1").json()
    made = operator.post(f"{TASK}/versions/1/restore").json()
    assert made["version"] == 3 and made["values"] == {"a": "1", "b": "1"}
    assert made["source"] == "restore" and [one["path"] for one in made["files"]] == ["x"]


def test_a_version_is_a_number_that_is_kept(operator: APIClient) -> None:
    upload(operator, "?a=1")
    for path in ("versions/9", "versions/1?against=9", "archive?version=9"):
        assert operator.get(f"{TASK}/{path}").status_code == 404
    assert operator.post(f"{TASK}/versions/9/restore").status_code == 404
    for path in ("versions/x", "versions/1?against=x", "archive?version=-1"):
        assert operator.get(f"{TASK}/{path}").status_code == 400
    assert operator.get(f"{TASK}?version=1").status_code == 400


def test_an_archive_holds_files_and_values(operator: APIClient) -> None:
    upload(operator, "?a=canary-4711-secret&b=2", packed(("bin/run", b"echo"), mode=0o755))
    answer = operator.get(f"{TASK}/archive")
    assert answer.headers["Content-Type"] == "application/gzip"
    assert "attachment" in answer.headers["Content-Disposition"]
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        names = {member.name: member.mode for member in tar}
        values = tar.extractfile("state.json")
        assert values is not None and b"canary" not in (text := values.read()) and b'"b"' in text
    assert names == {"state.json": 0o644, "bin/run": 0o755}


def test_what_is_deleted_is_gone(operator: APIClient) -> None:
    upload(operator, "?a=1", packed(("x", b"1")))
    assert operator.delete(TASK).status_code == 403
    assert caller(Role.ADMIN).delete(TASK).json() == {"removed_versions": 1}
    assert operator.get(TASK).json()["values"] == {} and StateVersion.objects.count() == 0
    assert caller(Role.ADMIN).delete(GLOBAL).json() == {"removed_versions": 0}


def test_unknown_tasks_have_no_state_but_old_ones_keep_theirs(
    shop: Workspace, operator: APIClient
) -> None:
    path = "/api/workspaces/shop/tasks/gone/state"
    assert operator.get(path).status_code == 404 and upload(operator, path=path).status_code == 404
    State.objects.create(workspace=shop, task_name="gone", version=1, values={"a": 1})
    assert operator.get(path).json()["values"] == {"a": 1}


def test_a_storage_that_is_away_is_a_503_that_may_be_repeated(
    operator: APIClient, directory: Path
) -> None:
    body = packed(("x", b"1"))
    directory.chmod(0o000)
    moved = directory.rename(directory.with_name("away"))
    directory.write_text("no directory")
    try:
        answer = upload(operator, "?a=1", body)
        assert answer.status_code == 503 and answer.headers["Retry-After"]
    finally:
        directory.unlink()
        moved.rename(directory)
        directory.chmod(0o700)
    assert history.newest(history.find(Workspace.objects.get().pk, "main")).version == 0
    assert upload(operator, "?a=1", body).status_code == 201
