"""Letting an agent in, as browsers do it: under the strict policy, and with the answer led to the
program."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from apps.accounts.models import ConnectedAgent
from tests.browser import consent_scene
from tests.browser.stage import Stage


def test_the_answer_of_a_person_reaches_the_program(stage: Stage, browser: Browser) -> None:
    back = f"http://127.0.0.1:{stage.port}/healthz"  # another origin, where something answers
    context = browser.new_context(base_url=stage.url)
    context.add_cookies([stage.cookie(stage.olga)])
    page = context.new_page()

    page.goto(consent_scene.request(stage, back))
    expect(page.get_by_role("heading")).to_have_text("Let “Design assistant” in?")
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{back}?**")
    assert "code=" in page.url and "state=s" in page.url
    assert ConnectedAgent.objects.get().user == stage.olga

    page.goto(consent_scene.request(stage, back))
    page.get_by_role("button", name="Deny").click()
    page.wait_for_url(f"{back}?**")
    assert "error=access_denied" in page.url and ConnectedAgent.objects.count() == 1
    ConnectedAgent.objects.all().delete()
    context.close()
