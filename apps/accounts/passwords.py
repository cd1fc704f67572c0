"""New passwords: the audit log hears of each, whether a page, a command or a mail sets it, and so
does the person."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.password_validation import MinimumLengthValidator

from apps.accounts import alerts
from apps.accounts.models import User
from apps.audit.services import CHANGED, note


class NotedPassword(MinimumLengthValidator):
    """Long enough; Django tells the validators of a password once it is stored."""

    def password_changed(self, password: str, user: Any = None) -> None:
        note("user.password", user, changes={"password": CHANGED})
        if isinstance(user, User):
            alerts.tell(user, "Your password was set", "Your account has a new password.")
