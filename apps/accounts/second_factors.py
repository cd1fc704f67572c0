"""Which second factors an account has. The factors themselves are in `apps.signin`."""

from __future__ import annotations

from apps.accounts.models import User


def second_factors(user: User) -> frozenset[str]:
    """ "totp" and "webauthn" (passkeys), with "recovery_codes" beside them; nothing for an account
    whose password is enough."""
    from allauth.mfa.models import Authenticator

    return frozenset(Authenticator.objects.filter(user=user).values_list("type", flat=True))
