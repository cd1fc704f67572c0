"""Signing in by password where no page can ask for more: the API."""

from __future__ import annotations

from apps.accounts.models import User
from apps.accounts.second_factors import second_factors
from apps.accounts.services import check_sign_in
from apps.signin.errors import SecondFactorNeeded

CODE_NEEDED = (
    "This account has a second factor: send the code of its app, or a recovery code, as `code`"
)
ONLY_PASSKEYS = (
    "This account signs in with a passkey: use a browser, an API key, or a recovery code as `code`"
)


def sign_in(email: str, password: str, code: str, address: str) -> User:
    """The user with this e-mail and password, and with a code if the account has a second factor.
    Raises SignInRefused, TooMany and SecondFactorNeeded."""
    user = check_sign_in(email, password, address)
    kinds = second_factors(user)
    if not kinds:
        return user
    if not code.strip():
        raise SecondFactorNeeded(CODE_NEEDED if "totp" in kinds else ONLY_PASSKEYS)
    from apps.signin.factors import check_code

    check_code(user, code)
    return user
