"""A workspace made to stop its reader stops nobody else: its reader is ended at a limit, with all
that it started; the workspace goes into quarantine; sweeps, time-outs and other workspaces go on."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from glob import glob
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.management import call_command
from django.test import Client

from apps.accounts.models import Role, User
from apps.jobs.services import start_job
from apps.workspaces import services
from apps.workspaces.models import Workspace
from apps.workspaces.refreshing import rounds, turns
from apps.workspaces.refreshing.reader import Reader
from apps.workspaces.refreshing.turns import Outcome
from console.health import examine
from engine.errors import Conflict
from tests.apps.api.callers import caller
from tests.apps.jobs.builders import fresh, until
from tests.house import House
from tests.security import hostile_sources as hostile

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("readers")]
Limit = Callable[..., None]
ALL_OF_VAULT = '{"all": {"workspaces": ["*"], "scheme": "vault", "paths": ["*"]}}'


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where readers put their files: ours alone."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))


@pytest.fixture
def limit(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Sets limits, for this process and those that it starts."""
    keys = {"timeout_s": "timeout_secs", "quarantine_s": "quarantine_secs"}

    def limit(**given: int) -> None:
        for name, value in given.items():
            monkeypatch.setenv(f"STROEM__REFRESH__{keys.get(name, name).upper()}", str(value))
        config = settings.STROEM
        settings.STROEM = dataclasses.replace(
            config, refresh=dataclasses.replace(config.refresh, **given)
        )

    limit(quarantine_after=1)
    return limit


def noted(name: str, location: Path | str, source: str = "folder") -> Workspace:
    """A workspace that nobody has read yet."""
    return Workspace.objects.create(name=name, source=source, location=str(location))


def read(row: Workspace) -> Workspace:
    found = rounds.refresh(row)
    assert left_over() == []
    return found


def left_over() -> list[str]:
    """What readers started and left: processes by command line, and folders."""
    here, found = tempfile.gettempdir(), [*glob(f"{tempfile.gettempdir()}/stroem-read-*")]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            places = (process.environ().get("TMPDIR", ""), process.cwd())
            if any(f"{here}/stroem-read-" in place for place in places):
                found.append(" ".join(process.cmdline()))
    return found


def test_a_read_that_takes_too_long_is_ended(tmp_path: Path, limit: Limit) -> None:
    limit(timeout_s=2)
    found = read(noted("shop", hostile.large_definition(tmp_path / "ws", 6)))
    assert found.stopped_because == "reading it took longer than 2 s"
    assert found.quarantine is not None and found.has_failed and found.current is None


@pytest.mark.long
def test_a_read_that_needs_too_much_memory_is_ended(tmp_path: Path, limit: Limit) -> None:
    limit(memory_mb=200)
    folder = hostile.harmless(tmp_path / "ws")
    with (folder / "data").open("wb") as file:
        file.truncate(190_000_000)
    found = read(noted("shop", folder))
    assert found.stopped_because == "reading it needed more than 200 MB of memory"


@pytest.mark.long
def test_more_workflow_text_than_a_server_should_load_is_refused(
    tmp_path: Path, limit: Limit
) -> None:
    limit(definition_mb=1)
    found = read(noted("shop", hostile.large_definition(tmp_path / "ws", 1.7)))
    assert found.stopped_because.startswith(
        "the workflow files of the workspace hold more than 1 M"
    )
    assert found.quarantine is not None


@pytest.mark.long
def test_entries_count_even_if_they_are_left_out(tmp_path: Path, limit: Limit) -> None:
    limit(files=50)
    found = read(noted("shop", hostile.many_entries(tmp_path / "ws", 250)))
    assert found.stopped_because.startswith("the workspace holds more than 200 files, folders and")


@pytest.mark.long
def test_a_repository_of_endless_folders_ends_soon(tmp_path: Path, limit: Limit) -> None:
    bomb = hostile.git_bomb(tmp_path / "bomb.git")
    assert sum(file.stat().st_size for file in bomb.rglob("*") if file.is_file()) < 300_000
    found = read(noted("shop", bomb, "git"))
    assert found.stopped_because.startswith("the repository lists more than 20000 files")


