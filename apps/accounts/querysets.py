"""Creating users, and finding them by e-mail."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.db.models.functions import Lower

SHORTEST_PASSWORD = 10  # as AUTH_PASSWORD_VALIDATORS demand of forms

U = TypeVar("U", bound=AbstractBaseUser)


class UserManager(BaseUserManager[U]):
    use_in_migrations = True

    def with_email(self, *emails: str) -> QuerySet[U]:
        """In any case. The database compares in lower case as Python does: its upper case makes one
        letter of several (`ı` and `i`), and one account of two addresses."""
        lower = [email.strip().lower() for email in emails]
        found: Any = self.alias(lower=Lower("email")).filter(lower__in=lower)
        return cast("QuerySet[U]", found)

    def create_user(
        self,
        email: str,
        password: str | None = None,
        *,
        shortest: int = SHORTEST_PASSWORD,
        **fields: Any,
    ) -> U:
        """Raises ValidationError for a password of fewer than `shortest` characters."""
        if password is not None and len(password) < shortest:
            raise ValidationError(f"A password must have at least {shortest} characters.")
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> U:
        return self.create_user(
            email, password, **{"is_staff": True, "is_superuser": True, **fields}
        )
