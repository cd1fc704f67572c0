"""Lines of ended jobs in the storage: the same lines for every reader, never lost, never twice."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings as live_settings
from django.db import connection
from rest_framework.test import APIClient

from apps.accounts.models import Role
from apps.api import metrics
from apps.api.mcp.tools import Toolbox
from apps.artifacts import blobs
from apps.artifacts.logs import moving, packing, rounds
from apps.artifacts.models import Blob, JobLog, LogFrame, LogRound
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.log import cursors, tails
from apps.jobs.log.archive import Batch, LogsAway
from apps.jobs.log.cursors import EVERYTHING, Choice, Cursor, Whose
from apps.jobs.models import Job, Step
from apps.jobs.pages import live
from apps.jobs.transitions.moves import say
from apps.jobs.upkeep import retention
from console import health
from console.database import Database
from stroem_project import config
from stroem_project.config import Logs
from tests.apps.api.callers import caller, error, user
from tests.apps.artifacts.logkeeping import (
    FLOW,
    age,
    get,
    lines_here,
    move,
    numbered,
    print_lines,
    run,
    texts_of,
)  # fmt: skip
from tests.apps.jobs.builders import Hand, failed, start, workspace

pytestmark = pytest.mark.django_db


@pytest.fixture
def home(tmp_path: Path) -> Any:
    return workspace(tmp_path, FLOW)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several frames, several volumes, several pieces."""
    monkeypatch.setattr(moving, "FRAME_BYTES", 600)
    monkeypatch.setattr(moving, "VOLUME_BYTES", 2_000)
    monkeypatch.setattr(cursors, "PIECE_BYTES", 700)


@pytest.fixture
def job(home: Any) -> Job:
    """Two steps that ran side by side, and a line of the server."""
    made = start(home)
    hand = Hand()
    claims = [hand.take(name) for name in ("build", "test")]
    for turn in range(5):
        for claim, word in zip(claims, ("b", "t"), strict=True):
            texts = [f"{word} {turn}", f"{word} {turn} ünï \u2028 \x1b[31m"]
            print_lines_once(claim, turn, texts)
    say(made.pk, "[server] hello", at=1.0)
    for claim in claims:
        hand.finish(claim)
    age(made)
    return made


def print_lines_once(claim: Any, turn: int, texts: list[str]) -> None:
    from apps.jobs import ledger
    from engine.orders import Line

    lines = [Line(1_700_000_000 + turn, "stdout", text) for text in texts]
    assert ledger.append(claim, turn + 1, lines)


def chain(client: APIClient, path: str) -> list[tuple[str, Any]]:
    """Every cursor on the way through a log, and what it brings."""
    found, after = [], "0"
    while True:
        said = get(client, f"{path}?after={after}")
        found.append((after, said))
        if not said["has_more"]:
            return found
        after = said["next"]


def streamed(job: Job, choice: Choice, last_id: int | None = None) -> list[str]:
    """What the page's stream has sent by the time it has caught up."""

    async def told() -> list[str]:
        ticket = live.Ticket("", job, choice)
        found = []
        async for text in live._told(ticket, last_id):
            found.append(text)
            if text.startswith("event: caught-up"):
                break
        return [one for one in found if "event: log" in one or "event: away" in one]

    return asyncio.run(told())


def downloaded(job: Job) -> str:
    async def told() -> str:
        first = await live.off_loop(tails.piece, job.pk, EVERYTHING, 0)
        return "".join([text async for text in live._text(live.Ticket("", job, None), first)])

    return asyncio.run(told())


def tail(job: Job, choice: Choice, lines: int) -> list[int]:
    start = tails.start_of_tail(job.pk, choice, lines)
    return [start > 0, *(chunk.id for chunk in tails.piece(job.pk, choice, start))]


