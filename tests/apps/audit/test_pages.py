"""Whatever a page changes is noted. Each page of the server is in a table here, so that a new one
without a line fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.test import Client, RequestFactory
from django.urls import get_resolver, reverse

from apps.accounts import tokens
from apps.accounts.models import ApiToken, ConnectedAgent, ServiceAccount, User, WorkspaceGrant
from apps.accounts.people import add_service
from apps.artifacts.state.keeping import Writer
from apps.audit.kinds import is_known
from apps.audit.models import Entry
from apps.fleet.models import WorkerLimit
from apps.subscriptions import services
from apps.subscriptions.models import Subscription
from apps.triggers.models import Trigger
from apps.workspaces.models import Secret
from apps.workspaces.secrets import store_secret
from engine.state import Change
from tests.apps.api.callers import PASSWORD, user
from tests.apps.artifacts.remembering import remember
from tests.apps.jobs.builders import start, workspace
from tests.apps.subscriptions.receiver import subscribe
from tests.house import ROOT

pytestmark = pytest.mark.django_db
FLOW = """
actions: {work: {type: script, script: "true"}}
tasks: {main: {flow: {one: {action: work}}}}
triggers: {nightly: {type: scheduler, cron: "0 0 * * *", task: main}}
"""
NEW_PASSWORD = "canary of a new password"
URL = "https://receiver.example.org/hook"
# What the forms of each kind of row leave: of adding, changing, deleting. None: cannot be done.
EDITS: dict[str, tuple[str | None, str | None, str | None]] = {
    "accounts.user": ("user.add", "user.change", "user.delete"),
    "accounts.serviceaccount": (
        "service-account.add", "service-account.change", "service-account.delete",
    ),
    "auth.group": ("group.add", "group.change", "group.delete"),
    "accounts.workspacegrant": (
        "workspace-grant.add", "workspace-grant.change", "workspace-grant.delete",
    ),
    "accounts.apitoken": ("api-key.add", None, "api-key.revoke"),
    "accounts.connectedagent": (None, None, "connected-agent.revoke"),
    "mfa.authenticator": (None, None, "second-factor.remove"),
    "socialaccount.socialaccount": (None, None, "social-account.delete"),
    "fleet.workerlimit": ("worker-limit.add", "worker-limit.change", "worker-limit.delete"),
    "workspaces.secret": ("secret.set", "secret.set", "secret.remove"),
    "subscriptions.subscription": (
        "subscription.add", "subscription.change", "subscription.remove",
    ),
    **dict.fromkeys(
        (
            "approvals.approvalrequest", "approvals.record", "audit.entry", "fleet.worker",
            "jobs.job", "triggers.trigger", "workspaces.library", "workspaces.workspace",
        ),
        (None, None, None),
    ),
}  # fmt: skip
READS = "only shows"
DECIDES = "the record of decisions keeps it"
# Every other address outside the API: what it leaves, or why nothing.
PAGES = {
    "": READS,
    "approvals/link/<str:token>": DECIDES,
    "hooks/<str:address>": "starts jobs for no person; its deliveries are kept",
    "hooks/<str:workspace>/<str:address>": "starts jobs for no person; its deliveries are kept",
    "hooks/<str:address>/jobs/<str:job>": READS,
    "hooks/<str:workspace>/<str:address>/jobs/<str:job>": READS,
    "worker/workspace/<str:workspace>.tar.gz": READS,
    "worker/artifacts": "of a worker's attempt",
    "worker/artifacts/ask": "of a worker's attempt",
    "worker/artifacts/end": READS,
    **dict.fromkeys(
        (
            ".well-known/oauth-protected-resource", ".well-known/oauth-protected-resource/mcp",
            ".well-known/oauth-authorization-server", "healthz", "healthz/detail", "metrics",
        ),
        READS,
    ),
    "oauth/register": "of no person; who lets an agent in is noted",
    "oauth/token": "goes on with what a person let in",
    "authorization": "connected-agent.add",
    **dict.fromkeys(
        (
            "jobs_live", "jobs_log", "tasks", "workflow_action", "agents_transcript", "state",
            "artifact", "search", "index", "password_change_done", "autocomplete", "jsi18n",
            "view_on_site", "app_list", "admin/(?P<url>.*)$", "jobs_job_steps", "jobs_job_step",
            "jobs_job_details", "jobs_job_timeline", "workspaces_workspace_matching",
            "audit_entry_export", "connections", "jobs_log_search", "rights", "rights_matching",
            "own_keys",
        ),
        READS,
    ),
    **dict.fromkeys(
        ("approvals_decide", "approvals_withdraw", "approvals_delegate", "approvals_take_back"),
        DECIDES,
    ),
    **dict.fromkeys(
        (
            "signin_with", "signin_second", "signin_callback", "signin_with_passkey_begin",
            "signin_with_passkey", "signin",
        ),
        "session.begin",
    ),
    **dict.fromkeys(
        ("signin_security", "signin_passkey_begin", "signin_forgotten_sent"), READS
    ),
    "signin_forgotten": "sends a mail to whom the account belongs",
    "signin_reset": "user.password",
    "signin_out": "session.end",
    "signin_app": "second-factor.add",
    "signin_passkey_add": "second-factor.add",
    "signin_codes": "second-factor.renew",
    "signin_remove": "second-factor.remove",
    "login": "session.begin",
    "device": "device.confirm",
    "own_key_new": "api-key.add",
    "own_key_revoke": "api-key.revoke",
    "own_agent_end": "connected-agent.revoke",
    "logout": "session.end",
    "password_change": "user.password",
    "auth_user_password_change": "user.password",
    "accounts_apitoken_rotate": "api-key.rotate",
    "workspace_remove": "workspace.remove",
    "workspaces_workspace_refresh": "workspace.refresh",
    "task": "job.start",
    "jobs_job_cancel": "job.cancel",
    "jobs_job_restart": "job.restart",
    "state_restore": "state.restore",
    "connection": "connection.set",
    "connection_add": "connection.set",
    "connection_check": "job.start",
    "connection_remove": "connection.remove",
    "subscriptions_act": "subscription.pause",
    "subscriptions_edit": "subscription.change",
    "triggers_act": "trigger.pause trigger.resume",
}  # fmt: skip


@pytest.fixture
def root() -> Iterator[Client]:
    client = Client(REMOTE_ADDR="192.0.2.7")
    client.force_login(user(is_superuser=True))
    yield client


@pytest.fixture
def own(tmp_path: Path) -> Any:
    return workspace(tmp_path, FLOW, "own")


def labels() -> dict[str, Any]:
    admin.autodiscover()
    return {model._meta.label_lower: page for model, page in admin.site._registry.items()}


def test_every_kind_of_row_on_a_page_has_a_line(own: Any) -> None:
    assert set(labels()) == set(EDITS)
    request = RequestFactory().get("/")
    request.user = user(is_superuser=True)
    for label, page in labels().items():
        able = (
            page.has_add_permission(request),
            page.has_change_permission(request) or label == "subscriptions.subscription",
            page.has_delete_permission(request),
        )
        assert able == tuple(act is not None for act in EDITS[label]), label


def addresses() -> set[str]:
    """Each by its name, or what it looks like without one; the API and Django's five pages of a
    kind of row have tables of their own."""
    usual = {
        f"{label.replace('.', '_')}_{page}"
        for label in labels()
        for page in ("changelist", "add", "history", "delete", "change")
    }
    return {name for name in _named(get_resolver().url_patterns) if name not in usual}


def _named(patterns: Any, before: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from _named(pattern.url_patterns, route)
        elif pattern.name is None and route.endswith("<path:object_id>/"):
            continue  # leads on to the page of the row
        elif not route.lstrip("^").startswith("api"):
            yield pattern.name or route


def test_every_other_page_has_a_line() -> None:
    assert addresses() == set(PAGES)


# Forms


def filled(client: Client, address: str, given: dict[str, Any]) -> dict[str, Any]:
    """The form as a browser would send it, with these values typed into it."""
    context = client.get(address).context
    data: dict[str, Any] = {}
    formsets = [each.formset for each in context["inline_admin_formsets"]]
    for formset in formsets:
        data |= {formset.management_form.add_prefix(k): v for k, v in (
            ("TOTAL_FORMS", len(formset.forms)), ("INITIAL_FORMS", formset.initial_form_count()),
        )}  # fmt: skip
    for form in (context["adminform"].form, *(one for each in formsets for one in each.forms)):
        for name, field in form.fields.items():
            value = field.prepare_value(form.get_initial_for_field(field, name))
            if value not in (None, False):
                data[form.add_prefix(name)] = value
    return {**data, **given}


def page_of(row: Model | type[Model], what: str) -> str:
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_{what}"
    return reverse(name, args=[row.pk] if isinstance(row, Model) else [])


def noted(since: set[int]) -> list[str]:
    return list(Entry.objects.exclude(pk__in=since).order_by("pk").values_list("act", flat=True))


def sent(client: Client, address: str, given: dict[str, Any]) -> list[str]:
    """What is noted of it."""
    since = set(Entry.objects.values_list("pk", flat=True))
    answer = client.post(address, given)
    assert answer.status_code in (200, 302), answer.content
    if answer.context and "adminform" in answer.context:
        assert not answer.context["adminform"].form.errors, answer.context["adminform"].form.errors
    return noted(since)


def rows_of(label: str, own: Any) -> tuple[Model | None, dict[str, Any], dict[str, Any]]:
    """A row, what is typed into the form of another one, and into that of this one."""
    person = user()
    group = Group.objects.create(name="ops")
    match label:
        case "accounts.user":
            new = {"email": "new@example.org", "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
            return person, new, {"email": "other@example.org"}
        case "accounts.serviceaccount":
            row = ServiceAccount.objects.get(pk=add_service("ci", ()).pk)
            return row, {"name": "nightly"}, {"groups": [group.pk]}
        case "auth.group":
            return group, {"name": "devs"}, {"name": "operators"}
        case "accounts.workspacegrant":
            grant = WorkspaceGrant.objects.create(pattern="a", role="viewer", user=person)
            new = {"pattern": "*", "role": "admin", "group": group.pk}
            return grant, new, {"pattern": "b"}
        case "accounts.apitoken":
            new = {"user": person.pk, "name": "k", "scopes": ["admin"]}
            return tokens.make_key(person, "ci")[1], new, {}
        case "accounts.connectedagent":
            ends = datetime.now(UTC) + timedelta(days=1)
            values = {"grant": "g", "client_id": "c", "name": "bot", "expires_at": ends}
            return ConnectedAgent.objects.create(user=person, **values), {}, {}
        case "mfa.authenticator":
            return Authenticator.objects.create(user=person, type="totp", data={}), {}, {}
        case "socialaccount.socialaccount":
            values = {"user": person, "provider": "corp", "uid": "u"}
            return SocialAccount.objects.create(**values), {}, {}
        case "fleet.workerlimit":
            limit = WorkerLimit.objects.create(workers="gpu-*", workspaces=["own"])
            return limit, {"workers": "cpu-*", "workspaces": "own"}, {"workspaces": "web"}
        case "workspaces.secret":
            store_secret(own, "pw", "canary-4711", by="x")
            new = {"workspace": own.pk, "name": "other", "value": "canary-4712"}
            return Secret.objects.get(), new, {"value": "canary-4713"}
        case "subscriptions.subscription":
            row = subscribe(own, URL)[0]
            new = {"workspace": own.pk, "name": "pager", "url": URL, "events": ["job.failed"]}
            return row, new, {"url": f"{URL}/2"}
    raise AssertionError(label)


@pytest.mark.sample(5)
@pytest.mark.parametrize("label", [label for label, acts in EDITS.items() if any(acts)])
def test_a_form_leaves_what_the_table_says(root: Client, own: Any, label: str) -> None:
    row, new, other = rows_of(label, own)
    assert row is not None
    add, change, delete = EDITS[label]
    if add is not None:
        address = page_of(type(row), "add")
        acts = sent(root, address, filled(root, address, new))
        assert [act for act in acts if act != "user.password"] == [add]
    if change is not None:
        address = page_of(row, "change")
        if label == "subscriptions.subscription":
            address = reverse("admin:subscriptions_edit", args=[row.pk])
        assert sent(root, address, filled(root, address, other)) == [change]
    if delete is not None:
        assert sent(root, page_of(row, "delete"), {"post": "yes"}) == [delete]
    said = Entry.objects.exclude(via="server")
    assert {each.address for each in said} == {"192.0.2.7"}
    assert "canary" not in str(list(Entry.objects.values()))


def test_rows_that_are_deleted_together_are_noted_each(root: Client) -> None:
    rows = [Group.objects.create(name=name) for name in ("a", "b")]
    chosen = {"action": "delete_selected", "_selected_action": [row.pk for row in rows]}
    found = sent(root, "/admin/auth/group/", {**chosen, "post": "yes"})
    assert found == ["group.delete"] * 2
    assert not Group.objects.exists()


def test_a_change_says_what_was_before_and_lines_of_a_page_count(root: Client) -> None:
    person = user()
    group = Group.objects.create(name="ops")
    address = page_of(person, "change")
    line = {"grants-TOTAL_FORMS": 1, "grants-0-pattern": "data-*", "grants-0-role": "viewer"}
    given = filled(root, address, {"groups": [group.pk], "is_superuser": "on", **line})
    assert sent(root, address, given) == ["user.change", "workspace-grant.add"]
    changed, granted = Entry.objects.order_by("-pk")[:2][::-1]
    assert changed.object == person.email
    assert changed.changes == {
        "groups": {"before": [], "after": ["ops"]},
        "is_superuser": {"before": False, "after": True},
    }
    assert granted.object == f"{person.email}: viewer on data-*"
    grant = WorkspaceGrant.objects.get()
    line = {"grants-0-role": "admin"}
    assert sent(root, address, filled(root, address, line)) == [
        "user.change",
        "workspace-grant.change",
    ]
    found = Entry.objects.latest("pk")
    assert found.changes == {"role": {"before": "viewer", "after": "admin"}}
    assert grant.pk


# Buttons


def test_passwords_are_noted_without_saying_them(root: Client) -> None:
    person = User.objects.create_user("eve@example.org", PASSWORD)
    new = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}
    address = reverse("admin:auth_user_password_change", args=[person.pk])
    assert sent(root, address, new) == ["user.password"]
    mine = Client()
    person.refresh_from_db()
    mine.force_login(person)
    given = {
        "old_password": NEW_PASSWORD, "new_password1": PASSWORD + "!", "new_password2": PASSWORD + "!",
    }  # fmt: skip
    assert sent(mine, "/admin/password_change/", given) == ["user.password"]
    found = Entry.objects.filter(act="user.password", object=person.email)
    assert [row.changes for row in found] == [{"password": {"changed": True}}] * 3
    assert [row.via for row in found.order_by("pk")] == ["server", "page", "page"]
    service = add_service("ci", ())
    answer = root.post(reverse("admin:auth_user_password_change", args=[service.pk]), new)
    assert not User.objects.get(pk=service.pk).has_usable_password(), answer


def test_a_session_is_noted_by_the_page(root: Client) -> None:
    person = user(is_superuser=True)
    given = {"username": person.email, "password": PASSWORD}
    assert sent(Client(), "/admin/login/", given) == [PAGES["login"]]
    assert sent(root, "/admin/logout/", {}) == [PAGES["logout"]]


def test_buttons_leave_what_the_table_says(root: Client, own: Any) -> None:
    job = start(own)
    assert sent(root, reverse("task", args=["own", "main"]), {}) == [PAGES["task"]]
    cancel, again = (
        reverse(f"admin:jobs_job_{what}", args=[job.pk]) for what in ("cancel", "restart")
    )
    assert sent(root, cancel, {}) == [PAGES["jobs_job_cancel"]]
    assert sent(root, again, {}) == [PAGES["jobs_job_restart"]]
    trigger = Trigger.objects.get()
    for what in ("pause", "resume", "fire"):
        address = reverse("admin:triggers_act", args=[trigger.pk, what])
        assert sent(root, address, {})[0] == f"trigger.{what}"
    row = subscribe(own, URL)[0]
    for what, act in (
        ("pause", "change"), ("resume", "change"), ("ping", "ping"), ("rotate", "rotate"),
    ):  # fmt: skip
        address = reverse("admin:subscriptions_act", args=[row.pk, what])
        assert sent(root, address, {}) == [f"subscription.{act}"]
    remember(own.pk, "main", Change(0, {"n": 1}), Writer("step"))
    address = reverse("state_restore", args=["own", "main"])
    assert sent(root, address, {"version": "1"}) == [PAGES["state_restore"]]
    key = tokens.make_key(user(), "ci")[1]
    address = reverse("admin:accounts_apitoken_rotate", args=[key.pk])
    assert sent(root, address, {"overlap": "24"}) == [PAGES["accounts_apitoken_rotate"]]
    assert ApiToken.objects.get().previous_until is not None
    chosen = {"action": "cancel_chosen", "_selected_action": [str(job.pk)], "confirmed": "yes"}
    assert sent(root, "/admin/jobs/job/", chosen) == ["job.cancel"]
    assert Subscription.objects.get().paused_at is None


def test_a_workspace_that_a_page_removes_is_noted(root: Client, own: Any) -> None:
    address = reverse("workspace_remove", args=["own"])
    assert sent(root, address, {}) == [PAGES["workspace_remove"]]


def test_every_kind_can_be_chosen() -> None:
    told = [*(act for acts in EDITS.values() for act in acts if act), *PAGES.values()]
    acts = {
        word for text in told for word in text.split() if re.fullmatch(r"[a-z-]+\.[a-z-]+", word)
    }
    guide = (ROOT / "docs/guides/audit.md").read_text()
    acts |= set(re.findall(r"`([a-z-]+\.[a-z-]+)`", guide))
    told = "\n".join(file.read_text() for file in (ROOT / "apps").rglob("*.py"))
    acts |= set(re.findall(r'note\(\s*"([a-z-]+\.[a-z-]+)"', told))
    acts |= {f"user.{verb}" for verb in re.findall(r'(?:_note|Edit)\("([a-z-]+)"', told)}
    assert len(acts) > 40
    assert [act for act in sorted(acts) if not is_known(act)] == []


def test_addresses_of_subscriptions_are_noted_without_what_may_be_a_secret(own: Any) -> None:
    """Many receivers know their senders by a secret in the path."""
    row, _ = subscribe(own, "https://receiver.example.org/T0/canary")
    services.change(
        row,
        services.Wanted("https://receiver.example.org/T0/canary-2", row.events, row.with_output),
        is_paused=False,
        by="a",
    )
    assert not Entry.objects.filter(changes__icontains="canary").exists()
    changed = Entry.objects.get(act="subscription.change").changes
    assert changed == {"url": {"changed": True}}
