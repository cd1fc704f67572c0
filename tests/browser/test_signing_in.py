"""Signing in by passkey and by code in a real browser, under the strict policy."""

from __future__ import annotations

import time
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from playwright.sync_api import Page, expect

from tests.browser.conftest import Opener
from tests.browser.stage import PASSWORD, Stage

DEVICE = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True,
    "hasUserVerification": True, "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


def sign_in(page: Page, email: str) -> None:
    page.goto("/admin/login/?next=/admin/security/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Account and colours").click()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/admin/login/")


def code_of(secret: str, ahead: int) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + ahead))


def test_a_passkey_and_a_code_open_an_account(stage: Stage, opened: Opener) -> None:
    page: Any = opened(None)
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})

    sign_in(page, stage.vera.email)
    page.get_by_label("Name of a new passkey").fill("Laptop")
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_role("link", name="I have stored them").click()
    expect(page.locator(".st-door-factors")).to_contain_text("Laptop")

    sign_out(page)
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url("**/admin/")

    page.goto("/admin/security/app/")
    secret = page.locator("section code").inner_text()
    page.get_by_label("The code that the app shows now").fill(code_of(secret, 0))
    page.get_by_role("button", name="Set up").click()
    page.get_by_role("link", name="I have stored them").click()

    sign_out(page)
    sign_in(page, stage.vera.email)
    page.get_by_label("Code of your authenticator app").fill(code_of(secret, 1))
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/admin/security/")
    assert Authenticator.objects.filter(user=stage.vera).count() == 3
    Authenticator.objects.all().delete()
