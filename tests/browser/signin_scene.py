"""Signing in, and an account with a second factor."""

from __future__ import annotations

from tests.browser.stage import Stage

Scene = tuple[str, tuple[str, ...]]
PAGES = (
    "/admin/login/?again=1",
    "/admin/security/",
    "/admin/security/app/",
    "/admin/forgotten/sent/",
)


def prepare(stage: Stage) -> None:
    """Otto has an app and a passkey."""
    from allauth.mfa.models import Authenticator
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
    from allauth.mfa.totp.internal.auth import TOTP

    TOTP.activate(stage.otto, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    Authenticator.objects.create(
        user=stage.otto, type="webauthn", data={"name": "Laptop", "credential": {}}
    )
    RecoveryCodes.activate(stage.otto)


def addresses(stage: Stage) -> dict[str, Scene]:
    prepare(stage)
    return {
        "security": ("/admin/security/", ()),
        "security-none": ("/admin/security/", ()),
        "security-app": ("/admin/security/app/", ()),
        "recovery-codes": ("/admin/security/codes/", ()),
        "forgotten": ("/admin/forgotten/", ()),
        "forgotten-sent": ("/admin/forgotten/sent/", ()),
        "sign-on-refused": ("/admin/login/with/company/", ()),
        "second-factors": ("/admin/mfa/authenticator/", ()),
    }
