"""Every page has the landmarks, headings and targets that people without a mouse or with a screen
reader rely on."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, expect

from apps.approvals.models import ApprovalRequest
from tests.apps.jobs.builders import until
from tests.browser.conftest import Opener
from tests.browser.stage import Stage
from tests.browser.test_pages import AXE, addresses

RULES = (
    "target-size",
    "landmark-one-main",
    "page-has-heading-one",
    "heading-order",
    "region",
    "landmark-unique",
    "skip-link",
    "bypass",
)
FOUND = f"""axe.run(document, {{runOnly: {json.dumps(RULES)}, resultTypes: ['violations']}})
  .then((answer) => answer.violations.flatMap((one) => one.nodes.map(
    (node) => `${{one.id}}: ${{node.html.slice(0, 160)}}`)))"""


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_each_page_has_one_heading_one_main_and_targets_of_24_px(
    stage: Stage, opened: Opener, phone: bool
) -> None:
    job = stage.start("ask")
    until(lambda: ApprovalRequest.objects.filter(job_id=job.pk).exists(), within_s=60)
    page = opened(stage.root, phone=phone)
    page.add_init_script(AXE)
    problems = []
    for address in addresses(stage, job):
        page.goto(address)
        problems += [f"{address}: {sentence}" for sentence in _wrong(page)]
    assert not problems, "\n".join(problems)


def _wrong(page: Page) -> list[str]:
    found = []
    for what in ("h1", "main"):
        if (count := page.locator(what).count()) != 1:
            found.append(f"{count} <{what}>")
    icons = page.locator(".material-symbols-outlined:not([aria-hidden=true])").count()
    if icons:
        found.append(f"{icons} icons whose names are read out")
    return found + list(page.evaluate(FOUND))


def test_the_first_tab_stop_skips_to_the_content(stage: Stage, opened: Opener) -> None:
    page = opened(stage.vera)
    page.goto("/admin/jobs/job/")
    page.keyboard.press("Tab")
    expect(page.locator(".st-skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
