"""What people without a mouse or with a screen reader rely on; on each page, `test_pages` looks."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Opener
from tests.browser.stage import Stage
from tests.browser.structure import RULES, wrong_with
from tests.browser.test_pages import AXE


def test_a_page_without_structure_is_noticed(stage: Stage, opened: Opener) -> None:
    page = opened(stage.vera)
    page.goto("/admin/tasks/")
    page.evaluate(AXE)
    assert wrong_with(page) == []
    tiny = "href='#' style='display: block; width: 8px; height: 8px; overflow: hidden'"
    page.evaluate(
        f"""document.body.innerHTML = "<h2>a</h2><h4>b</h4><i class=material-symbols-outlined>c</i>"
        + "<a {tiny}>d</a><a {tiny}>e</a>" """
    )
    said = " ".join(wrong_with(page))
    assert all(f": {rule}: " in said for rule in (*RULES[:4], "region")), said
    assert all(f": {what}" in said for what in ("0 <h1>", "0 <main>", "1 icons")), said


def test_the_first_tab_stop_skips_to_the_content(stage: Stage, opened: Opener) -> None:
    page = opened(stage.vera)
    page.goto("/admin/jobs/job/")
    page.keyboard.press("Tab")
    expect(page.locator(".st-skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