def seen_by_all(job: Job, client: APIClient) -> dict[str, Any]:
    steps = dict(Step.objects.filter(job_id=job.pk).values_list("name", "pk"))
    path = f"/api/jobs/{job.pk}"
    of_test = Choice.of(Whose.STEP, steps["test"])
    return {
        "api": chain(client, f"{path}/logs"),
        "step": chain(client, f"{path}/steps/build/logs"),
        "server": chain(client, f"{path}/steps/_server/logs"),
        "news": get(client, f"{path}/news?after=0")["logs"],
        "console": Database().log([job.pk], "0", step="test"),
        "mcp": Toolbox(user(Role.VIEWER)).begin("get_job_logs", {"job_id": str(job.pk)}),
        "pieces": [one.id for one in tails.piece(job.pk, of_test, 0)],
        "chunk": tails.piece(job.pk, of_test, 0)[0],
        "tails": [tail(job, one, n) for one in (EVERYTHING, of_test) for n in range(1, 25)],
        "late": [tails.late(job.pk, EVERYTHING, one.id) for one in tails.piece(job.pk, EVERYTHING, 0)],
    }  # fmt: skip


def test_every_reader_sees_the_same_before_and_after(storage: Any, job: Job, small: None) -> None:
    client = caller(Role.VIEWER)
    before = seen_by_all(job, client)
    assert len(before["api"]) > 3

    assert move() == 21
    assert lines_here(job) == 0
    assert LogFrame.objects.count() > 3 and Blob.objects.count() > 1

    after = seen_by_all(job, client)
    # the same cursors, but for what they list beyond a settled place: there is nothing unsettled
    assert after == before


def test_a_reader_who_was_half_way_misses_nothing_and_reads_nothing_twice(
    directory: Path, job: Job, small: None
) -> None:
    client = caller(Role.VIEWER)
    pieces = chain(client, f"/api/jobs/{job.pk}/logs")
    whole = [text for _, said in pieces for text in texts_of(said["logs"])]
    assert move() == 21
    read = 0
    for after, said in pieces:
        rest, cursor, has_more = [], after, True
        while has_more:
            answer = get(client, f"/api/jobs/{job.pk}/logs?after={cursor}")
            rest += texts_of(answer["logs"])
            cursor, has_more = answer["next"], answer["has_more"]
        assert rest == whole[read:]
        read += len(texts_of(said["logs"]))


@pytest.mark.django_db(transaction=True)
def test_the_page_and_its_download_read_from_there(directory: Path, job: Job, small: None) -> None:
    step = Step.objects.get(job_id=job.pk, name="build")
    choices = (EVERYTHING, Choice.of(Whose.STEP, step.pk), Choice(Whose.SERVER))
    last = tails.piece(job.pk, EVERYTHING, 0)[4].id

    def seen() -> Any:
        streams = [streamed(job, one) for one in choices]
        return streams, streamed(job, EVERYTHING, last), downloaded(job)

    before = seen()
    assert len(before[0][0]) == 11 and "[build] b 0 ünï" in before[2]
    move()
    assert lines_here(job) == 0
    assert seen() == before


def test_only_frames_that_hold_wanted_lines_are_read(
    directory: Path, home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "FRAME_BYTES", 300)
    job, hand = start(home), Hand()
    for name in ("build", "test"):
        claim = hand.take(name)
        print_lines(claim, numbered(name, 20))
        hand.finish(claim)
    age(job)
    move()
    test = Step.objects.get(job_id=job.pk, name="test")
    frames = LogFrame.objects.filter(job_id=job.pk).order_by("first_id")
    damage(directory, frames.exclude(steps__contains=[test.pk]))
    client = caller(Role.VIEWER)
    said = get(client, f"/api/jobs/{job.pk}/steps/test/logs")
    assert texts_of(said["logs"]) == numbered("test", 20)
    last = tails.start_of_tail(job.pk, EVERYTHING, 10)
    assert len(tails.piece(job.pk, EVERYTHING, last)) == 5

    answer = client.get(f"/api/jobs/{job.pk}/logs")
    assert answer.status_code == 503
    assert "damaged in the storage" in error(answer)


