"""The address where pods fetch their workspace: one revision, one attempt, while that attempt is
alive."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from apps.jobs import ledger
from apps.jobs.models import Attempt
from apps.workspaces import passes
from apps.workspaces.ledger import pass_for
from apps.workspaces.models import Revision
from apps.workspaces.services import refresh
from tests.apps.api.callers import client_of, user
from tests.apps.jobs.builders import Hand, failed, start, workspace

pytestmark = pytest.mark.django_db(transaction=True)

FLOW = """
actions: {work: {type: script, runner: pod, script: "true"}}
tasks: {main: {flow: {one: {action: work}}}}
"""


class Held:
    """A step claimed by a worker, and requests for its files."""

    def __init__(self, folder: Path, name: str = "own") -> None:
        self.workspace = workspace(folder, FLOW, name)
        (folder / name / "data.csv").write_text("a,b\n")
        refresh(self.workspace)
        start(self.workspace)
        self.hand = Hand("kubernetes")
        found = self.hand.claim()
        assert found is not None
        self.claim: ledger.Claim = found
        assert self.hand.start(found)

    @property
    def token(self) -> str:
        return pass_for(self.claim.attempt_id, self.claim.fence, self.claim.revision_digest)

    def get(self, token: str | None = None, method: str = "get", **over: str) -> Any:
        name, digest = (
            over.get("name", self.claim.workspace),
            over.get("digest", self.claim.revision_digest),
        )
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        if "etag" in over:
            headers["if-none-match"] = over["etag"]

        async def ask() -> Any:
            path = f"/worker/workspace/{name}.tar.gz?revision={digest}"
            answer = await getattr(AsyncClient(), method)(path, headers=headers)
            answer.body = (
                b"".join([part async for part in answer]) if answer.streaming else answer.content
            )
            return answer

        return async_to_sync(ask)()


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held(tmp_path)


def test_the_pass_of_a_running_step_opens_the_files_that_its_job_has_pinned(
    held: Held, tmp_path: Path
) -> None:
    (tmp_path / "own" / "later.txt").write_text("not of this revision")
    refresh(held.workspace)
    answer = held.get()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/gzip")
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert "no-store" in answer.headers["Cache-Control"]
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        assert sorted(tar.getnames()) == ["data.csv", "workflow.yaml"]


def test_a_known_archive_is_not_sent_again(held: Held) -> None:
    tag = held.get().headers["ETag"]
    assert held.claim.revision_digest in tag
    again = held.get(etag=tag)
    assert (again.status_code, again.body) == (304, b"")
    assert held.get("strp_1.1." + "a" * 64 + "." + "A" * 43, etag=tag).status_code == 401


def test_another_revision_or_workspace_does_not_exist_for_the_pass(
    held: Held, tmp_path: Path
) -> None:
    old = held.claim.revision_digest
    (tmp_path / "own" / "later.txt").write_text("x")
    refresh(held.workspace)
    newer = Revision.objects.exclude(digest=old).latest("id").digest
    other = workspace(tmp_path, FLOW, "other")
    assert held.get(digest=newer).status_code == 404
    assert held.get(name="other").status_code == 404
    assert held.get(name="nobodys").status_code == 404
    assert held.get(digest="").status_code == 404
    assert other.current is not None
    # Even with our keys, an attempt cannot get a pass for a revision that it has not pinned.
    forged = pass_for(held.claim.attempt_id, held.claim.fence, newer)
    assert held.get(forged, digest=newer).status_code == 404


@pytest.mark.sample(4)
@pytest.mark.parametrize("verdict", ["finished", "failed", "given back", "lease over"])
def test_the_pass_of_an_ended_step_is_invalid(held: Held, verdict: str) -> None:
    token = held.token
    assert held.get(token).status_code == 200
    match verdict:
        case "finished":
            held.hand.finish(held.claim)
        case "failed":
            held.hand.finish(held.claim, failed())
        case "given back":
            ledger.give_back(held.claim)
        case "lease over":
            Attempt.objects.filter(id=held.claim.attempt_id).update(
                lease_until="2020-01-01T00:00:00Z"
            )
    assert held.get(token).status_code == 410


def test_the_next_attempt_does_not_revive_the_pass_of_the_one_before(held: Held) -> None:
    token = held.token
    ledger.give_back(held.claim)
    assert held.hand.claim() is not None
    assert held.get(token).status_code == 410


def test_a_pass_that_was_changed_anywhere_is_refused(held: Held) -> None:
    token = held.token
    head, fence, digest, mark = token.split(".")
    number = head.removeprefix("strp_")
    for other in (
        "",
        "nothing",
        f"strp_{int(number) + 1}.{fence}.{digest}.{mark}",
        f"{head}.{int(fence) + 1}.{digest}.{mark}",
        f"{head}.{fence}.{'0' * 64}.{mark}",
        f"{head}.{fence}.{digest}.{mark[:-2]}" + ("AA" if not mark.endswith("AA") else "BB"),
        f"{head}.{fence}.{digest}.",
        f"{head}.{fence}.{digest}",
        token + "A",
        token.upper(),
        "strp_" + "9" * 400,
    ):
        assert held.get(other).status_code == 401, other
    assert passes.read(f"strp_٣.{fence}.{digest}.{mark}") is None


def test_a_pass_under_a_key_that_was_rotated_is_good_until_that_key_goes(
    held: Held, settings: Any
) -> None:
    token, old = held.token, settings.STROEM_KEYS
    settings.STROEM_KEYS = ["n" * 40, *old]
    assert passes.read(token) is not None
    settings.STROEM_KEYS = ["n" * 40]
    assert passes.read(token) is None


def test_a_pass_needs_the_worker_token_that_the_server_has(held: Held, settings: Any) -> None:
    def signed(token: str | None) -> str:
        claim = held.claim
        return pass_for(claim.attempt_id, claim.fence, claim.revision_digest, token)

    without, right = held.token, "t" * 40
    settings.STROEM = replace(settings.STROEM, worker_token=right)
    assert held.get(without).status_code == 401
    assert held.get(signed("u" * 40)).status_code == 401
    assert held.get(signed(right)).status_code == held.get().status_code == 200


def test_nobody_but_a_step_may_fetch(held: Held) -> None:
    """Not anonymously, not with a session, and not as an administrator."""
    path = f"/worker/workspace/own.tar.gz?revision={held.claim.revision_digest}"
    root = user(is_superuser=True)
    with_session = AsyncClient()

    async def ask(client: AsyncClient, **headers: str) -> int:
        return int((await client.get(path, headers=headers)).status_code)

    async_to_sync(with_session.aforce_login)(root)
    assert async_to_sync(ask)(AsyncClient()) == 401
    assert async_to_sync(ask)(with_session) == 401
    assert client_of(root).get(path).status_code == 401
    assert held.get(method="post").status_code == 405


def test_a_pass_opens_nothing_else(held: Held) -> None:
    async def ask(path: str) -> int:
        headers = {"authorization": f"Bearer {held.token}"}
        return int((await AsyncClient().get(path, headers=headers)).status_code)

    for path in ("/api/jobs", "/api/workspaces", "/api/workspaces/own/tasks", "/api/auth/me"):
        assert async_to_sync(ask)(path) == 401
