"""What people do, on a desktop and on a phone."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from apps.approvals.models import ApprovalRequest
from apps.jobs.models import Job
from tests.apps.jobs.builders import until
from tests.browser.conftest import Opener
from tests.browser.stage import PASSWORD, Stage


def node(page: Page, label: str) -> Locator:
    return page.locator(f'.st-node[data-label="{label}"]')


def request_of(job: Job) -> ApprovalRequest:
    return until(lambda: ApprovalRequest.objects.filter(job_id=job.pk).order_by("-pk").first())


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_sign_in_start_a_task_from_its_form_watch_the_graph_and_read_the_log(
    stage: Stage, opened: Opener, phone: bool
) -> None:
    page = opened(None, phone=phone)
    page.goto("/admin/")
    page.get_by_label(re.compile("mail", re.I)).fill("olga@example.org")
    page.locator("#id_password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page).to_have_title(re.compile("Dashboard"))

    if phone:
        page.get_by_role("button", name="Open the side bar").click()
    page.locator("#nav-sidebar").get_by_role("link", name="Tasks").click()
    page.get_by_role("link", name="Start release").click()
    expect(page.get_by_label("Environment")).to_have_value("staging")
    expect(page.get_by_label("Dry run")).to_be_checked()
    page.get_by_role("button", name="Start the job").click()
    expect(page.get_by_text("input 'version' is required")).to_be_visible()
    page.get_by_label("Version").fill("1.2.3")
    page.get_by_role("button", name="Start the job").click()

    expect(page).to_have_url(re.compile(r"/admin/jobs/job/[0-9a-f-]{36}/change/"))
    expect(page.locator("#job-state")).to_contain_text("waiting for a person")
    expect(node(page, "fetch")).to_have_attribute("data-status", "completed")
    expect(node(page, "check-#").locator("title")).to_have_text("check-#, script, 3 completed")
    expect(node(page, "pieces").locator("title")).to_have_text("pieces, loop, 3 completed")
    expect(node(page, "gate")).to_have_attribute("data-status", "suspended")
    expect(page.locator("#log")).to_contain_text("a line with <b>angle</b> brackets")
    expect(page.locator("#log .ansi-green-fg")).to_have_text("green")

    node(page, "fetch").press("Enter")
    expect(page.locator("#inspector-title")).to_have_text("fetch")
    expect(page.locator("#log .st-line")).to_have_count(3)
    page.get_by_label("Search the log").fill("ANGLE")
    expect(page.locator("#log mark")).to_have_text("angle")
    expect(page.locator("#log-hits")).to_have_text("1 of 1")
    page.get_by_role("tab", name="Step", exact=True).click()
    expect(page.locator("#part-step")).to_contain_text("rows")
    with page.expect_download() as waiting:
        page.get_by_role("tab", name="Log").click()
        page.get_by_role("link", name="Download").click()
    assert "fetched" in waiting.value.path().read_text()


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_one_approves_and_the_other_sees_it_decided(
    stage: Stage, opened: Opener, phone: bool
) -> None:
    job = stage.start("release", version="2.0")
    found = request_of(job)
    olga, otto = opened(stage.olga, phone=phone), opened(stage.otto)
    otto.goto(f"/admin/approvals/approvalrequest/{found.pk}/change/")
    expect(otto.get_by_role("button", name="Approve…")).to_be_visible()

    olga.goto("/admin/approvals/approvalrequest/")
    expect(olga.locator('[data-badge="how_to_reg"]')).to_have_text(re.compile(r"\d+"))
    olga.locator(f'a.st-strong[href*="/{found.pk}/"]').click()
    expect(olga.locator(".st-message h2")).to_have_text("Release 2.0?")
    olga.get_by_role("button", name="Approve…").click()
    olga.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(olga.get_by_role("alert")).to_have_text("input 'note' is required")
    olga.get_by_label("Note for the record").fill("looks good")
    olga.get_by_role("button", name="Approve…").click()
    olga.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(olga.get_by_text("Approved: the job continues.")).to_be_visible()

    expect(otto.get_by_text("Approved by olga@example.org")).to_be_visible()
    expect(otto.get_by_role("button", name="Approve…")).to_have_count(0)
    assert stage.until_job(job, "completed").status == "completed"


def test_who_decides_too_late_is_told_who_was_first(stage: Stage, opened: Opener) -> None:
    found = request_of(stage.start("ask"))
    olga, otto = opened(stage.olga), opened(stage.otto)
    for page in (olga, otto):
        page.goto(f"/admin/approvals/approvalrequest/{found.pk}/change/")
        # the refresh leaves an open dialog unchanged
        page.get_by_role("button", name="Approve…").click()
    olga.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(olga.get_by_text("Approved: the job continues.")).to_be_visible()
    otto.get_by_role("dialog").get_by_role("button", name="Approve").click()
    expect(otto.locator("#main")).to_contain_text("olga@example.org")
    expect(otto.get_by_text("Approved: the job continues.")).to_have_count(0)


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_reject_with_a_reason(stage: Stage, opened: Opener, phone: bool) -> None:
    job = stage.start("ask")
    page = opened(stage.otto, phone=phone)
    page.goto(f"/admin/approvals/approvalrequest/{request_of(job).pk}/change/")
    page.get_by_role("button", name="Reject…").click()
    page.get_by_label("Reason").fill("Not on a <i>Friday</i>")
    page.get_by_role("dialog").get_by_role("button", name="Reject").click()
    expect(page.locator(".st-decided")).to_contain_text("Rejected by otto@example.org")
    expect(page.locator(".st-decided")).to_contain_text("Not on a <i>Friday</i>")
    assert "Friday" in stage.until_job(job, "failed").error


def test_delegate_a_decision_and_take_it_back(stage: Stage, opened: Opener) -> None:
    found = request_of(stage.start("ask"))
    page = opened(stage.olga)
    page.goto(f"/admin/approvals/approvalrequest/{found.pk}/change/")
    page.get_by_role("button", name="Delegate…").click()
    page.get_by_label("E-mail").fill("vera@example.org")
    page.get_by_role("dialog").get_by_role("button", name="Delegate").click()
    expect(page.get_by_text("You delegated this decision to vera@example.org.")).to_be_visible()
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_text("The decision is yours again.")).to_be_visible()
    expect(page.locator("#audit-title + div")).to_contain_text("to vera@example.org")


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_cancel(stage: Stage, opened: Opener, phone: bool) -> None:
    job = stage.start("long")
    stage.until_step(job, "wait", "running")
    page = opened(stage.olga, phone=phone)
    page.goto(stage.job_url(job))
    expect(page.locator("#log")).to_contain_text("tick")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_label("Reason").fill("wrong day")
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#job-state")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Restart from failed")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()
    assert Job.objects.get(pk=job.pk).cancel_reason == "wrong day"


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_restart_from_the_failed_step(stage: Stage, opened: Opener, phone: bool) -> None:
    job = stage.start("mend", marker=str(stage.folder / f"marker-{phone}"))
    page = opened(stage.olga, phone=phone)
    page.goto(stage.job_url(job))
    expect(node(page, "flaky")).to_have_attribute("data-status", "failed")
    expect(node(page, "last")).to_have_attribute("data-status", "skipped")
    page.get_by_role("button", name="Restart from failed").click()
    page.get_by_role("button", name="Restart", exact=True).click()
    expect(node(page, "last")).to_have_attribute("data-status", "completed")
    expect(page.locator("#job-state")).to_contain_text("completed")
    node(page, "flaky").click()
    page.get_by_role("tab", name="Step", exact=True).click()
    expect(page.locator("#part-step")).to_contain_text("Attempts")
    expect(page.locator("#part-step table").first.locator("tbody tr")).to_have_count(2)


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_run_again_with_the_form_filled_in(stage: Stage, opened: Opener, phone: bool) -> None:
    job = stage.start(
        "release",
        version="3.1",
        env="production",
        dry_run=False,
        token="very-secret-token",
        regions=["us", "asia"],
    )
    page = opened(stage.olga, phone=phone)
    page.goto(stage.job_url(job))
    page.get_by_role("link", name="Run again…").click()
    expect(page.get_by_label("Version")).to_have_value("3.1")
    expect(page.get_by_label("Environment")).to_have_value("production")
    expect(page.get_by_label("Dry run")).not_to_be_checked()
    expect(page.get_by_label("asia")).to_be_checked()
    expect(page.get_by_label("eu")).not_to_be_checked()
    expect(page.get_by_label("API token")).to_have_value("")
    assert "very-secret-token" not in page.content()
    page.get_by_label("Version").fill("3.2")
    page.get_by_role("button", name="Run again").click()
    expect(page.locator(".st-facts")).to_contain_text("Run again from")
    from apps.jobs.flow.contexts import clear_input

    again = Job.objects.get(rerun_of_id=job.pk)
    assert clear_input(again) == {**clear_input(job), "version": "3.2"}


def test_who_only_looks_finds_no_buttons_and_who_is_not_granted_finds_nothing(
    stage: Stage, opened: Opener
) -> None:
    job = stage.start("long")
    stage.until_step(job, "wait", "running")
    vera = opened(stage.vera)
    vera.goto(stage.job_url(job))
    expect(vera.locator("#log")).to_contain_text("tick")
    expect(vera.get_by_role("button", name="Cancel")).to_have_count(0)
    token = vera.context.request.get("/admin/").headers.get("x-none", "")
    refused = vera.context.request.post(
        f"/admin/jobs/job/{job.pk}/cancel/", headers={"X-CSRFToken": token}
    )
    assert refused.status == 403
    stranger = opened(stage.nobody)
    for address in (
        f"/admin/jobs/job/{job.pk}/change/",
        f"/admin/jobs/{job.pk}/live/",
        f"/admin/jobs/{job.pk}/log/",
    ):
        assert stranger.context.request.get(address).status == 404, address
    stranger.goto("/admin/jobs/job/")
    assert str(job.pk)[:8] not in stranger.content()
    from apps.jobs import services

    services.cancel_job(job.pk, actor="test")


def test_a_job_is_found_steps_are_listed_and_drawn_over_time(stage: Stage, opened: Opener) -> None:
    job = stage.start("release", version="4.0")
    request_of(job)
    page = opened(stage.vera)
    page.goto("/admin/jobs/job/")
    page.locator("#searchbar").fill(str(job.pk)[:13])
    page.keyboard.press("Enter")
    page.locator("#result_list a.st-strong").click()
    expect(page.locator("#tab-graph")).to_have_attribute("aria-selected", "true")
    page.get_by_role("tab", name="Steps").click()
    expect(page.locator("#step-table tbody tr")).to_have_count(11)
    page.get_by_label("Status", exact=True).select_option("suspended")
    expect(page.locator("#step-table tbody tr")).to_have_count(1)
    page.get_by_role("button", name="gate").click()
    expect(page.locator("#part-step").get_by_role("link", name="Open the request")).to_be_visible()
    page.get_by_role("tab", name="Timeline").click()
    expect(page.locator(".st-bar-row")).to_have_count(9)
    page.get_by_role("tab", name="Details").click()
    expect(page.locator("#view-details")).to_contain_text("staging")
