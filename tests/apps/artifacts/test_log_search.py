"""Plain text is found wherever lines are kept, bit by bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from apps.accounts.models import Role
from apps.api.mcp import tools
from apps.api.mcp.tools import Toolbox
from apps.artifacts.logs import moving
from apps.jobs.log import search
from apps.jobs.models import Job
from tests.apps.api.callers import caller, error, user
from tests.apps.artifacts.logkeeping import FLOW, age, get, move, run
from tests.apps.jobs.builders import Hand, start, workspace

pytestmark = pytest.mark.django_db
BUILD = [
    "Error: disk FULL", "ok", 'say "hi" \\ there', "a.c", "abc", "ΟΔΟΣ", "\x1b[31mred\x1b[0m",
    "x" * 5_000 + "needle" + "y" * 5_000, "ts stream step line", "error again",
]  # fmt: skip


@pytest.fixture
def job(tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(moving, "FRAME_BYTES", 500)
    made = start(workspace(tmp_path, FLOW))
    run(made, Hand(), build=BUILD, test=["error of the test"])
    age(made)
    return made


def find(client: APIClient, job: Job, text: str, **given: Any) -> list[str]:
    path = f"/api/jobs/{job.pk}/logs/search"
    found, after = [], "0"
    while True:
        said = client.get(path, {"q": text, "after": after, **given}).json()
        found += [one["line"] for one in said["items"]]
        if said["stopped"] == "end":
            return found
        after = said["next"]


@pytest.mark.parametrize("is_moved", [False, True], ids=["live", "moved"])
def test_text_is_found_as_it_is(job: Job, is_moved: bool) -> None:
    client = caller(Role.VIEWER)
    if is_moved:
        assert move() == len(BUILD) + 1
    for text, lines in {
        "ERROR": [BUILD[0], BUILD[-1], "error of the test"],
        '"hi" \\': [BUILD[2]],
        "a.c": ["a.c"],  # no pattern
        "οδος": ["ΟΔΟΣ"],
        "[31mRED": [BUILD[6]],
        "stdout": [],  # what a record says besides its line is no line
        "stream": [BUILD[8]],
    }.items():
        for limit in (1, 100):
            assert find(client, job, text, limit=limit) == lines
    assert find(client, job, "error", step="test") == ["error of the test"]
    assert find(client, job, "error", step="_server") == []


def test_a_hit_says_where_to_read_on_and_a_long_line_is_cut(job: Job) -> None:
    move()
    client = caller(Role.VIEWER)
    (hit,) = get(client, f"/api/jobs/{job.pk}/logs/search?q=NEEDLE")["items"]
    assert hit["is_cut"] and "needle" in hit["line"] and len(hit["line"]) == search.LONGEST_LINE
    logs = get(client, f"/api/jobs/{job.pk}/logs?after={hit['after']}")["logs"]
    assert "needle" in "\n".join(logs.splitlines()[:2])


@pytest.mark.parametrize("is_moved", [False, True], ids=["live", "moved"])
def test_one_call_reads_so_much_and_says_so(
    job: Job, is_moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_moved:
        move()
    monkeypatch.setattr(search, "SCAN_BYTES", 300)
    monkeypatch.setattr(search, "PIECE_BYTES", 300)
    client = caller(Role.VIEWER)
    said = get(client, f"/api/jobs/{job.pk}/logs/search?q=again")
    assert (said["items"], said["stopped"]) == ([], "scanned")
    assert find(client, job, "again") == ["error again"]


def test_what_is_no_search_is_refused(job: Job) -> None:
    client, path = caller(Role.VIEWER), f"/api/jobs/{job.pk}/logs/search"
    for query, told in {
        "": "q must be a text of at most 200 characters",
        f"?q={'x' * 201}": "q must be a text of at most 200 characters",
        "?q=a&after=x": "after must be the `next` of an earlier answer",
        "?q=a&limit=0": "limit must be 1 to 1000",
        "?q=a&limit=9999": "limit must be 1 to 1000",
        "?q=a&limit=x": "limit must be 1 to 1000",
    }.items():
        answer = client.get(path + query)
        assert (answer.status_code, error(answer)) == (400, told)
    assert client.get(f"{path}?q=a&step=none").status_code == 404
    assert caller().get(f"{path}?q=a").status_code == 404


def test_the_page_searches_the_whole_log(job: Job) -> None:
    move()
    client = Client()
    client.force_login(user(Role.VIEWER, is_superuser=True))
    path = f"/admin/jobs/{job.pk}/log/search/"
    said = get(client, f"{path}?q=error")
    assert [hit["line"] for hit in said["hits"]] == [BUILD[0], BUILD[-1], "error of the test"]
    assert said["stopped"] == "end"
    for wrong in ("", "x" * 201):
        answer = client.get(path, {"q": wrong})
        assert answer.status_code == 400
        assert answer.json()["error"] == "Search for a text of 1 to 200 characters."
    assert client.get(f"{path}?q=a&after=x").status_code == 404
    assert Client().get(f"{path}?q=error").status_code == 404


def test_an_agent_searches_bit_by_bit(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    move()
    monkeypatch.setattr(tools, "MOST_FOUND", 2)
    toolbox, given = Toolbox(user(Role.VIEWER)), {"job_id": str(job.pk), "text": "error"}
    said = [json.loads(toolbox.begin("search_job_logs", given).text)]  # type: ignore[union-attr]
    given["after"] = said[0]["next"]
    said.append(json.loads(toolbox.begin("search_job_logs", given).text))  # type: ignore[union-attr]
    assert [len(one["lines"]) for one in said] == [2, 1]
    assert [one["stopped"] for one in said] == ["limit", "end"]
    assert said[1]["lines"][0].endswith("[test] error of the test")
    for wrong in ({"after": "x"}, {"text": "x" * 201}):
        assert toolbox.begin("search_job_logs", given | wrong).is_error  # type: ignore[union-attr]


def test_the_command_searches_to_the_end(
    job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    move()
    monkeypatch.setattr(search, "SCAN_BYTES", 300)
    call_command("logs", str(job.pk), "--search", "ERROR")
    shown = capsys.readouterr().out.splitlines()
    assert shown == [f"build | {BUILD[0]}", f"build | {BUILD[-1]}", "test | error of the test"]
    for wrong in (["--follow"], ["--action", "0"]):
        with pytest.raises(CommandError, match="give one of them"):
            call_command("logs", str(job.pk), "--search", "x", *wrong)
    with pytest.raises(CommandError, match="--search needs a text"):
        call_command("logs", str(job.pk), "--search", "")