def damage(directory: Path, frames: Any) -> None:
    for frame in frames:
        with open(directory / frame.blob.key, "r+b") as file:
            file.seek(frame.place + 2)
            file.write(b"\xff" * (frame.size_bytes - 2))


def test_lines_of_several_jobs_come_in_one_order(directory: Path, home: Any, small: None) -> None:
    """Their frames overlap, and half of them are in the database still."""
    hand, jobs, claims = Hand(), [start(home) for _ in range(4)], []
    for _ in jobs:
        claims += [hand.take("build")]
    for turn in range(12):
        for claim in claims:
            print_lines_once(claim, turn, [f"{turn} of {claim.job_id}"])
    hand.work()
    for claim in claims:
        hand.finish(claim)
    ids = [job.pk for job in jobs]

    def whole() -> list[Any]:
        found, cursor, has_more = [], Cursor(), True
        while has_more:
            piece = cursors.read(ids, cursor)
            found += piece.chunks
            cursor, has_more = piece.next, piece.has_more
        return found

    before = whole()
    assert len(before) == 48
    for job in jobs[:3]:
        age(job)
        move()
        assert lines_here(job) == 0
        assert whole() == before


def test_a_restarted_job_goes_on_in_the_database_after_what_has_moved(
    directory: Path, home: Any
) -> None:
    job, hand = start(home, "fails"), Hand()
    claim = hand.take("build")
    print_lines(claim, ["one", "two"])
    hand.finish(claim, failed())
    age(job)
    assert move() == 2
    restart_failed(job.pk)
    run(job, hand, build=["three"])
    client = caller(Role.VIEWER)
    said = get(client, f"/api/jobs/{job.pk}/logs")
    assert texts_of(said["logs"]) == ["one", "two", "three"]
    age(job)
    assert move() == 1 and lines_here(job) == 0
    assert texts_of(get(client, f"/api/jobs/{job.pk}/logs")["logs"]) == ["one", "two", "three"]


def test_what_has_just_ended_or_is_open_stays(directory: Path, home: Any) -> None:
    recent, hand = start(home), Hand()
    run(recent, hand, build=["a"], test=["b"])
    opened = start(home)
    print_lines(hand.take("build"), ["c"])
    age(opened)
    assert move() == 0
    assert lines_here(recent) == 2 and lines_here(opened) == 1


