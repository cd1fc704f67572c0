"""Addresses of admin lists ask the database only for what the page declares."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib import admin
from django.db import models
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Role, User
from tests.apps.jobs.builders import start, workspace
from tests.apps.jobs.test_admin import FLOW, client_of, person

pytestmark = pytest.mark.django_db(transaction=True)
BACKTRACKING = "(a*)*\\1b"
LOOKUPS = ("__regex", "__x__regex", "")


def lists() -> list[tuple[str, type[models.Model]]]:
    admin.autodiscover()
    return [
        (reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"), model)
        for model in admin.site._registry
    ]


@pytest.fixture
def clients(tmp_path: Path) -> list[Client]:
    start(workspace(tmp_path, FLOW))
    root = User.objects.create_superuser("root@example.org")
    return [client_of(root), client_of(person(Role.VIEWER))]


@pytest.mark.long
def test_no_list_takes_a_lookup_that_it_does_not_declare(clients: list[Client]) -> None:
    tried = 0
    for client in clients:
        for address, model in lists():
            declared = admin.site._registry[model].get_list_filter(None)  # type: ignore[arg-type]
            names = {getattr(each, "parameter_name", each) for each in declared}
            for field in model._meta.get_fields():
                for lookup in LOOKUPS:
                    if field.name in names:
                        continue
                    answer = client.get(address, {field.name + lookup: BACKTRACKING})
                    assert answer.status_code in (302, 400, 403), (address, field.name + lookup)
                    tried += 1
    assert tried > 400


def test_declared_filters_still_filter(clients: list[Client]) -> None:
    root = clients[0]
    for address in (
        "/admin/jobs/job/?status=running",
        "/admin/accounts/user/?is_active__exact=1",
        "/admin/accounts/user/?is_superuser__exact=1&is_active__exact=1",
        "/admin/accounts/workspacegrant/?role__exact=viewer",
    ):
        assert root.get(address).status_code == 200, address
    assert b"root@example.org" in root.get("/admin/accounts/user/?is_superuser__exact=1").content
