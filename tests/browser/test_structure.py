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
    page.evaluate(
        """document.body.innerHTML = '<h3>a</h3><p>b</p><i class="material-symbols-outlined">c</i>'
        + '<a href="#" style="font-size: 6px">d</a><br><a href="#" style="font-size: 6px">e</a>'"""
    )
    said = " ".join(wrong_with(page))
    assert all(f": {rule}: " in said for rule in (*RULES[:3], "region")), said
    assert all(f": {what}" in said for what in ("0 <h1>", "0 <main>", "1 icons")), said


def test_the_first_tab_stop_skips_to_the_content(stage: Stage, opened: Opener) -> None:
    page = opened(stage.vera)
    page.goto("/admin/jobs/job/")
    page.keyboard.press("Tab")
    expect(page.locator(".st-skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
