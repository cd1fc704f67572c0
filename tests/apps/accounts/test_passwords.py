"""A password has at least ten characters, wherever it comes from; `up` knows one exception."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from apps.accounts.models import User
from apps.accounts.services import ensure_first_admin
from engine.errors import InputError
from stroem_project.config import InitialUser

pytestmark = pytest.mark.django_db
SHORT = {"STROEM_ADMIN_EMAIL": "boss@example.org", "STROEM_ADMIN_PASSWORD": "admin"}


def test_one_of_the_environment_is_refused() -> None:
    with pytest.raises(InputError, match="STROEM_ADMIN_PASSWORD must have at least 10 characters"):
        ensure_first_admin(SHORT)
    assert not User.objects.exists()


@pytest.mark.parametrize("may_be_short", [False, True])
def test_one_of_the_settings_is_refused(settings: Any, may_be_short: bool) -> None:
    auth = replace(settings.STROEM.auth, initial_user=InitialUser("a@b.c", "123456789"))
    settings.STROEM = replace(settings.STROEM, auth=auth)
    with pytest.raises(InputError, match=r"auth\.initial_user\.password must have at least 10"):
        ensure_first_admin({}, may_be_short=may_be_short)
    assert not User.objects.exists()


def test_one_of_a_program_or_of_djangos_command_is_refused(monkeypatch: Any) -> None:
    with pytest.raises(ValidationError, match="at least 10 characters"):
        User.objects.create_user("ada@example.org", "123456789")
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "admin")
    with pytest.raises(CommandError, match="at least 10 characters"):
        call_command("createsuperuser", "--noinput", "--email", "ada@example.org")
    assert not User.objects.exists()


def test_up_on_the_loopback_address_takes_one_of_the_environment() -> None:
    assert ensure_first_admin(SHORT, may_be_short=True) == ("boss@example.org", None)
    assert User.objects.get().check_password("admin")
    # the account is there and keeps its password, so nothing short is set
    assert ensure_first_admin(SHORT) == ("boss@example.org", None)
