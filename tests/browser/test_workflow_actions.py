"""Workflow actions on the job page: in the graph, the table and the timeline, live, for every
viewer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.apps.jobs.builders import until
from tests.apps.workflow_actions.hands import action, actions, count
from tests.browser.action_scene import Scene, begin, start
from tests.browser.conftest import Opener
from tests.browser.stage import Stage
from tests.browser.test_pages import serious


@pytest.fixture(scope="module")
def over(stage: Stage) -> Scene:
    """A finished job with every possible outcome of actions."""
    scene = begin(stage)
    scene.let_south_end()
    scene.let_tidy_end()
    scene.ask_for_nodes()
    scene.do_the_last_step()
    # An action of worker sessions ends later, when the last worker has left the job.
    until(lambda: set(actions(scene.job).values()) <= {"succeeded", "failed"}, within_s=60)
    return scene


def row(page: Page, name: str) -> Locator:
    return page.locator(f'#action-table tr[data-name="{name}"]')


def test_an_open_page_follows_the_actions_of_a_job(stage: Stage, opened: Opener) -> None:
    scene = begin(stage)
    until(lambda: count(scene.job, "tidy") == (2, 3), within_s=60)
    page = opened(stage.vera)
    page.goto(stage.job_url(scene.job))
    tidy = page.locator('.st-action[data-label="tidy"]')
    expect(tidy).to_contain_text("2 of 3 complete")
    expect(tidy.locator("use.st-mark")).to_have_attribute("href", re.compile("#pending$"))
    expect(page.locator('.st-action[data-label="prepare"]')).to_have_attribute(
        "data-status", "succeeded"
    )
    scene.let_south_end()
    expect(tidy).to_have_attribute("data-status", "running")
    expect(tidy).to_contain_text("running · 3 of 3")
    tidy.click()
    page.get_by_role("tab", name="Log", exact=True).click()
    expect(page.locator("#log")).to_contain_text("still waiting")
    expect(page.locator("#log")).not_to_contain_text("worked")
    scene.let_tidy_end()
    expect(tidy).to_have_attribute("data-status", "failed")
    expect(tidy.locator("use.st-mark")).to_have_attribute("href", re.compile("#failed$"))
    expect(page.locator("#log")).to_contain_text("nothing to tidy here")
    page.get_by_role("tab", name="Action", exact=True).click()
    expect(page.locator("#part-step")).to_contain_text("Stderr: nothing to tidy here")
    scene.ask_for_nodes()
    page.get_by_role("tab", name="Actions").click()
    expect(row(page, "nodes")).to_contain_text("1 active")
    expect(row(page, "nodes")).to_contain_text("1 pending")
    scene.do_the_last_step()
    expect(page.locator("#job-state")).to_contain_text("completed")
    expect(row(page, "workflow_actions[4]")).to_contain_text("succeeded")


def test_a_page_that_opens_later_shows_the_same(stage: Stage, opened: Opener, over: Scene) -> None:
    page = opened(stage.vera)
    page.goto(stage.job_url(over.job))
    shown = page.locator(".st-action").evaluate_all(
        "all => all.map(one => [one.dataset.label, one.dataset.status])"
    )
    assert dict(shown) == actions(over.job)
    page.get_by_role("tab", name="Actions").click()
    tidy = row(page, "tidy")
    expect(tidy).to_contain_text("3 of 3 complete")
    assert [text.strip() for text in tidy.locator("td.st-number").all_text_contents()][:2] == [
        "1",
        "3",
    ]
    page.get_by_role("tab", name="Timeline").click()
    bars = page.locator(".st-bar-row")
    expect(bars).to_have_count(13)
    names = bars.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert sum(name.startswith("workflow action, ") for name in names) == 5
    assert any(name.startswith("Slurm allocation, cpu 4711, active") for name in names)
    page.get_by_role("button", name=re.compile("^workflow action, tidy, failed")).click()
    expect(page.locator("#inspector-title")).to_have_text("tidy")
    page.locator("#part-step").get_by_role("button", name="Log of run 1").click()
    expect(page.locator("#log")).to_contain_text("nothing to tidy here")
    address = f"{stage.job_url(over.job)}#action={action(over.job, 'greet').pk}"
    fresh = opened(stage.vera)
    fresh.goto(address)
    expect(fresh.locator("#inspector-title")).to_have_text("greet")
    expect(fresh.locator("#part-step")).to_contain_text("when a worker comes to the job")


def test_the_log_of_an_action_is_downloaded(stage: Stage, opened: Opener, over: Scene) -> None:
    page = opened(stage.vera)
    page.goto(f"{stage.job_url(over.job)}#action={action(over.job, 'greet').pk}")
    page.get_by_role("tab", name="Log", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert "hello from on_worker_start" in Path(download.value.path()).read_text()
    assert download.value.suggested_filename.endswith(f"action-{action(over.job, 'greet').pk}.log")


def test_actions_are_reached_and_opened_by_keyboard(
    stage: Stage, opened: Opener, over: Scene
) -> None:
    page = opened(stage.olga)
    page.goto(stage.job_url(over.job))
    expect(page.locator(".st-action")).to_have_count(5)
    page.locator("#zoom-in").focus()
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.dataset?.label"))
    assert {"prepare", "greet", "tidy", "nodes"} <= seen
    page.locator('.st-action[data-label="nodes"]').focus()
    page.keyboard.press("Enter")
    expect(page.locator("#inspector-title")).to_be_focused()
    expect(page.locator("#part-step")).to_contain_text("4711")
    page.locator("#tab-graph").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-actions")).to_have_attribute("aria-selected", "true")


@pytest.mark.parametrize("look", ["desk", "desk, dark", "phone, dark"])
def test_axe_finds_nothing_serious_about_actions(
    stage: Stage, opened: Opener, over: Scene, look: str
) -> None:
    page = opened(stage.root, phone="phone" in look, dark="dark" in look)
    page.goto(stage.job_url(over.job))
    expect(page.locator(".st-action")).to_have_count(5)
    problems = serious(page)
    page.get_by_role("tab", name="Actions").click()
    problems += serious(page)
    for name in ("tidy", "nodes"):
        page.locator("#action-table").get_by_role("button", name=name).click()
        expect(page.locator("#part-step")).to_contain_text("Runs")
        problems += serious(page)
    page.get_by_role("tab", name="Timeline").click()
    expect(page.locator(".st-bar-row")).to_have_count(13)
    problems += serious(page)
    width = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert width <= 1 and not problems, "\n".join(problems)


def test_a_job_without_actions_shows_no_sign_of_them(stage: Stage, opened: Opener) -> None:
    job = start(stage, "plain")
    page = opened(stage.vera)
    page.goto(stage.job_url(job))
    expect(page.locator(".st-node")).to_have_count(1)
    expect(page.locator("#tab-actions")).to_be_hidden()
    expect(page.locator("#graph-legend")).to_be_hidden()