def test_a_batch_that_a_live_attempt_may_send_again_stays(directory: Path, job: Job) -> None:
    """After the end of its job an action may still run."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE jobs_attempt SET ended_at = NULL WHERE id = (SELECT max(attempt_id) FROM"
            " jobs_logchunk WHERE job_id = %s)",
            [job.pk],
        )
    assert move() == 0


def test_small_jobs_share_a_volume_of_their_workspace(
    directory: Path, home: Any, tmp_path: Path
) -> None:
    other = workspace(tmp_path, FLOW)
    hand = Hand()
    for one in (home, home, other, home):
        job = start(one, "fails")
        run(job, hand, build=["x"])
        age(job)
    assert move() == 4
    assert Blob.objects.count() == 2
    rows = LogFrame.objects.values_list("blob_id", "job_id")
    workspaces = dict(Job.objects.values_list("pk", "workspace_id"))
    assert len({(blob, workspaces[job_id]) for blob, job_id in rows}) == 2


@pytest.mark.django_db(transaction=True)
def test_lines_move_when_the_settings_say(directory: Path, job: Job, settings: Any) -> None:
    class Stop(threading.Event):
        """Set after one round."""

        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            self.set()
            return True

    waited: list[float | None] = []

    def run_with(**logs: Any) -> int:
        given = Logs(**{"archive": True, "interval_s": 7.0, **logs})
        settings.STROEM = replace(live_settings.STROEM, logs=given)
        rounds.run(Stop())
        return lines_here(job)

    assert run_with(archive=False) == 11
    assert run_with(archive_after_s=2 * 86_400.0) == 11
    assert run_with() == 0
    assert waited == [7.0] * 3


@pytest.mark.parametrize(
    ("text", "is_on"),
    [
        ("{}", False),
        ("storage: {path: /srv}", True),
        ("storage: {s3: {bucket: b}}", True),
        ("logs: {archive: true}", True),
        ("{storage: {path: /srv}, logs: {archive: false}}", False),
    ],
)
def test_lines_move_where_a_storage_is_named(tmp_path: Path, text: str, is_on: bool) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(text)
    assert config.given({"STROEM_CONFIG": str(file)}).archives_logs is is_on


def test_a_limit_without_effect_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("logs: {archive: false, workspaces: {a: {retain: 3d}}}")
    with pytest.raises(config.ConfigError, match="logs has limits of lines in the storage, but"):
        config.given({"STROEM_CONFIG": str(file)})


def test_all_jobs_come_to_their_turn(
    directory: Path, home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "JOBS_AT_ONCE", 2)
    jobs, hand = [start(home, "fails") for _ in range(5)], Hand()
    for job in jobs:
        run(job, hand, build=["x"])
        age(job)
    open_one = start(home, "fails")
    assert moving.move(0, lambda: True) == 5
    assert [lines_here(job) for job in jobs] == [0] * 5 and lines_here(open_one) == 0


# The storage is away


def test_without_the_storage_lines_stay_and_move_later(directory: Path, job: Job) -> None:
    away = directory.rename(directory.with_name("away"))
    blobs._mark_of_ours.cache_clear()
    assert move() == 0
    assert lines_here(job) == 11
    row = LogRound.objects.get()
    assert row.waiting == 1 and row.failing_since is not None
    assert "is not the storage of this installation" in row.error
    away.rename(directory)
    assert move() == 21
    row = LogRound.objects.get()
    assert (row.waiting, row.failing_since, row.error) == (0, None, "")


def test_doctor_and_metrics_say_how_it_stands(directory: Path, job: Job, settings: Any) -> None:
    def told() -> tuple[str, str]:
        (finding,) = health._logs()
        return finding.level, finding.sentence

    def metric(name: str) -> float:
        (line,) = [line for line in metrics.page().splitlines() if line.startswith(name)]
        return float(line.rpartition(" ")[2])

    assert told()[0] == "ok" and "name a storage under `storage`" in told()[1]
    settings.STROEM = replace(live_settings.STROEM, logs=Logs(retain=5.0))
    assert told()[0] == "warning" and "remove nothing" in told()[1]
    settings.STROEM = replace(live_settings.STROEM, logs=Logs(archive=True))
    away = directory.rename(directory.with_name("away"))
    blobs._mark_of_ours.cache_clear()
    move()
    assert told()[0] == "warning" and told()[1].endswith("wait in the database: 1")
    assert metric("stroem_log_archive_waiting_jobs{") == 1
    assert metric("stroem_log_archive_failing_seconds{") > 0
    away.rename(directory)
    move()
    assert told() == ("ok", "in the storage, of ended jobs: 21 lines, 0.0 MB (jobs: 1)")
    assert metric('stroem_log_archive{of="lines"') == 21
    assert metric("stroem_log_archive_failing_seconds{") == 0


@pytest.mark.django_db(transaction=True)
def test_readers_are_told_that_the_storage_is_away(directory: Path, job: Job) -> None:
    move()
    directory.rename(directory.with_name("away"))
    client = caller(Role.VIEWER)
    answer = client.get(f"/api/jobs/{job.pk}/logs")
    assert answer.status_code == 503
    told = "This log is in the storage and cannot be read now: the directory"
    assert error(answer).startswith(told)
    assert client.get(f"/api/jobs/{job.pk}/logs/search?q=b").status_code == 503
    found = Toolbox(user(Role.VIEWER)).begin("get_job_logs", {"job_id": str(job.pk)})
    assert found.is_error and found.text.startswith(told)  # type: ignore[union-attr]
    (event,) = streamed(job, EVERYTHING)
    assert event.startswith("event: away") and told in event
    with pytest.raises(LogsAway):
        Database().log([job.pk], "0")


# Nobody is doubled, nobody is lost


def test_lines_that_somebody_else_has_moved_are_not_moved_again(
    directory: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = blobs.put

    def late(stream: Any) -> Any:
        monkeypatch.setattr(blobs, "put", put)
        assert moving.move(0, lambda: True) == 21  # another scheduler, meanwhile
        stream.seek(0)
        return put(stream)

    monkeypatch.setattr(blobs, "put", late)
    assert move() == 0
    said = get(caller(Role.VIEWER), f"/api/jobs/{job.pk}/logs")
    assert len(texts_of(said["logs"])) == 21


def test_a_job_that_is_removed_meanwhile_leaves_no_rows(
    directory: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = blobs.put

    def late(stream: Any) -> Any:
        assert retention.remove_tree(job.pk, 0) == 1
        return put(stream)

    monkeypatch.setattr(blobs, "put", late)
    assert move() == 0
    assert not LogFrame.objects.exists() and not JobLog.objects.exists()


def test_a_line_that_moves_while_it_is_read_is_read_all_the_same(
    directory: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves after it was listed, before its text is asked for."""
    for module, read in (
        (cursors, lambda: len(cursors.read([job.pk], Cursor()).chunks)),
        (tails, lambda: len(tails.piece(job.pk, EVERYTHING, 0))),
    ):
        merged = module.merged

        def moves(*args: Any, merged: Any = merged, module: Any = module, **options: Any) -> Any:
            monkeypatch.setattr(module, "merged", merged)
            found = merged(*args, **options)
            assert move() == 21
            return found

        monkeypatch.setattr(module, "merged", moves)
        assert read() == 11
        assert lines_here(job) == 0
        back(job)


