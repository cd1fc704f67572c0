"""The page that says what a person may do, and why; and the form of a grant."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Role, User, WorkspaceGrant
from engine.rights import Right
from tests.apps.jobs.builders import workspace
from tests.apps.jobs.test_admin import client_of
from tests.apps.workspaces.test_sight import FLOW, grant

pytestmark = pytest.mark.django_db
PAGE = "/admin/rights/"
ADD = "/admin/accounts/workspacegrant/add/"


@pytest.fixture
def root() -> Client:
    return client_of(User.objects.create_superuser("root@example.org"))


@pytest.fixture(autouse=True)
def shop(tmp_path: Path) -> None:
    workspace(tmp_path, FLOW, "shop")


def rows(client: Client, **query: str) -> dict[str, str]:
    """By what each line is about: its text."""
    answer = client.get(PAGE, query)
    assert answer.status_code == 200
    found = {}
    for line in answer.context["lines"]:
        of = line.of
        name = getattr(of, "email", None) or of.task or "the whole"
        may = "; ".join(f"{one.rights} by {one.grant or one.because}" for one in line.may)
        not_ = "; ".join(
            f"{one.rights}: {one.because} {one.grant or ''}".strip() for one in line.may_not
        )
        found[name] = f"may {may or 'nothing'} | not {not_}"
    return found


def test_a_person_is_told_what_decided_each_right(root: Client) -> None:
    bob = grant(User.objects.create_user("bob@example.org"), "*", Role.OPERATOR)
    bob.groups.add(Group.objects.create(name="ops"))
    WorkspaceGrant.objects.create(
        group=Group.objects.get(), pattern="shop", tasks="a", role=Role.DENY, rights=[Right.RUN]
    )
    told = rows(root, person="BOB@example.org")
    assert told["a"] == (
        "may see, inputs, logs, approve by bob@example.org: operator on * | not run: denied, and"
        " that wins ops: deny (run) on shop: a; manage: no grant gives it"
    )
    assert "logs: the workspace's files keep it to ada@example.org" in told["b"]
    assert "may see, inputs, logs, run, approve by" in told["the whole"]
    assert list(rows(root, person="bob@example.org", workspace="shop", q="deploy")) == ["b"]


def test_a_task_is_told_who_may_do_what(root: Client) -> None:
    grant(User.objects.create_user("ada@example.org"), "*", Role.VIEWER)
    gone = grant(User.objects.create_user("gone@example.org"), "*", Role.ADMIN)
    gone.is_active = False
    gone.save()
    User.objects.create_user("stranger@example.org")
    told = rows(root, workspace="shop", task="b")
    assert list(told) == ["ada@example.org", "gone@example.org", "root@example.org"]
    assert told["ada@example.org"].startswith("may see, inputs, logs by ada@example.org: viewer")
    assert "the account is switched off" in told["gone@example.org"]
    assert "superusers may do everything" in told["root@example.org"]


def test_the_cost_does_not_grow_with_people_or_tasks(root: Client) -> None:
    def count(**query: str) -> int:
        with CaptureQueriesContext(connection) as caught:
            rows(root, **query)
        return len(caught)

    ada = grant(User.objects.create_user("ada@example.org"), "*", Role.VIEWER)
    before = count(person="ada@example.org"), count(workspace="shop", task="b")
    group = Group.objects.create(name="ops")
    for number in range(5):
        other = grant(User.objects.create_user(f"p{number}@example.org"), "s*", Role.VIEWER)
        other.groups.add(group)
        grant(ada, "shop", Role.CUSTOM, f"x{number}", (Right.RUN,))
    assert (count(person="ada@example.org"), count(workspace="shop", task="b")) == before


def test_only_superusers_open_it_and_nothing_is_made_up(root: Client) -> None:
    ada = grant(User.objects.create_user("ada@example.org"), "*", Role.ADMIN)
    for path in (PAGE, f"{PAGE}matching/"):
        assert client_of(ada).get(path).status_code == 403
    assert "There is no account &lt;b&gt;" in root.get(PAGE, {"person": "<b>"}).content.decode()
    for query in ({"workspace": "no"}, {"workspace": "shop", "task": "no"}):
        assert root.get(PAGE, query).status_code == 404
    assert root.get(PAGE, {"person": "\x00"}).status_code == 400


def test_a_pattern_of_tasks_shows_what_it_matches(root: Client) -> None:
    assert 'data-preview="/admin/rights/matching/"' in root.get(ADD).content.decode()
    for pattern, sentence in (
        ("deploy/*", "In all workspaces, matches shop: deploy/b."),
        ("*", "In all workspaces, matches shop: a, shop: deploy/b."),
        ("b", "Matches no task so far."),
    ):
        answer = root.get(f"{PAGE}matching/", {"pattern": pattern})
        assert answer.json() == {"sentence": sentence}


@pytest.mark.parametrize(
    ("role", "rights", "words"),
    [
        ("custom", [], "choose some"),
        ("viewer", ["run"], "has its own rights"),
        ("custom", ["run"], ""),
        ("deny", [], ""),
        ("deny", ["logs"], ""),
        ("admin", [], ""),
    ],
)
def test_rights_are_chosen_for_custom_grants_and_denials_only(
    root: Client, role: str, rights: list[str], words: str
) -> None:
    ada = User.objects.create_user("ada@example.org")
    given = {"pattern": "*", "tasks": " deploy/* ", "role": role, "rights": rights, "user": ada.pk}
    answer = root.post(ADD, given)
    if words:
        assert words in answer.content.decode()
        assert not WorkspaceGrant.objects.exists()
    else:
        assert answer.status_code == 302, answer.content
        made = WorkspaceGrant.objects.get()
        assert (made.tasks, made.rights) == ("deploy/*", rights)
        assert "deploy/*" in root.get("/admin/accounts/workspacegrant/").content.decode()
