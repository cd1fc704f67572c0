"""The page searches what it does not show, too."""

from __future__ import annotations

import json

from django.db import connection
from playwright.sync_api import expect

from apps.jobs import services
from tests.browser.conftest import Opener
from tests.browser.stage import Stage

OLD, BETWEEN = 250, 5_000
INSERT = (
    "INSERT INTO jobs_logchunk (day, attempt_id, seq, job_id, lines, line_count)"
    " VALUES (current_date, 78, %s, %s, %s, %s)"
)


def test_lines_before_those_on_the_page_are_found_by_the_server(
    stage: Stage, opened: Opener
) -> None:
    stage.workspace("found", 'tasks: {main: {flow: {a: {type: approval, message: "Go?"}}}}')
    job = stage.start("main", None, "found")
    record = {"ts": "2026-03-01T12:00:00.000Z", "stream": "stdout", "step": "build"}
    texts = ([f"Needle <b>{number}</b>" for number in range(OLD)], ["hay"] * BETWEEN)
    with connection.cursor() as cursor:
        for seq, part in enumerate(texts):
            lines = "".join(json.dumps({**record, "line": text}) + "\n" for text in part)
            cursor.execute(INSERT, [seq, job.pk, lines, len(part)])
    page = opened(stage.vera)
    page.goto(stage.job_url(job))
    expect(page.locator("#log-state")).to_have_text(
        "5,000 lines — earlier lines are in the download"
    )
    expect(page.locator("#log-find")).to_be_hidden()
    page.fill("#log-search", "needle")
    expect(page.locator("#log-hits")).to_have_text("no match")
    page.click("#log-find")
    found = page.locator("#log-found")
    expect(found.locator("li")).to_have_count(200)
    expect(found.locator("li").first).to_have_text("2026-03-01 12:00:00buildNeedle <b>0</b>")
    expect(found.locator("[role=status]")).to_contain_text("200 lines so far; there may be more.")
    found.get_by_role("button", name="Search on").click()
    expect(found.locator("li")).to_have_count(OLD)
    expect(found.locator("[role=status]")).to_have_text(
        "250 lines of the whole log with this text."
    )
    page.fill("#log-search", "hay")
    expect(found).to_be_hidden()
    services.cancel_job(job.pk, actor="test")
