"""What a person sees of workspaces and tasks: in the database as in Python."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from django.contrib.auth.models import AnonymousUser, Group
from django.db import connection

from apps.accounts.models import Role, User, WorkspaceGrant
from apps.approvals.models import Outcome, Record
from apps.jobs.models import Job
from apps.workspaces.models import WHOLE, TaskList, Workspace
from apps.workspaces.rights import sight_if_asked, sight_of, workspaces_of
from engine.rights import ALL_RIGHTS, NO_RIGHTS, OF_OPERATORS, OF_VIEWERS, Right
from tests.apps.jobs.builders import start, workspace

pytestmark = pytest.mark.django_db
FLOW = """
access: {"*": {secrets: {groups: [keepers]}}}
actions: {go: {type: script, script: "true"}}
tasks:
  a: {flow: {s: {action: go}}}
  b: {folder: deploy, access: {logs: {users: [ada@example.org]}}, flow: {s: {action: go}}}
"""


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada@example.org")


def grant(
    user: User, pattern: str, role: Role, tasks: str = "*", rights: tuple[Right, ...] = ()
) -> User:
    WorkspaceGrant.objects.create(
        user=user, pattern=pattern, role=role, tasks=tasks, rights=list(rights)
    )
    return User.objects.get(pk=user.pk)


def exists(*names: str) -> None:
    for name in names:
        Workspace.objects.create(name=name, source="folder", location="/x")


def test_nothing_is_allowed_by_default(user: User) -> None:
    exists("shop")
    for person in (user, AnonymousUser()):
        assert sight_of(person).on("shop") == NO_RIGHTS
        assert not workspaces_of(person).exists()
        assert not sight_if_asked(person).sees("shop")


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("shop", "shop", True),
        ("shop", "shop-2", False),
        ("shop", "my-shop", False),
        ("shop-*", "shop-2", True),
        ("*-prod", "shop-prod", True),
        ("*", "anything", True),
        ("s.op", "shop", False),
        ("shop|other", "shop", False),
        ("(shop)", "shop", False),
        ("[a-z]*", "shop", False),
        ("shop$", "shop", False),
        ("sh\\op", "shop", False),
        ("", "shop", False),
        ("SHOP", "shop", False),
    ],
)
def test_a_pattern_means_the_same_in_python_and_in_the_database(
    user: User, pattern: str, name: str, fits: bool
) -> None:
    exists(name)
    user = grant(user, pattern, Role.VIEWER)
    assert sight_of(user).sees(name) is fits
    assert workspaces_of(user).exists() is fits


def test_grants_add_up_and_groups_count(user: User) -> None:
    exists("shop-1", "other")
    group = Group.objects.create(name="ops")
    user.groups.add(group)
    WorkspaceGrant.objects.create(group=group, pattern="shop*", role=Role.OPERATOR)
    user = grant(user, "*", Role.VIEWER)
    assert sight_of(user).on("shop-1") == OF_OPERATORS
    assert sight_of(user).on("other", "any") == OF_VIEWERS


def test_a_right_that_is_needed_narrows_the_list(user: User) -> None:
    exists("a", "b")
    user = grant(grant(user, "*", Role.VIEWER), "b", Role.ADMIN)
    assert [row.name for row in workspaces_of(user, Right.RUN)] == ["b"]
    assert workspaces_of(user).count() == 2


def test_administrators_see_everything_until_they_are_disabled() -> None:
    exists("a")
    admin = User.objects.create_superuser("root@example.org")
    assert sight_of(admin).on("a") == ALL_RIGHTS
    assert workspaces_of(admin).count() == 1
    admin.is_active = False
    assert sight_of(admin).on("a") == NO_RIGHTS
    assert workspaces_of(admin).count() == 0


def test_files_keep_rights_on_some_tasks_and_on_the_whole(user: User, tmp_path: Path) -> None:
    workspace(tmp_path, FLOW, "shop")
    ada = grant(user, "*", Role.ADMIN)
    bob = grant(User.objects.create_user("bob@example.org"), "*", Role.ADMIN)
    assert Right.LOGS in sight_of(ada).on("shop", "b")
    assert sight_of(bob).on("shop", "b") == ALL_RIGHTS - {Right.LOGS, Right.SECRETS}
    assert Right.LOGS in sight_of(bob).on("shop", "a")
    assert Right.SECRETS not in sight_of(ada).on("shop")
    ada.groups.add(Group.objects.create(name="keepers"))
    assert Right.SECRETS in sight_of(User.objects.get(pk=ada.pk)).on("shop")


def test_a_list_has_the_rows_that_the_decision_allows(user: User, tmp_path: Path) -> None:
    shop = workspace(tmp_path, FLOW, "shop")
    other = workspace(tmp_path, FLOW, "other")
    for row in (shop, other):
        for task in ("a", "b"):
            start(row, task)
    for rules in (
        [("*", Role.VIEWER, "*", ())],
        [("shop", Role.OPERATOR, "deploy/*", ())],
        [("*", Role.OPERATOR, "*", ()), ("shop", Role.DENY, "deploy/*", ())],
        [("*", Role.OPERATOR, "*", ()), ("*", Role.DENY, "a", (Right.LOGS,))],
        [("*", Role.CUSTOM, "*b", (Right.RUN,)), ("other", Role.DENY, "*", (Right.RUN,))],
        [("*", Role.DENY, "*", ())],
    ):
        WorkspaceGrant.objects.all().delete()
        for pattern, role, tasks, rights in rules:
            user = grant(user, pattern, role, tasks, rights)
        sight = sight_of(user)
        for right in Right:
            listed = set(Job.objects.filter(sight.tasks(right)).values_list("pk", flat=True))
            jobs = Job.objects.select_related("workspace")
            allowed = {j.pk for j in jobs if right in sight.on(j.workspace.name, j.task_name)}
            assert listed == allowed, (rules, right)


def test_a_workspace_of_which_nothing_may_be_seen_is_not_listed(user: User, tmp_path: Path) -> None:
    workspace(tmp_path, FLOW, "shop")
    assert not workspaces_of(grant(user, "*", Role.VIEWER, "nowhere/*")).exists()
    assert workspaces_of(grant(user, "*", Role.VIEWER, "deploy/*")).exists()


def test_what_is_not_known_of_a_workspace_is_not_allowed_in_part(user: User) -> None:
    exists("shop")
    assert sight_of(grant(user, "*", Role.VIEWER)).on("shop", "a") == OF_VIEWERS
    user = grant(user, "*", Role.DENY, "deploy/*")
    assert sight_of(user).on("shop", "a") == NO_RIGHTS
    assert sight_of(user).on("shop") == NO_RIGHTS


def test_the_record_of_a_workspace_that_is_gone_stays_with_those_who_saw_it(user: User) -> None:
    for place in ("gone", "other"):
        Record.objects.create(
            workspace=place, task_name="t", step_name="s", what="approve", outcome=Outcome.DONE,
            via="api", request_id=1, job_id="00000000-0000-4000-8000-000000000000",
        )  # fmt: skip
    seen = Record.objects.filter(sight_of(grant(user, "g*", Role.VIEWER)).named_tasks())
    assert [row.workspace for row in seen] == ["gone"]
    everywhere = grant(User.objects.create_user("bob@example.org"), "*", Role.VIEWER)
    assert Record.objects.filter(sight_of(everywhere).named_tasks()).count() == 2
    user = grant(user, "gone", Role.DENY)
    assert not Record.objects.filter(sight_of(user).named_tasks()).exists()


def test_an_approver_by_name_decides_unless_that_is_denied(user: User, tmp_path: Path) -> None:
    workspace(tmp_path, FLOW, "shop")
    user = grant(user, "*", Role.VIEWER)
    assert Right.APPROVE not in sight_of(user).on("shop", "b")
    assert Right.APPROVE in sight_if_asked(user).on("shop", "b")
    user = grant(user, "*", Role.DENY, "deploy/*", (Right.APPROVE,))
    assert Right.APPROVE not in sight_if_asked(user).on("shop", "b")
    assert Right.APPROVE in sight_if_asked(user).on("shop", "a")


def test_the_migration_notes_the_tasks_of_all_revisions(tmp_path: Path) -> None:
    row = workspace(tmp_path, FLOW, "shop")
    (tmp_path / "shop" / "workflow.yaml").write_text(
        "tasks: {c: {folder: new, flow: {s: {type: script, script: x}}}}"
    )
    from apps.workspaces.services import refresh

    refresh(row)
    exists("empty")
    TaskList.objects.all().delete()
    fill = importlib.import_module("apps.workspaces.migrations.0007_task_lists").FILL
    with connection.cursor() as cursor:
        cursor.execute(fill)
    found = TaskList.objects.get(workspace=row)
    assert found.tasks == {
        "a": [None, {}], "b": ["deploy", {}], "c": ["new", {}], WHOLE: [None, {}],
    }  # fmt: skip
    assert TaskList.objects.get(workspace__name="empty").tasks == {WHOLE: [None, {}]}
