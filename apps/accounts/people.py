"""What administrators do with accounts and groups through the API."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.audit.services import added, changes_of, note
from engine.errors import Conflict, InputError

LONGEST_GROUP, LONGEST_NAME = 64, 150
SERVICES = "services.invalid"
_SERVICE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
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
            told = added(is_superuser=is_admin, first_name=first_name, groups=checked)
            note("user.add", person.email, changes=told)
    except IntegrityError:
        raise Conflict(f"User with email '{email}' already exists") from None
    return person


def service_email(name: str) -> str:
    """What names a service account where people have an e-mail; nothing can be sent there."""
    return f"{name}@{SERVICES}"


def add_service(name: str, groups: Iterable[str]) -> User:
    """An account for programs, which have its keys. Raises InputError and Conflict."""
    if not _SERVICE.fullmatch(name):
        said = "name must be lower-case letters, digits and hyphens, at most 63"
        raise InputError({"name": said})
    checked = _checked(groups)
    try:
        with transaction.atomic():
            person = User.objects.create_user(
                service_email(name), is_service=True, is_staff=False, first_name=name
            )
            person.groups.set(_rows(checked))
            note("service-account.add", person.email, changes=added(groups=checked))
    except IntegrityError:
        raise Conflict(f"Service account '{name}' already exists") from None
    return person


def remove_service(person: User) -> None:
    """With its keys and grants; what it did stays."""
    with transaction.atomic():
        note("service-account.remove", person.email)
        person.delete()


def set_admin(person: User, *, is_admin: bool, by: User) -> None:
    """Raises InputError if the administrators would shut themselves out."""
    if person.pk == by.pk and not is_admin:
        raise InputError({"is_admin": "Cannot revoke your own admin status"})
    with transaction.atomic():
        told = changes_of({"is_superuser": person.is_superuser}, {"is_superuser": is_admin})
        person.is_superuser = is_admin
        person.save(update_fields=["is_superuser"])
        note("user.change", person.email, changes=told)


@transaction.atomic
def set_groups(person: User, groups: Iterable[str]) -> None:
    """Raises InputError for a name that no group may have."""
    before = sorted(person.groups.values_list("name", flat=True))
    wanted = _checked(groups)
    person.groups.set(_rows(wanted))
    told = changes_of({"groups": before}, {"groups": wanted})
    note("user.change", person.email, changes=told)


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
    found = []
    for name in names:
        row, is_new = Group.objects.get_or_create(name=name)
        if is_new:
            note("group.add", name)
        found.append(row)
    return found
