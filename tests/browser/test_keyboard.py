"""Keyboard only: everything can be reached, the focus is visible, and dialogs keep it until they
close."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from apps.approvals.models import ApprovalRequest
from apps.jobs.models import Job
from tests.apps.jobs.builders import until
from tests.browser.conftest import Opener
from tests.browser.stage import PASSWORD, Stage

MOST_STOPS = 90
# The focused element; `mark` is its style, to be compared with its style without focus.
FOCUSED = """() => {
  const one = document.activeElement;
  if (!one || one === document.body || one === document.documentElement) return null;
  window.__stops ??= new Map();
  if (!window.__stops.has(one)) window.__stops.set(one, window.__stops.size);
  const look = (part) => {
    const style = getComputedStyle(part);
    const outline = style.outlineStyle === "none" ? "" : [style.outlineStyle, style.outlineWidth, style.outlineColor];
    return [outline, style.boxShadow, style.borderColor, style.stroke, style.strokeWidth, style.backgroundColor].join();
  };
  const looks = () => [one, one.parentElement, ...one.querySelectorAll(".st-card")].map(look).join(" | ");
  const box = one.getBoundingClientRect();
  const chosen = looks();
  one.blur();
  const plain = looks();
  one.focus({ focusVisible: true, preventScroll: true });
  const isInside = box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
  return {
    id: window.__stops.get(one), html: one.outerHTML.slice(0, 160), isMarked: chosen !== plain,
    isSeen: box.width > 0 && box.height > 0 && isInside, dialog: one.closest("dialog")?.id ?? null,
  };
}"""


@pytest.fixture(scope="module")
def waiting(stage: Stage) -> Job:
    job = stage.start("release", version="7.7")
    until(lambda: ApprovalRequest.objects.filter(job_id=job.pk).exists(), within_s=60)
    return job


def stops(page: Page) -> list[dict[str, Any]]:
    """Everything that Tab reaches in one round."""
    found: list[dict[str, Any]] = []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUSED)
        if stop is None or any(stop["id"] == before["id"] for before in found):
            break
        found.append(stop)
    return found


def reach(page: Page, wanted: Locator) -> None:
    """Press Tab until it has the focus."""
    for _ in range(MOST_STOPS):
        if wanted.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not come to {wanted}")


@pytest.mark.parametrize("look", ["desk", "phone, dark"])
def test_what_has_the_focus_is_seen_and_marked(
    stage: Stage, opened: Opener, waiting: Job, look: str
) -> None:
    page = opened(stage.root, phone="phone" in look, dark="dark" in look)
    request = ApprovalRequest.objects.get(job_id=waiting.pk)
    problems = []
    for address in (
        "/admin/",
        "/admin/tasks/site/release/",
        "/admin/jobs/job/",
        f"/admin/jobs/job/{waiting.pk}/change/",
        f"/admin/approvals/approvalrequest/{request.pk}/change/",
    ):
        page.goto(address)
        found = stops(page)
        assert len(found) >= 8, address
        problems += [
            f"{address}: {stop['html']}"
            for stop in found
            if not (stop["isMarked"] and stop["isSeen"])
        ]
    assert not problems, "\n".join(problems)


def test_a_dialog_keeps_the_keyboard_and_escape_gives_it_back(
    stage: Stage, opened: Opener, waiting: Job
) -> None:
    page = opened(stage.olga)
    request = ApprovalRequest.objects.get(job_id=waiting.pk)
    page.goto(f"/admin/approvals/approvalrequest/{request.pk}/change/")
    for button, dialog in (
        ("Approve…", "approve"),
        ("Reject…", "reject"),
        ("Delegate…", "delegate"),
    ):
        opener = page.get_by_role("button", name=button)
        opener.focus()
        page.keyboard.press("Enter")
        expect(page.locator(f"#{dialog}-dialog")).to_be_visible()
        held = [page.evaluate(FOCUSED)["dialog"], *(stop["dialog"] for stop in stops(page))]
        assert set(held) == {f"{dialog}-dialog"}, held
        page.keyboard.press("Escape")
        expect(page.locator("dialog[open]")).to_have_count(0)
        expect(opener).to_be_focused()


def test_from_signing_in_to_approving_by_keyboard_alone(stage: Stage, opened: Opener) -> None:
    page = opened(None)
    page.goto("/admin/tasks/site/ask/")
    reach(page, page.get_by_label(re.compile("mail", re.I)))
    page.keyboard.type("olga@example.org")
    reach(page, page.locator("#id_password"))
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    reach(page, page.get_by_role("button", name="Start the job"))
    page.keyboard.press("Enter")
    gate = page.locator('.st-node[data-label="ask"]')
    expect(gate).to_have_attribute("data-status", "suspended")
    reach(page, page.get_by_role("link", name="Open the request"))
    page.keyboard.press("Enter")
    reach(page, page.get_by_role("button", name="Approve…"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Approve")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Approved: the job continues.")).to_be_visible()
