"""Filters of lists, in the address: whatever they do not offer is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from apps.accounts.models import User
from apps.adminkit.generic import ModelAdmin
from apps.api.views.jobs import SOURCE_TYPES
from apps.jobs.models import Job
from tests.apps.jobs.builders import start, workspace

pytestmark = pytest.mark.django_db
FLOW = """
actions: {work: {type: script, script: "true"}}
tasks: {main: {flow: {one: {action: work}}}}
"""
FILTERS = [
    ("jobs_job", "status", "status", "done"),
    ("jobs_job", "workspace", "workspace", "shoop"),
    ("jobs_job", "source_type", "source", "cron"),
    ("fleet_worker", "presence", "presence", "late"),
    ("approvals_approvalrequest", "box", "box", "mine"),
    ("approvals_record", "outcome", "outcome", "maybe"),
    ("audit_entry", "what", "what", "nonsense"),
    ("audit_entry", "what", "what", "secret.sett"),
    ("audit_entry", "when", "when", "year"),
    ("triggers_trigger", "kind__exact", "kind", "cron"),
    ("accounts_workspacegrant", "role__exact", "role", "boss"),
    ("accounts_user", "groups__id__exact", "groups", "999"),
]
KNOWN = [
    ("jobs_job", "status", "waiting"),
    ("jobs_job", "workspace", "shop"),
    ("jobs_job", "source_type", "mcp"),
    ("fleet_worker", "presence", "gone"),
    ("audit_entry", "what", "secret"),
    ("audit_entry", "what", "secret.set"),
    ("audit_entry", "who", "somebody@example.org"),
    ("triggers_trigger", "kind__exact", "scheduler"),
    ("accounts_user", "is_active__exact", "1"),
    ("accounts_user", "is_active__exact", "0"),
]


@pytest.fixture
def root(tmp_path: Path) -> Client:
    start(workspace(tmp_path, FLOW, "shop"))
    Group.objects.bulk_create([Group(name="one"), Group(name="two")])
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.org"))
    return client


def listed(client: Client, model: str, name: str, value: str) -> str:
    answer = client.get(reverse(f"admin:{model}_changelist"), {name: value})
    assert answer.status_code == 200, answer
    return answer.content.decode()


@pytest.mark.parametrize(("model", "name", "title", "value"), FILTERS)
def test_a_value_that_a_filter_does_not_have_is_said(
    root: Client, model: str, name: str, title: str, value: str
) -> None:
    said = f"The filter “{title}” has no value “{value}”."
    assert listed(root, model, name, value).count(said) == 1


@pytest.mark.parametrize(("model", "name", "value"), KNOWN)
def test_a_value_that_it_has_is_not(root: Client, model: str, name: str, value: str) -> None:
    assert "has no value" not in listed(root, model, name, value)


def test_who_is_sent_back_for_what_cannot_be_looked_up_is_told_so(root: Client) -> None:
    address = reverse("admin:accounts_user_changelist")
    answer = root.get(address, {"is_active__exact": "perhaps"}, follow=True)
    assert "The address asked for what this list does not know." in answer.content.decode()


def test_a_workspace_beyond_those_offered_is_known(
    root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has no value" not in listed(root, "jobs_job", "workspace", "shop")
    monkeypatch.setattr("apps.jobs.admin.MOST_OFFERED", 0)
    assert "has no value" not in listed(root, "jobs_job", "workspace", "shop")


def test_every_list_with_filters_is_in_the_table() -> None:
    reverse("admin:index")  # the order in which admin modules are imported is that of the addresses
    with_filters = {
        f"{model._meta.app_label}_{model._meta.model_name}"
        for model, shown in admin.site._registry.items()
        if isinstance(shown, ModelAdmin) and shown.list_filter
    }
    assert with_filters <= {model for model, *_ in FILTERS}


def test_jobs_can_be_listed_by_whatever_started_them() -> None:
    reverse("admin:index")
    shown = admin.site._registry[Job]
    kinds = next(one.KINDS for one in shown.list_filter if one.parameter_name == "source_type")
    assert set(SOURCE_TYPES) - set(kinds) == {"restart"}