def back(job: Job) -> None:
    """Put the lines into the database again."""
    batches = tails.piece(job.pk, EVERYTHING, 0)
    LogFrame.objects.filter(job_id=job.pk).delete()
    with connection.cursor() as cursor:
        for one in batches:
            cursor.execute(
                "INSERT INTO jobs_logchunk (day, attempt_id, seq, id, job_id, step_id, lines,"
                " line_count, at) VALUES (current_date, %s, %s, %s, %s, %s, %s, %s, now() -"
                " interval '1 day')",
                [
                    one.attempt_id,
                    one.id,
                    one.id,
                    job.pk,
                    one.step_id,
                    one.lines,
                    one.lines.count("\n"),
                ],
            )


def test_one_scheduler_at_a_time_moves_lines(directory: Path, job: Job) -> None:
    one, other = uuid4(), uuid4()
    assert rounds._take_turn(one) and rounds._take_turn(one)
    assert rounds.go_round(other) == 0 and lines_here(job) == 11
    rounds.go_round(one)
    assert lines_here(job) == 0 and rounds._take_turn(other)


def test_a_frame_says_itself_what_is_in_it() -> None:
    at = packing._EPOCH.replace(year=2026, microsecond=123456)
    batches = [
        Batch(number, UUID(int=5), step, 7, 1, len(text.encode()), at, text)
        for number, step, text in ((3, 9, '{"line": "ä"}\n'), (4, None, '{"line": "b"}\n'))
    ]
    content, frame = packing.pack(batches)
    assert list(packing.unpack(content, frame.raw_bytes, lambda *_: True)) == batches
    assert (frame.steps, frame.attempts, frame.lines) == ([9, 0], [7, 7], [1, 1])
    with pytest.raises(LogsAway, match="damaged"):
        list(packing.unpack(content, frame.raw_bytes - 1, lambda *_: True))
