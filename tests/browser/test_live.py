"""Streams: immediate, complete, without holding a database connection or delaying a server
shutdown."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from apps.accounts.models import User
from apps.jobs.models import Job
from tests.apps.jobs.builders import until
from tests.browser.stage import Stage, free_port

INSERT = (
    "INSERT INTO jobs_logchunk (day, attempt_id, seq, job_id, lines, line_count)"
    " VALUES (current_date, 77, nextval('jobs_logchunk_id_seq'), %s, %s, 1) RETURNING id"
)


def said(text: str) -> str:
    return (
        json.dumps(
            {"ts": "2026-01-01T00:00:00.000Z", "stream": "stdout", "step": "x", "line": text}
        )
        + "\n"
    )


def say(job: Job, text: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(INSERT, [job.pk, said(text)])
        return int(cursor.fetchone()[0])


@contextmanager
def other_transaction() -> Iterator[psycopg.Connection[Any]]:
    params = connection.get_connection_params()
    link = psycopg.connect(
        **{
            key: value
            for key, value in params.items()
            if key in ("dbname", "user", "password", "host", "port")
        }
    )
    try:
        yield link
    finally:
        link.close()


class Stream:
    """A reader of Server-Sent Events."""

    def __init__(
        self,
        stage: Stage,
        job: Job,
        user: User,
        *,
        port: int = 0,
        last_id: int | None = None,
        cookie: Any = None,
    ) -> None:
        self.link = http.client.HTTPConnection("127.0.0.1", port or stage.port, timeout=60)
        cookie = cookie or stage.cookie(user)
        headers = {"Cookie": f"{cookie['name']}={cookie['value']}"}
        if last_id is not None:
            headers["Last-Event-ID"] = str(last_id)
        self.link.request("GET", f"/admin/jobs/{job.pk}/live/?log=all", headers=headers)
        self.answer = self.link.getresponse()
        assert self.answer.status == 200
        assert self.answer.headers["X-Accel-Buffering"] == "no"

    def event(self) -> tuple[str, dict[str, Any], int | None]:
        """The next event: its name, data and id."""
        name, data, number = "", "", None
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            if not line and name:
                return name, json.loads(data or "{}"), number
            key, _, value = line.partition(": ")
            match key:
                case "event":
                    name = value
                case "data":
                    data = value
                case "id":
                    number = int(value)

    def until(self, wanted: str) -> list[str]:
        """The lines up to an event of this name, or up to this line."""
        lines: list[str] = []
        while True:
            name, data, _ = self.event()
            if name == "log":
                lines += [record["line"] for record in data["lines"] if record["step"] != "_server"]
            if name == wanted or wanted in lines:
                return lines

    def close(self) -> None:
        self.answer.close()
        self.link.close()


@pytest.fixture
def job(stage: Stage) -> Job:
    """A job that waits for a decision, so that only the test writes to its log."""
    started = stage.start("ask")
    stage.until_step(started, "ask", "suspended")
    return started


def test_what_is_there_comes_first_and_a_new_line_within_a_second(stage: Stage, job: Job) -> None:
    say(job, "before")
    stream = Stream(stage, job, stage.vera)
    assert stream.until("caught-up") == ["before"]
    began = time.monotonic()
    say(job, "now")
    assert stream.until("now") == ["now"]
    assert time.monotonic() - began < 1
    stream.close()


def test_only_readers_of_a_cut_log_are_told_so(stage: Stage, job: Job) -> None:
    def names() -> list[str]:
        stream = Stream(stage, job, stage.vera)
        found = [stream.event()[0]]
        while found[-1] != "caught-up":
            found.append(stream.event()[0])
        stream.close()
        return found

    say(job, "first")
    assert "cut" not in names()
    with connection.cursor() as cursor:
        for _ in range(3):
            say(job, "more")
        cursor.execute(
            "UPDATE jobs_logchunk SET line_count = 5000 WHERE job_id = %s AND attempt_id = 77",
            [job.pk],
        )
    assert names()[:2] == ["state", "cut"]


def test_a_change_of_the_job_arrives(stage: Stage, job: Job) -> None:
    from apps.jobs import services

    stream = Stream(stage, job, stage.vera)
    name, data, _ = stream.event()
    assert (name, data["job"]["status"]) == ("state", "running")
    stream.until("caught-up")
    services.cancel_job(job.pk, actor="test")
    name, data, _ = stream.event()
    while data["job"]["status"] != "cancelled":
        name, data, _ = stream.event()
    assert {step["name"]: step["status"] for step in data["steps"]}["ask"] == "cancelled"
    stream.close()


def test_a_stream_of_a_job_that_is_long_over_ends_by_itself(stage: Stage, job: Job) -> None:
    from apps.jobs import services

    say(job, "all there is")
    services.cancel_job(job.pk, actor="test")
    Job.objects.filter(pk=job.pk).update(completed_at=timezone.now() - timedelta(minutes=1))
    stream = Stream(stage, job, stage.vera)
    assert stream.until("bye") == ["all there is"]
    stream.close()


def test_a_reader_that_comes_back_misses_nothing(stage: Stage, job: Job) -> None:
    say(job, "one")
    two = say(job, "two")
    say(job, "three")
    stream = Stream(stage, job, stage.vera, last_id=two)
    seen = stream.until("caught-up")
    assert seen[-1] == "three"
    # lines that may have been committed late come again, under their own id
    assert set(seen) <= {"one", "two", "three"}
    stream.close()


def test_what_is_committed_late_is_not_skipped(stage: Stage, job: Job) -> None:
    """Its id is lower than one already read: assigned before, committed after."""
    stream = Stream(stage, job, stage.vera)
    stream.until("caught-up")
    with other_transaction() as late:
        late.execute(INSERT, [job.pk, said("late")])
        seen = say(job, "early")
        assert stream.until("early") == ["early"]
        back = Stream(stage, job, stage.vera)
        assert back.until("caught-up") == ["early"]
        back.close()
        late.commit()
    assert stream.until("late") == ["late"]
    again = Stream(stage, job, stage.vera, last_id=seen)
    assert "late" in again.until("caught-up")
    again.close()
    stream.close()


def test_every_reader_sees_every_line_once_and_none_holds_a_connection(
    stage: Stage, job: Job
) -> None:
    before = connection_count()
    streams = [Stream(stage, job, stage.vera) for _ in range(30)]
    for stream in streams:
        stream.until("caught-up")
    lines = [f"line {number}" for number in range(200)]
    for line in lines:
        say(job, line)
    for stream in streams:
        assert stream.until(lines[-1]) == lines
    assert connection_count() - before < len(streams) / 2
    for stream in streams:
        stream.close()


def connection_count() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def test_a_step_that_prints_is_seen_by_all_in_the_order_of_printing(stage: Stage) -> None:
    job = stage.start("long")
    streams = [Stream(stage, job, stage.vera) for _ in range(3)]
    for stream in streams:
        lines = [line for line in stream.until("tick 15") if line.startswith("tick")]
        assert lines[:15] == [f"tick {number}" for number in range(1, 16)]
        stream.close()
    from apps.jobs import services

    services.cancel_job(job.pk, actor="test")


def test_who_loses_the_right_or_the_session_loses_the_stream(stage: Stage, job: Job) -> None:
    from apps.accounts.models import Role, WorkspaceGrant
    from apps.jobs.pages.live import Ticket, _may_still

    person = stage.person("guest@example.org", Role.VIEWER)
    full = Job.objects.select_related("workspace").get(pk=job.pk)
    ticket = Ticket(stage.cookie(person)["value"], full, None)
    assert _may_still(ticket)
    WorkspaceGrant.objects.filter(user=person).delete()
    assert not _may_still(ticket)
    WorkspaceGrant.objects.create(user=person, role=Role.VIEWER, pattern="*")
    assert _may_still(ticket)
    person.set_password("another-password-9")
    person.save()
    assert not _may_still(ticket)


def test_the_server_ends_within_five_seconds_with_streams_open(stage: Stage, job: Job) -> None:
    port = free_port()
    server = stage.house.start("server", "--port", str(port), name="second")

    def answers() -> bool:
        try:
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            link.request("GET", "/admin/login/")
            return link.getresponse().status == 200
        except OSError:
            return False

    until(answers, within_s=30)
    streams = [Stream(stage, job, stage.vera, port=port) for _ in range(20)]
    for stream in streams:
        stream.until("caught-up")
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    server.wait(10)
    assert time.monotonic() - began < 5
    for stream in streams:
        stream.close()
