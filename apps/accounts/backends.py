"""Sign-in for Django (admin, sessions), with the API's check and throttle."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from apps.accounts.errors import SignInRefused, TooMany
from apps.accounts.models import User
from apps.accounts.services import check_sign_in


class EmailBackend(ModelBackend):
    """Replaces sign-in only; permissions stay with Django."""

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
            return check_sign_in(email, password, address)
        except (SignInRefused, TooMany):
            # No other backend may try: that would be a second guess, counted as one.
            raise PermissionDenied from None
