"""The transcript of an agent step: live, folded, hostile text, a person's answer."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from apps.agents.models import Conversation, Spending, Turn
from apps.approvals.models import ApprovalRequest
from apps.jobs.models import Job
from tests.agents.provider import call, say
from tests.browser import agent_scene
from tests.browser.agent_scene import METRICS, Agents
from tests.browser.conftest import Opener
from tests.browser.stage import Stage
from tests.browser.test_hostile import INJECTED
from tests.browser.test_pages import AXE, serious
from tests.browser.vectors import vectors

ALL = "\n".join(vectors())
ESCAPES = "\x1b[31mred\x1b[0m \x1b]8;;http://evil.example/\x07link\x1b]8;;\x07 \u202egnp.exe\u202c"


@pytest.fixture(scope="module")
def scene(stage: Stage) -> Iterator[Agents]:
    with agent_scene.agents(stage, turns=12) as made:
        yield made
    ApprovalRequest.objects.filter(about__in=("call", "question")).delete()
    Conversation.objects.all().delete()
    Spending.objects.all().delete()


def opened_at(opened: Opener, scene: Agents, job: Job, step: str, **look: bool) -> Page:
    page = opened(scene.stage.root, **look)
    page.goto(scene.stage.job_url(job))
    page.locator(f'.st-node[data-label="{step}"]').click()
    expect(page.get_by_role("tab", name="Transcript")).to_have_attribute("aria-selected", "true")
    return page


def test_a_conversation_is_told_turn_by_turn_and_unfolds(scene: Agents, opened: Opener) -> None:
    job = scene.until(scene.start("investigate", service="shop"), "look-around", "completed")
    page = opened_at(opened, scene, job, "look-around")
    talk = page.locator("#part-talk")

    expect(talk.locator("[data-seq]")).to_have_count(12)
    expect(talk.locator("dl")).to_contain_text("claude · claude-opus-4-8")
    turn = talk.locator('[data-seq="4"]')
    expect(turn.locator("[data-status=done]")).to_contain_text("query_metrics")
    expect(turn.locator("[data-status=failed]")).to_contain_text("read_log")
    expect(turn.locator("pre")).to_have_count(0)
    turn.locator("summary").click()
    expect(turn).to_contain_text('"query": "p95 of shop-3"')
    expect(turn).to_contain_text('"p95_ms": 812')
    expect(turn.get_by_role("link", name="its job").first).to_have_attribute(
        "href",
        f"/admin/jobs/job/{Job.objects.filter(parent_job_id=job.pk).order_by('created_at')[3].pk}/change/",
    )
    talk.locator('[data-part="system"] summary').click()
    expect(talk.locator('[data-part="system"]')).to_contain_text(
        "The metrics need the token ••••••."
    )
    assert "hunter2" not in page.content()


def test_turns_appear_on_an_open_page_and_fold_nothing_up(scene: Agents, opened: Opener) -> None:
    job = scene.start("roll-out")
    page = opened_at(opened, scene, job, "decide")
    expect(page.locator("#part-talk")).to_contain_text("No conversation yet")
    scene.until(job, "decide", "suspended")

    page.locator('[data-seq="2"]').wait_for()  # no reload: the page itself saw it
    expect(page.locator(".st-talk-waits")).to_contain_text("Waits for a person")
    first = page.locator('[data-seq="1"]')
    first.locator("summary").click()
    expect(first).to_contain_text("errors of the canary")
    add_turn(job, 3)
    page.locator('[data-seq="3"].is-open').wait_for()
    expect(page.locator('[data-seq="3"]')).to_contain_text("The model thinks")
    assert first.locator("details").get_attribute("open") is not None
    Turn.objects.filter(conversation__job_id=job.pk, seq=3).delete()


def add_turn(job: Job, seq: int) -> None:
    """A row alone, as between a question and its answer: no step moves and no line is logged."""
    Turn.objects.create(conversation=Conversation.objects.get(job_id=job.pk), seq=seq)


@pytest.mark.slow
def test_how_long_a_row_takes_to_the_page(scene: Agents, opened: Opener) -> None:
    job = scene.until(scene.start("roll-out"), "decide", "suspended")
    page = opened_at(opened, scene, job, "decide")
    page.locator('[data-seq="2"]').wait_for()
    took = []
    for seq in range(3, 33):
        began = time.monotonic()
        add_turn(job, seq)
        page.locator(f'[data-seq="{seq}"]').wait_for()
        took.append(time.monotonic() - began)

    took.sort()
    print(f"from the row to the page: median {took[15]:.2f} s, slowest {took[-1]:.2f} s")
    Turn.objects.filter(conversation__job_id=job.pk, seq__gt=2).delete()


def test_the_page_of_the_job_asks_and_takes_the_answer(scene: Agents, opened: Opener) -> None:
    job = scene.until(scene.start("roll-out"), "decide", "suspended")
    page = opened_at(opened, scene, job, "decide")

    expect(page.locator("#job-call")).to_contain_text("The canary in eu-north")
    page.get_by_role("button", name="Go to the request").click()
    expect(page.get_by_label("Your answer to decide")).to_be_focused()
    page.keyboard.type("Only eu-north")
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.get_by_text("Answered: the agent goes on.")).to_be_visible()
    scene.until(job, "decide", "suspended")  # on the next call: it needs approval

    expect(page.locator("#job-call")).to_contain_text("The agent wants to call strom_task_deploy")
    expect(page.locator('[data-seq="2"]')).to_contain_text("ask_user")
    page.locator('[data-seq="2"] summary').click()
    expect(page.locator('[data-seq="2"]')).to_contain_text("Only eu-north")


@pytest.mark.parametrize("look", [{}, {"phone": True, "dark": True}], ids=["desk", "phone, dark"])
def test_axe_finds_nothing_serious_in_transcripts(
    scene: Agents, opened: Opener, look: dict[str, bool]
) -> None:
    job = scene.until(scene.start("roll-out"), "decide", "suspended")
    page = opened_at(opened, scene, job, "decide", **look)
    page.evaluate(AXE)
    page.locator('[data-seq="1"] summary').click()
    expect(page.locator('[data-seq="1"]')).to_contain_text("Result")
    problems = serious(page)
    request = ApprovalRequest.objects.get(job_id=job.pk, status="open")
    page.goto(f"/admin/approvals/approvalrequest/{request.pk}/change/")
    page.get_by_role("button", name="Answer…").click()
    problems += serious(page)
    page.goto("/admin/")
    expect(page.get_by_role("heading", name="Cost of agents")).to_be_visible()
    problems += serious(page)
    assert not problems, "\n".join(problems)
    width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(width) <= 1


def test_nothing_that_a_model_says_becomes_part_of_the_page(scene: Agents, opened: Opener) -> None:
    usual = scene.service.script
    scene.service.script = lambda seen: (
        call(METRICS, {"query": ALL}, text=f"{ALL}\n{ESCAPES}")
        if seen.number == 0
        else call("ask_user", {"question": f"{ESCAPES} {ALL}"}, text=ESCAPES)
        if seen.number == 1
        else say("x")
    )
    try:
        job = scene.until(scene.start("roll-out"), "decide", "suspended")
    finally:
        scene.service.script = usual
    page = opened_at(opened, scene, job, "decide")
    before = page.locator("#part-talk a").count()
    for seq in (1, 2):
        page.locator(f'[data-seq="{seq}"] summary').click()
        expect(page.locator(f'[data-seq="{seq}"] pre').first).to_be_visible()

    assert page.evaluate(INJECTED) == []
    assert page.locator("#part-talk a").count() - before == 1  # the job of the call
    text = page.locator("#part-talk").inner_text() + page.locator("#job-call").inner_text()
    assert "\x1b" not in text and "\u202e" not in text and "\\u001b[31mred" in text
    assert "\\u202egnp.exe" in text
