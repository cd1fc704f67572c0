"""What administrators do with accounts and groups through the API."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from apps.accounts.models import User
from engine.errors import Conflict, InputError

LONGEST_GROUP, LONGEST_NAME = 64, 150
_GROUP = re.compile(r"[A-Za-z0-9_-]+")


def add_person(email: str, name: str, groups: Iterable[str], *, is_admin: bool) -> User:
    """An account without a password: somebody sets one, or signs in another way. Raises InputError
    and Conflict."""
    email = email.strip()
    try:
        validate_email(email)
    except ValidationError:
        raise InputError({"email": "A valid email address is required"}) from None
    checked = _checked(groups)
    try:
        with transaction.atomic():
            first_name = name.strip()[:LONGEST_NAME]
            person = User.objects.create_user(email, is_superuser=is_admin, first_name=first_name)
            person.groups.set(_rows(checked))
    except IntegrityError:
        raise Conflict(f"User with email '{email}' already exists") from None
    return person


def set_admin(person: User, *, is_admin: bool, by: User) -> None:
    """Raises InputError if the administrators would shut themselves out."""
    if person.pk == by.pk and not is_admin:
        raise InputError({"is_admin": "Cannot revoke your own admin status"})
    person.is_superuser = is_admin
    person.save(update_fields=["is_superuser"])


@transaction.atomic
def set_groups(person: User, groups: Iterable[str]) -> None:
    """Raises InputError for a name that no group may have."""
    person.groups.set(_rows(_checked(groups)))


def _checked(names: Iterable[str]) -> list[str]:
    found = sorted({name.strip() for name in names})
    for name in found:
        if not 0 < len(name) <= LONGEST_GROUP:
            said = f"Group name must be 1-{LONGEST_GROUP} characters: '{name[:LONGEST_GROUP]}'"
            raise InputError({"groups": said})
        if not _GROUP.fullmatch(name):
            allowed = "only alphanumeric, _, - allowed"
            raise InputError(
                {"groups": f"Group name contains invalid characters ({allowed}): '{name}'"}
            )
    return found


def _rows(names: Iterable[str]) -> list[Group]:
    return [Group.objects.get_or_create(name=name)[0] for name in names]