@pytest.mark.long
def test_a_host_that_never_answers_is_given_up(limit: Limit) -> None:
    limit(timeout_s=4)
    with hostile.silent_host() as url:
        found = read(noted("shop", url, "git"))
    assert found.stopped_because.startswith("git took longer than 2 s")


@pytest.mark.long
def test_a_store_of_secrets_that_never_answers_is_given_up(
    tmp_path: Path, limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    vals = tmp_path / "vals"
    vals.write_text("#!/bin/sh\nsleep 3600\n")
    vals.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("STROEM__SECRETS__REFERENCES", ALL_OF_VAULT)
    monkeypatch.setenv("STROEM__SECRETS__TIMEOUT_SECS", "1")
    folder = hostile.harmless(tmp_path / "ws")
    (folder / "secrets.yaml").write_text("secrets: {pw: 'ref+vault://a/b'}\n")
    found = read(noted("shop", folder))
    assert found.quarantine is not None
    assert found.stopped_because == "secret 'pw': vals did not answer within 1 s"
    assert found.current is not None  # its files are sound


@pytest.mark.long
def test_a_reader_whose_owner_was_killed_ends_too(tmp_path: Path, limit: Limit) -> None:
    with hostile.silent_host() as url:
        row = noted("shop", url, "git")
        owner = subprocess.Popen(
            [sys.executable, "manage.py", "import_workspace", row.name, url],
            stderr=subprocess.DEVNULL,
        )
        until(lambda: any("remote-https" in line for line in left_over()), 60)
        owner.kill()
        owner.wait()
    until(lambda: left_over() == [])


@pytest.mark.long
def test_a_workspace_has_one_reader_at_a_time(tmp_path: Path) -> None:
    row = noted("shop", hostile.harmless(tmp_path / "ws"))
    turn = turns.take(row.pk)
    assert turn is not None and turns.take(row.pk) is None
    assert turns.take_due(also_stopped=True) is None
    with pytest.raises(Conflict, match="is being read just now"):
        rounds.refresh(row)
    answer = caller(Role.ADMIN).post("/api/workspaces/shop/refresh")
    assert (answer.status_code, "read just now" in answer.json()["error"]) == (409, True)
    turns.end(turn, Outcome("read"))
    assert rounds.refresh(row).current is not None


def test_a_turn_that_its_owner_never_ended_ends_by_itself(tmp_path: Path) -> None:
    row = noted("shop", hostile.harmless(tmp_path / "ws"))
    turns.take(row.pk)
    Workspace.objects.update(reading_until="2020-01-01T00:00Z")
    assert turns.take_due(also_stopped=True) == turns.Turn(row.pk)


def test_pauses_grow_until_quarantine_which_a_good_read_ends(tmp_path: Path, limit: Limit) -> None:
    limit(quarantine_after=3)
    row = noted("shop", hostile.harmless(tmp_path / "ws"))
    pauses = []
    for number in range(4):
        turns.end(turns.Turn(row.pk), Outcome("stopped", "it took too long"))
        row.refresh_from_db()
        assert (row.quarantine is not None) is (number >= 2)
        assert row.not_before is not None and row.checked_at is not None
        pauses.append(round((row.not_before - row.checked_at).total_seconds()))
        assert turns.take_due(also_stopped=True) is None
    assert pauses == [120, 240, 3600, 3600]
    found = rounds.refresh(row)
    assert (found.quarantine, found.stops, found.problems, found.not_before) == (None, 0, [], None)


def test_those_that_were_stopped_come_last_and_leave_readers_to_the_others(tmp_path: Path) -> None:
    bad, good = (noted(name, hostile.harmless(tmp_path / name)) for name in ("bad", "good"))
    Workspace.objects.filter(pk=bad.pk).update(stops=1)
    assert turns.take_due(also_stopped=False) == turns.Turn(good.pk)
    assert turns.take_due(also_stopped=False) is None
    assert turns.take_due(also_stopped=True) == turns.Turn(bad.pk, was_stopped=True)


def test_the_last_good_revision_stays_in_force(tmp_path: Path, limit: Limit) -> None:
    folder = hostile.harmless(tmp_path / "ws")
    first = services.import_folder("shop", folder)
    limit(definition_mb=1)
    hostile.large_definition(folder / "more", 1.7)
    found = read(first)
    assert found.quarantine is not None
    assert found.current_id == first.current_id


def test_a_quarantine_is_told_wherever_the_workspace_is(tmp_path: Path, limit: Limit) -> None:
    limit(files=5)
    folder = hostile.many_entries(tmp_path / "ws", 120)
    sentence = read(noted("shop", folder)).quarantine
    assert sentence is not None and sentence.startswith("in quarantine since ")
    root = Client()
    root.force_login(User.objects.create_superuser("root@example.org"))
    page = root.get(f"/admin/workspaces/workspace/{Workspace.objects.get().pk}/change/")
    assert sentence in page.content.decode()
    assert "in quarantine" in root.get("/admin/workspaces/workspace/").content.decode()
    assert sentence.replace("in q", "In q") in root.get("/admin/").content.decode()
    (listed,) = caller(Role.ADMIN).get("/api/workspaces").json()
    assert listed["quarantine"] == sentence
    assert sentence in [found.sentence.removeprefix("shop: ") for found in examine()]
    out, err = StringIO(), StringIO()
    call_command("workspaces", stdout=out, stderr=err)
    assert "shop  quarantine" in out.getvalue() and f"shop: {sentence}" in err.getvalue()
    for one in folder.glob("nothing*"):
        one.unlink()
    answer = caller(Role.ADMIN).post("/api/workspaces/shop/refresh").json()
    assert "error" not in answer and answer["revision"]
    assert Workspace.objects.get().quarantine is None


@pytest.mark.long
def test_refreshing_over_the_api_says_that_it_was_stopped(tmp_path: Path, limit: Limit) -> None:
    limit(files=5)
    noted("shop", hostile.many_entries(tmp_path / "ws", 120))
    answer = caller(Role.ADMIN).post("/api/workspaces/shop/refresh").json()
    assert answer["error"].startswith("in quarantine since ")


def test_a_restart_with_the_same_settings_does_not_end_a_quarantine(tmp_path: Path) -> None:
    folder = hostile.harmless(tmp_path / "ws")
    services.declare("shop", path=folder, poll_interval_s=60)
    row = Workspace.objects.get()
    Workspace.objects.update(stops=3, not_before="2100-01-01T00:00Z", quarantined_at=row.created_at)
    services.declare("shop", path=folder, poll_interval_s=60)
    assert turns.take_due(also_stopped=True) is None
    services.declare("shop", path=hostile.harmless(tmp_path / "elsewhere"), poll_interval_s=60)
    assert turns.take_due(also_stopped=True) == turns.Turn(row.pk)


@pytest.mark.long
def test_a_reader_that_the_end_of_its_owner_interrupts_is_not_held_against_the_workspace(
    limit: Limit,
) -> None:
    stop = threading.Event()
    reader = Reader()
    with hostile.silent_host() as url:
        row = noted("shop", url, "git")
        threading.Timer(3, stop.set).start()
        outcome = reader.read(row.pk, only_if_changed=True, stop=stop)
    assert outcome == Outcome("given_up")
    assert left_over() == []


@pytest.mark.long
def test_sweeps_and_other_workspaces_go_on_while_hostile_ones_are_read(
    tmp_path: Path, process_env: dict[str, str], limit: Limit
) -> None:
    """All but one reader are held by hosts that never answer; nothing else waits for them."""
    limit(parallel=3, timeout_s=60)
    folder = hostile.harmless(tmp_path / "good")
    (folder / "flow.yaml").write_text(
        hostile.FLOW.replace("{main: {", "{main: {timeout: 1s, ") + "# a job that is never done\n"
    )
    good = services.import_folder("good", folder)
    Workspace.objects.update(poll_interval_s=1)
    first = good.current_id
    with ExitStack() as hosts:
        for name in ("silent1", "silent2"):
            noted(name, hosts.enter_context(hostile.silent_host()), "git")
        house = House(tmp_path, {**process_env, **os.environ}, sweep_interval_secs=5)
        hosts.callback(house.close)
        house.scheduler()

        def held() -> set[str]:
            rows = Workspace.objects.filter(name__startswith="silent")
            return set(rows.exclude(reading_until=None).values_list("name", flat=True))

        until(lambda: held() == {"silent1", "silent2"}, 60)
        (folder / "new.txt").write_text("x")
        job = start_job("good", "main", {}, source_type="user")
        until(lambda: fresh(job).status == "failed", 30)
        until(lambda: Workspace.objects.get(name="good").current_id != first, 30)
        assert held() == {"silent1", "silent2"}  # the very reads that were under way
        assert "timed out" in fresh(job).error or "time" in fresh(job).error
    until(lambda: left_over() == [])


@pytest.mark.long
def test_the_largest_workspace_fits_into_the_default_memory(tmp_path: Path) -> None:
    folder = hostile.harmless(tmp_path / "ws")
    for number in range(39):  # nothing can be compressed
        (folder / f"data{number}").write_bytes(os.urandom(5_000_000))
    found = read(noted("shop", folder))
    assert found.current is not None, found.problems


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["yaml", "entries", "bomb", "host", "vals"])
def test_the_large_attacks_delay_no_time_out(
    tmp_path: Path, process_env: dict[str, str], kind: str
) -> None:
    """In the sizes that stopped a scheduler before. Prints by how much time-outs of 5 s were late;
    the bound is that of the guarantee."""
    good = services.import_folder("good", hostile.harmless(tmp_path / "good"))
    (Path(good.location) / "flow.yaml").write_text(
        hostile.FLOW.replace("{main: {", "{main: {timeout: 5s, ")
    )
    good = services.refresh(good)
    Workspace.objects.update(poll_interval_s=5)
    with ExitStack() as stack:
        env = {**process_env, **os.environ, "STROEM__REFRESH__QUARANTINE_AFTER": "1"}
        row = _attack(kind, tmp_path, stack, env)
        house = House(tmp_path, env)
        stack.callback(house.close)
        scheduler = house.scheduler()
        until(lambda: Workspace.objects.filter(pk=row.pk).exclude(reading_until=None), 60)
        late, most, began = [], 0, time.monotonic()
        while not Workspace.objects.filter(pk=row.pk, quarantined_at__isnull=False).exists():
            assert time.monotonic() - began < 600
            job = start_job("good", "main", {}, source_type="user")
            while fresh(job).status != "failed":
                most = max(most, _memory(scheduler.pid))
                time.sleep(0.05)
            ended = fresh(job)
            late.append((ended.completed_at - ended.created_at).total_seconds() - 5)
        row.refresh_from_db()
        print(
            f"\n{kind}: quarantine after {time.monotonic() - began:.0f} s; {len(late)} time-outs,"
            f" at most {max(late, default=0):.2f} s late; {most / 1e6:.0f} MB at most, of"
            f" scheduler and readers; {row.quarantine}"
        )
        assert max(late, default=0) < 1.0


def _attack(kind: str, folder: Path, stack: ExitStack, env: dict[str, str]) -> Workspace:
    match kind:
        case "yaml":
            env["STROEM__REFRESH__DEFINITION_MB"] = "100"
            return noted(kind, hostile.large_definition(folder / kind, 48))
        case "entries":
            return noted(kind, hostile.many_entries(folder / kind, 1_000_000))
        case "bomb":
            return noted(kind, hostile.git_bomb(folder / kind), "git")
        case "host":
            return noted(kind, stack.enter_context(hostile.silent_host()), "git")
    (folder / "bin").mkdir()
    vals = folder / "bin" / "vals"
    vals.write_text("#!/bin/sh\nsleep 3600\n")
    vals.chmod(0o755)
    env["PATH"] = f"{folder / 'bin'}:{env['PATH']}"
    env["STROEM__SECRETS__REFERENCES"] = ALL_OF_VAULT
    flows = hostile.harmless(folder / kind)
    (flows / "secrets.yaml").write_text("secrets: {pw: 'ref+vault://a/b'}\n")
    return noted(kind, flows)


def _memory(pid: int) -> int:
    total = 0
    try:
        for one in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            total += one.memory_info().rss
    except psutil.Error:
        return total
    return total
