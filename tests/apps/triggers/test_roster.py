"""Rows of triggers follow the files of their workspace."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from apps.jobs.models import Job
from apps.triggers import clocks, roster
from apps.triggers.models import Firing, Trigger
from apps.workspaces import ports
from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder, refresh
from engine.spec.model import Workspace as Contents
from tests.apps.jobs.builders import workspace
from tests.apps.triggers.builders import HOUR, NOON, TASKS, set_to, trigger

pytestmark = pytest.mark.django_db(transaction=True)
NIGHTLY = TASKS + 'triggers: { nightly: { type: scheduler, cron: "0 * * * *", task: main } }\n'


def rewrite(row: Workspace, text: str) -> Workspace:
    (Path(row.location) / "workflow.yaml").write_text(textwrap.dedent(text))
    return refresh(row)


def test_an_import_sets_the_clock(tmp_path: Path):
    workspace(tmp_path, NIGHTLY)
    row = trigger()
    assert row.is_live and row.task == "main" and row.kind == "scheduler"
    assert row.next_slot is not None and row.next_at == row.next_slot


def test_a_change_of_the_schedule_sets_the_clock_anew_and_another_one_does_not(tmp_path: Path):
    row = workspace(tmp_path, NIGHTLY)
    set_to(NOON)
    rewrite(row, NIGHTLY.replace("task: main", "task: main, concurrency: skip"))
    assert trigger().next_slot == NOON + HOUR
    assert trigger().described.options["concurrency"] == "skip"
    rewrite(row, NIGHTLY.replace("0 * * * *", "30 * * * *"))
    found = trigger().next_slot
    assert found is not None and found.minute == 30 and found > NOON + HOUR


def test_a_trigger_that_left_the_files_stops_and_keeps_its_history(tmp_path: Path):
    row = workspace(tmp_path, NIGHTLY)
    set_to(NOON)
    assert clocks.fire_due(NOON + HOUR) == 1
    rewrite(row, TASKS)
    gone = trigger()
    assert not gone.is_listed and gone.next_at is None
    assert Firing.objects.filter(trigger=gone).count() == 1
    rewrite(row, NIGHTLY)
    assert trigger().pk == gone.pk and trigger().is_live and trigger().next_at


def test_a_broken_state_of_the_files_leaves_the_triggers_alone(tmp_path: Path):
    row = workspace(tmp_path, NIGHTLY)
    assert rewrite(row, NIGHTLY.replace("0 * * * *", "99 * * * *")).has_failed
    assert trigger().is_live


def test_a_disabled_or_paused_trigger_does_not_fire(tmp_path: Path):
    row = workspace(tmp_path, NIGHTLY.replace("task: main", "task: main, enabled: false"))
    assert trigger().next_at is None
    rewrite(row, NIGHTLY)
    roster.set_paused(trigger().pk, True, "ann@x")
    assert trigger().next_at is None and trigger().paused_by == "ann@x"
    rewrite(row, NIGHTLY.replace("task: main", "task: main, jitter: 1m"))
    assert trigger().next_at is None
    roster.set_paused(trigger().pk, False, "ann@x")
    assert trigger().next_at is not None and not trigger().paused_by


def test_removing_a_workspace_removes_its_triggers(tmp_path: Path):
    from apps.workspaces import removal

    row = workspace(tmp_path, NIGHTLY)
    removal.close(row)
    assert not trigger().is_listed and trigger().next_at is None
    removal.remove(row)
    assert not Trigger.objects.exists() and not Job.objects.exists()


def test_a_workspace_that_shares_a_short_address_is_told_both_places(tmp_path: Path):
    hook = TASKS + "triggers: { push: { type: webhook, name: deploy, task: main } }\n"
    workspace(tmp_path, hook, "first")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "w.yaml").write_text(hook)
    second = import_folder("second", tmp_path / "second")
    (found,) = (one for one in second.problems if one["code"] == "shared-address")
    assert found["severity"] == "warning" and found["line"] == found["line"] > 1
    assert "workspace 'first' has a webhook named 'deploy' too (workflow.yaml:" in found["text"]
    assert "/hooks/second/deploy" in found["text"]


def test_only_a_workspace_that_has_or_had_triggers_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    heard: list[list[str]] = []

    def follow(workspace: Workspace, contents: Contents | None) -> None:
        heard.append(list(contents.triggers) if contents else [])
        roster.follow(workspace, contents)

    monkeypatch.setitem(ports._followers, "triggers", (follow, Trigger))
    row = workspace(tmp_path, TASKS)
    assert heard == []
    rewrite(row, NIGHTLY)
    rewrite(row, TASKS)  # the file has none any more, but the row is still there
    assert heard == [["nightly"], []] and not trigger().is_listed
    Trigger.objects.all().delete()
    rewrite(row, TASKS + "# other\n")
    assert len(heard) == 2


def test_a_state_read_anew_into_a_known_revision_is_followed(tmp_path: Path):
    """A newer version may read other triggers, or none, from the same files."""
    row = workspace(tmp_path, TASKS)
    trigger_of_before = Trigger.objects.create(
        workspace=row, name="old", kind="scheduler", task="main", is_listed=True, definition={}
    )
    refresh(row)
    trigger_of_before.refresh_from_db()
    assert not trigger_of_before.is_listed
