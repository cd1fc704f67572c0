"""Sign-in for Django (admin, sessions), with the API's check and throttle."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from apps.accounts.errors import SignInRefused, TooMany
from apps.accounts.models import User
from apps.accounts.second_factors import second_factors
from apps.accounts.services import check_sign_in

ASKS_FOR_SECOND = "_stroem_asks_for_second_factor"


class EmailBackend(ModelBackend):
    """Replaces sign-in only; permissions stay with Django. A password alone opens no account with
    a second factor: the page that asks for it says so on its request."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **fields: Any,
    ) -> User | None:
        email = username if username is not None else fields.get("email")
        if email is None or password is None:
            return None
        address = request.META.get("REMOTE_ADDR", "") if request is not None else ""
        try:
            user = check_sign_in(email, password, address)
        except (SignInRefused, TooMany):
            # No other backend may try: that would be a second guess, counted as one.
            raise PermissionDenied from None
        if not hasattr(request, ASKS_FOR_SECOND) and second_factors(user):
            raise PermissionDenied
        return user
