"""Creating users."""

from __future__ import annotations

from typing import Any, TypeVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.core.exceptions import ValidationError

SHORTEST_PASSWORD = 10  # as AUTH_PASSWORD_VALIDATORS demand of forms

U = TypeVar("U", bound=AbstractBaseUser)


class UserManager(BaseUserManager[U]):
    use_in_migrations = True

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
