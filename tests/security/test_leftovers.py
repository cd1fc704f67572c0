"""What one step or workspace leaves is not there for the next, and what one person sees is not
everybody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.accounts.models import Role
from apps.jobs.models import Job
from engine.orders import ScriptWork, StepOrder
from runners.docker.config import DockerConfig
from runners.docker.request import name_cache_volume
from tests.apps.approvals.gates import asked, gate, operator, person, request_of
from tests.apps.jobs.builders import start, until, workspace
from tests.apps.jobs.test_admin import client_of
from tests.house import House

SECRET = "input-of-mine-71"
FLOW = """
actions:
  use:
    type: script
    script: 'grep -q mine "$STROEM_INPUTS_FILE"'
    input: {token: {type: string, secret: true}}
tasks:
  main:
    input: {token: {type: string, secret: true}}
    flow: {a: {action: use, input: {token: "{{ input.token }}"}}}
"""


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_secret_inputs_do_not_stay_in_scratch(tmp_path: Path, process_env: dict[str, str]) -> None:
    house = House(tmp_path, process_env)
    try:
        house.worker("one", slots=1)
        scratch = tmp_path / "one"
        job = start(workspace(tmp_path, FLOW), token=SECRET)
        until(lambda: Job.objects.get(pk=job.pk).completed_at, 60)
        assert Job.objects.get(pk=job.pk).status == "completed"
        until(lambda: not holding(scratch, SECRET.encode()), 10)
    finally:
        house.close()


def holding(folder: Path, word: bytes) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if word in path.read_bytes()]


def volume_of(owner: str, name: str) -> str | None:
    order = StepOrder("a", "j", "t", "s", name, 1, ScriptWork("python", "1"), Path("/x"))
    return name_cache_volume(order, DockerConfig(owner=owner))


def test_cache_volumes_of_two_workspaces_are_two() -> None:
    names = [
        ("w", "a b"), ("w", "a-b"), ("w", "a/b"), ("w", "a--b"), ("w", "\u00e9"), ("w", "\u00e8"),
        ("w-a", "b"), ("w", "a-b-"), ("W", "a-b"), ("w a", "b"),
    ]  # fmt: skip
    found = [volume_of(*pair) for pair in names]
    assert len(set(found)) == len(names)
    assert volume_of("w", "a b") == found[0]


@pytest.mark.django_db(transaction=True)
def test_an_approver_sees_no_addresses_of_other_workspaces(tmp_path: Path) -> None:
    shop = gate(tmp_path)
    me, colleague = operator(), person(Role.VIEWER, pattern=f"{shop.name[:2]}*")
    by_group, stranger = person(groups=("ops",)), person(Role.ADMIN, pattern="other-*")
    nobody = person()
    grant = by_group.groups.get().grants.create(pattern=shop.name, role=Role.VIEWER)
    assert grant.pk
    found = request_of(asked(shop))
    page = client_of(me).get(f"/admin/approvals/approvalrequest/{found.pk}/change/")
    text = page.content.decode()
    assert [one.email in text for one in (colleague, by_group)] == [True, True]
    assert [one.email in text for one in (stranger, nobody)] == [False, False]
