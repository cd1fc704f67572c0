"""The page of a job under failures, links in logs, child jobs and large graphs; rows of lists."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from apps.jobs.models import Job
from tests.browser.conftest import Opener
from tests.browser.stage import Stage

FLOWS = r"""
actions:
  quote: { type: script, script: "for i in $(seq 200); do echo \"  File line $i\" >&2; done; echo 'ValueError: the reason' >&2; exit 1" }
  link: { type: script, script: "printf 'see \\033]8;;https://example.com/report\\033\\\\the report\\033]8;;\\033\\\\ today\\n'" }
  check: { type: script, script: "echo checked" }
  hold: { type: approval, message: Go? }
tasks:
  fails: { flow: { first: { action: check }, breaks: { action: quote, depends_on: [first] } } }
  links: { flow: { says: { action: link } } }
  inner: { flow: { only: { action: check } } }
  outer: { flow: { runs: { type: task, task: inner } } }
  ordered:
    input:
      zeta: { type: string, required: true }
      a: { type: string }
      middle: { type: string, required: true }
    flow: { a: { action: check } }
  wide:
    flow:
      hold: { action: hold }
"""


@pytest.fixture(scope="module", autouse=True)
def flows(stage: Stage) -> Iterator[None]:
    names = [[f"{chr(97 + column)}-{chr(97 + row)}x" for row in range(26)] for column in range(10)]
    wide = "".join(
        f"      {name}: {{ action: check, depends_on: [{names[column - 1][row] if column else 'hold'}] }}\n"
        for column, column_names in enumerate(names)
        for row, name in enumerate(column_names)
    )
    if not stage.has("page"):
        stage.workspace("page", FLOWS + wide)
    yield


def test_a_long_failure_is_folded_and_leads_to_the_log_of_its_step(
    stage: Stage, opened: Opener
) -> None:
    job = stage.until_job(stage.start("fails", None, "page"), "failed")
    page = opened(stage.vera)
    page.goto(stage.job_url(job))
    box = page.locator("#job-error")
    assert box.locator("pre").inner_text().splitlines()[-1].endswith("ValueError: the reason")
    assert len(box.locator("pre").inner_text().splitlines()) == 4
    expect(page.locator(".st-node").first).to_be_in_viewport()
    expect(page.locator("#log")).to_be_in_viewport()
    box.get_by_role("button", name=re.compile("Show all")).click()
    assert len(box.locator("pre").inner_text().splitlines()) > 100
    assert box.bounding_box()["height"] < page.viewport_size["height"] / 2 + 100  # type: ignore[index]
    box.get_by_role("button", name="Show the last lines").click()
    box.get_by_role("button", name="Go to the log of breaks").click()
    expect(page.locator("#inspector-title")).to_have_text("breaks")
    expect(page.locator("#log")).to_contain_text("ValueError: the reason")


def test_a_link_in_a_log_keeps_its_text(stage: Stage, opened: Opener) -> None:
    job = stage.until_job(stage.start("links", None, "page"), "completed")
    page = opened(stage.vera)
    page.goto(stage.job_url(job))
    expect(page.locator("#log .st-line-text").first).to_have_text("see the report today")


def test_a_step_that_runs_a_job_leads_to_the_log_of_that_job(stage: Stage, opened: Opener) -> None:
    job = stage.until_job(stage.start("outer", None, "page"), "completed")
    page = opened(stage.vera)
    page.goto(stage.job_url(job))
    page.locator('.st-node[data-label="runs"]').click()
    page.get_by_role("tab", name="Log").click()
    expect(page.locator("#part-log")).to_contain_text("runs a job")
    page.get_by_role("link", name="Log of the job it runs").click()
    expect(page.locator("h1")).to_contain_text("inner")
    expect(page.locator("#log")).to_contain_text("checked")


def test_a_job_that_waits_says_for_whom_and_for_how_many(stage: Stage, opened: Opener) -> None:
    job = stage.start("wide", None, "page")
    stage.until_step(job, "hold", "suspended")
    page = opened(stage.vera)
    page.goto(stage.job_url(job))
    expect(page.locator("#job-state")).to_have_text("waiting for a person")
    expect(page.locator("#job-call")).to_contain_text("hold waits for the operators of page")


def test_fit_shows_the_whole_graph_in_the_order_of_the_file(stage: Stage, opened: Opener) -> None:
    job = Job.objects.filter(task_name="wide").first() or stage.start("wide", None, "page")
    page = opened(stage.vera)
    page.goto(stage.job_url(job))
    page.locator("#zoom-fit").click()
    frame = page.locator("#graph").bounding_box()
    nodes = [node.bounding_box() for node in page.locator(".st-node").all()]
    assert frame is not None and len(nodes) == 261
    for node in nodes:
        assert node is not None
        assert (
            frame["x"] - 1 <= node["x"]
            and node["x"] + node["width"] <= frame["x"] + frame["width"] + 1
        )
        assert node["y"] + node["height"] <= frame["y"] + frame["height"] + 1
    column = page.evaluate(
        """[...document.querySelectorAll('.st-node[data-label^="c-"]')]
        .map((node) => [node.dataset.label, node.getBoundingClientRect()])
        .sort((a, b) => a[1].y - b[1].y || a[1].x - b[1].x).map(([label]) => label)"""
    )
    assert column == sorted(column)


def test_a_click_anywhere_in_a_row_opens_it(stage: Stage, opened: Opener) -> None:
    job = stage.until_job(stage.start("links", None, "page"), "completed")
    page = opened(stage.root)
    page.goto("/admin/jobs/job/?q=links")
    page.locator("#result_list tbody tr").first.locator("td").last.click()
    page.wait_for_url(re.compile(re.escape(f"/{job.pk}/change/")))
    page.get_by_role("tab", name="Steps").click()
    page.locator("#step-table tbody tr").first.locator("td").last.click()
    expect(page.locator("#inspector-title")).to_have_text("says")


def test_the_fields_of_a_form_stand_in_the_order_of_the_file(stage: Stage, opened: Opener) -> None:
    page = opened(stage.olga)
    page.goto("/admin/tasks/page/ordered/")
    names = page.locator(".st-form [name^='input-']").evaluate_all(
        "(nodes) => nodes.map((node) => node.name)"
    )
    assert names == ["input-zeta", "input-a", "input-middle"]


def test_chosen_jobs_are_cancelled_from_the_list(stage: Stage, opened: Opener) -> None:
    jobs = [stage.start("wide", None, "page") for _ in range(2)]
    page = opened(stage.olga)
    page.goto("/admin/jobs/job/?q=wide")
    for job in jobs:
        page.locator(f"input[name=_selected_action][value='{job.pk}']").check()
    page.locator("select[name=action]").select_option("cancel_chosen")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("h1")).to_have_text("Cancel 2 jobs?")
    page.get_by_role("button", name="Cancel these jobs").click()
    expect(page.get_by_text("Cancelling 2 jobs.")).to_be_visible()
    for job in jobs:
        stage.until_job(job, "cancelled")
