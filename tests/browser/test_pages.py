"""Every page: accessible, loaded from our own host only, under the strict policy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from playwright.sync_api import Browser, Page, expect

from apps.approvals.models import ApprovalRequest
from apps.fleet.models import Worker
from apps.jobs.models import Job
from tests.apps.jobs.builders import until
from tests.browser import (
    audit_scene,
    consent_scene,
    rights_scene,
    signin_scene,
    state_scene,
    subscription_scene,
    trigger_scene,
)
from tests.browser.conftest import PHONE, Opener
from tests.browser.stage import Stage
from tests.browser.structure import wrong_with

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
# Data for reports is left out: it takes as long as the rules themselves.
RULES = """{
  runOnly: {type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']},
  resultTypes: ['violations'], selectors: false, ancestry: false, xpath: false, elementRef: false,
}"""


@pytest.fixture(scope="module")
def waiting(stage: Stage) -> Job:
    job = stage.start("release", version="9.9")
    until(lambda: ApprovalRequest.objects.filter(job_id=job.pk).exists(), within_s=60)
    return job


def addresses(stage: Stage, job: Job) -> list[str]:
    request = ApprovalRequest.objects.get(job_id=job.pk)
    worker = Worker.objects.get(name="stage")
    state_scene.prepare(stage)
    rights_scene.prepare(stage)
    return [
        "/admin/",
        "/admin/tasks/",
        "/admin/tasks/site/release/",
        f"/admin/tasks/site/release/?from={job.pk}",
        "/admin/jobs/job/",
        "/admin/jobs/job/?status=running",
        f"/admin/jobs/job/{job.pk}/change/",
        "/admin/approvals/approvalrequest/",
        f"/admin/approvals/approvalrequest/{request.pk}/change/",
        "/admin/approvals/record/",
        "/admin/triggers/trigger/",
        f"/admin/triggers/trigger/{trigger_scene.prepare(stage).pk}/change/",
        state_scene.PAGE,
        f"{state_scene.PAGE}?version=2&against=4",
        state_scene.GLOBAL,
        state_scene.TASK,
        "/admin/subscriptions/subscription/",
        "/admin/subscriptions/subscription/add/",
        f"/admin/subscriptions/subscription/{subscription_scene.prepare(stage).pk}/change/",
        "/admin/workspaces/workspace/",
        f"/admin/workspaces/workspace/{stage.site.pk}/change/",
        "/admin/fleet/worker/",
        f"/admin/fleet/worker/{worker.pk}/change/",
        "/admin/workspaces/secret/",
        "/admin/workspaces/secret/add/",
        "/admin/accounts/user/",
        f"/admin/accounts/user/{stage.vera.pk}/change/",
        "/admin/accounts/user/add/",
        "/admin/auth/group/",
        "/admin/accounts/workspacegrant/",
        rights_scene.GRANT,
        rights_scene.PAGE,
        rights_scene.TASK,
        "/admin/accounts/apitoken/",
        "/admin/accounts/apitoken/add/",
        f"/admin/accounts/apitoken/{audit_scene.prepare(stage).pk}/change/",
        "/admin/accounts/serviceaccount/",
        "/admin/accounts/serviceaccount/add/",
        f"/admin/accounts/serviceaccount/{audit_scene.prepare(stage).user_id}/change/",
        "/admin/audit/entry/",
        f"/admin/device/?code={audit_scene.code()}",
        "/admin/device/",
        "/admin/keys/",
        "/admin/keys/new/",
        "/admin/accounts/connectedagent/",
        consent_scene.request(stage),
        f"/admin/workspaces/{stage.site.name}/remove/",
        "/admin/password_change/",
        "/admin/mfa/authenticator/",
        "/admin/socialaccount/socialaccount/",
        *signin_scene.PAGES,
    ]


def serious(page: Page) -> list[str]:
    """Problems that axe calls serious or critical, as sentences."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate(f"axe.run(document, {RULES}).then((answer) => answer.violations)")
    return [
        f"{page.url}: {one['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


@pytest.mark.parametrize("look", ["desk", "phone, dark"])
def test_axe_finds_nothing_serious_and_the_structure_is_sound(
    stage: Stage, opened: Opener, waiting: Job, look: str
) -> None:
    page = opened(stage.root, phone="phone" in look, dark="dark" in look)
    page.add_init_script(AXE)
    problems: list[str] = []
    for address in addresses(stage, waiting):
        answer = page.goto(address)
        assert answer is not None and answer.status == 200, address
        problems += serious(page) + wrong_with(page)
        width = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert width <= 1, f"{address} is {width} px wider than the window"
    assert not problems, "\n".join(problems)


def test_axe_looks_at_pictures_colours_and_names(stage: Stage, opened: Opener) -> None:
    page = opened(stage.vera)
    page.goto("/admin/tasks/")
    page.evaluate(
        """document.querySelector(".st-page").insertAdjacentHTML("beforeend",
        '<img src="/static/adminkit/icon.svg"><p style="color: #ccc; background: #fff">pale</p><button></button>')"""
    )
    found = " ".join(serious(page))
    assert all(f": {rule}: " in found for rule in ("image-alt", "color-contrast", "button-name")), (
        found
    )


def test_a_long_name_makes_no_page_wider_than_a_phone(stage: Stage, opened: Opener) -> None:
    long = Group.objects.create(name="the-group-of-all-" + "w" * 120)
    page = opened(stage.root, phone=True)
    page.goto(f"/admin/accounts/user/{stage.vera.pk}/change/")
    expect(page.get_by_label(long.name)).to_be_visible()
    assert (
        page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        <= 1
    )
    long.delete()


def test_axe_finds_nothing_serious_in_what_opens_on_a_click(
    stage: Stage, opened: Opener, waiting: Job
) -> None:
    page = opened(stage.root, dark=True)
    page.goto(stage.job_url(waiting))
    expect(page.locator("#tab-graph")).to_have_attribute("aria-selected", "true")
    problems: list[str] = []
    for tab in ("Steps", "Timeline", "Details"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(200)
        problems += serious(page)
    page.get_by_role("tab", name="Graph").click()
    page.locator('.st-node[data-label="fetch"]').click()
    page.get_by_role("tab", name="Step", exact=True).click()
    expect(page.locator("#part-step")).to_contain_text("Attempts")
    problems += serious(page)
    page.get_by_role("button", name="Cancel").click()
    problems += serious(page)
    request = ApprovalRequest.objects.get(job_id=waiting.pk)
    page.goto(f"/admin/approvals/approvalrequest/{request.pk}/change/")
    for button in ("Approve…", "Reject…", "Delegate…"):
        page.get_by_role("button", name=button).click()
        problems += serious(page)
        page.keyboard.press("Escape")
    page.goto("/admin/jobs/job/")
    page.get_by_role("button", name=re.compile("Account and colours")).click()
    page.wait_for_timeout(400)  # the fade-in
    problems += serious(page)
    assert not problems, "\n".join(problems)


def test_the_sign_in_page_is_readable_too(stage: Stage, opened: Opener) -> None:
    page = opened(None, dark=True)
    page.goto("/admin/login/")
    assert not serious(page)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_what_is_not_there_or_not_allowed_is_said_in_words(
    stage: Stage, browser: Browser, dark: bool
) -> None:
    context = browser.new_context(
        base_url=stage.url, viewport=PHONE, color_scheme="dark" if dark else "light"
    )
    context.add_cookies([stage.cookie(stage.vera)])
    page = context.new_page()
    for address, status, heading in (
        ("/admin/jobs/job/00000000-0000-7000-8000-000000000000/change/", 404, "Page not found"),
        ("/admin/accounts/user/", 403, "You may not do this"),
    ):
        answer = page.goto(address)
        assert answer is not None and answer.status == status
        expect(page.get_by_role("heading")).to_have_text(heading)
        assert not serious(page)
        page.get_by_role("link", name="To the dashboard").click()
        expect(page).to_have_title(re.compile("Dashboard"))
    context.close()


def test_everything_is_reached_by_keyboard(stage: Stage, opened: Opener, waiting: Job) -> None:
    page = opened(stage.olga)
    page.goto(stage.job_url(waiting))
    expect(page.locator(".st-node")).to_have_count(6)
    page.locator("#tab-graph").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-steps")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowLeft")
    seen = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate("document.activeElement.dataset?.label || document.activeElement.id")
        )
    assert {"fetch", "check-#", "pieces", "gate", "inner", "ship"} <= seen
    assert {"log-search", "log-follow", "log-download", "log"} <= seen


def test_the_theme_follows_the_choice(stage: Stage, opened: Opener) -> None:
    page = opened(stage.vera)
    page.goto("/admin/")
    expect(page.locator("html")).not_to_have_class("dark")
    page.get_by_role("button", name=re.compile("Account and colours")).click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_class("dark")
    page.reload()
    expect(page.locator("html")).to_have_class("dark")


@pytest.mark.parametrize("script", ["unfold/js/app*.js", "alpine_setup*.js"])
def test_a_page_can_be_used_if_a_script_of_the_theme_does_not_load(
    stage: Stage, browser: Browser, waiting: Job, script: str
) -> None:
    context = browser.new_context(base_url=stage.url)
    context.add_cookies([stage.cookie(stage.olga)])
    page = context.new_page()
    page.route(f"**/{script}", lambda route: route.abort())
    request = ApprovalRequest.objects.get(job_id=waiting.pk)
    with page.expect_event("requestfailed"):
        page.goto(f"/admin/approvals/approvalrequest/{request.pk}/change/")
    page.get_by_role("button", name="Reject…").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    context.close()


def test_the_policy_lets_nothing_written_into_a_page_run(stage: Stage, browser: Browser) -> None:
    context = browser.new_context(base_url=stage.url)
    context.add_cookies([stage.cookie(stage.vera)])
    page = context.new_page()
    answer = page.goto("/admin/")
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')"
    )
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran ="
        " 2'}))"
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    context.close()
