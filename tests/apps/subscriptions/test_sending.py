"""Each message arrives once, signed, whatever the receiver does; and its receiver harms nobody."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.models.functions import Now
from django.test import Client

from apps.jobs.models import Job
from apps.subscriptions import rounds, sending, services, transitions
from apps.subscriptions.models import Delivery, Subscription
from apps.subscriptions.services import Wanted
from apps.subscriptions.values import WAITS_S
from apps.workspaces.models import Workspace
from apps.workspaces.secrets import store_secret
from engine.errors import Conflict, NotFound
from tests.apps.jobs.builders import Hand, start, until, workspace
from tests.apps.subscriptions.receiver import (
    Receiver,
    fresh,
    let_time_pass,
    receiving,
    send,
    subscribe,
    waits_s,
)
from tests.house import ROOT

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
tasks:
  main: {flow: {a: {type: script, script: "true"}}}
  told: {flow: {a: {type: script, script: "true"}}}
triggers:
  hears: {type: webhook, name: hears, task: told, verify: standard, secret: "{{ secret.hears }}"}
"""


@pytest.fixture(name="shop")
def workspace_of_tests(tmp_path: Path) -> Workspace:
    return workspace(tmp_path, FLOW, "shop")


@pytest.fixture(name="told")
def subscription_of_tests(shop: Workspace, receiver: Receiver) -> tuple[Subscription, str]:
    return subscribe(shop, receiver.url)


def end_jobs(shop: Workspace, count: int = 1) -> None:
    for _ in range(count):
        start(shop)
    Hand().work()


def states() -> list[tuple[str, int]]:
    return list(Delivery.objects.order_by("id").values_list("status", "tries"))


Told = tuple[Subscription, str]


def test_a_message_arrives_signed_and_is_noted(
    shop: Workspace, told: Told, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    row, secret = told
    end_jobs(shop)
    assert send() == 1
    (message,) = receiver.got
    delivery = Delivery.objects.get()
    assert message.headers["webhook-id"] == delivery.message_id
    assert message.headers["content-type"] == "application/json"
    assert receiver.proves(secret) and not receiver.proves("whsec_" + "A" * 44)
    assert receiver.types == ["job.completed"] and message.body.decode() == delivery.body
    assert (delivery.status, delivery.tries, delivery.answer, delivery.error) == (
        "delivered", 1, 200, "",
    )  # fmt: skip
    assert (fresh(row).failures, services.state_of(fresh(row))) == (0, "live")
    assert send() == 0 and len(receiver.got) == 1
    kept = repr([list(Delivery.objects.values()), list(Subscription.objects.values())])
    assert secret.removeprefix("whsec_") not in kept + caplog.text


def test_stroem_understands_what_it_sends(shop: Workspace, told: Told, receiver: Receiver) -> None:
    store_secret(shop, "hears", told[1], by="x")
    end_jobs(shop)
    send()
    (message,) = receiver.got
    named = {
        f"HTTP_{key.upper().replace('-', '_')}": value for key, value in message.headers.items()
    }
    for body, status in ((message.body, 200), (message.body + b" ", 401)):
        answer = Client().post("/hooks/shop/hears", body, content_type="application/json", **named)
        assert answer.status_code == status, answer.content
    job = Job.objects.get(task_name="told")
    assert job.input["body"]["type"] == "job.completed"


def test_a_failing_receiver_is_tried_again_later_and_later_then_given_up(
    shop: Workspace, told: Told, receiver: Receiver
) -> None:
    row, _ = told
    receiver.answers = [500]
    end_jobs(shop)
    for number, planned in enumerate(WAITS_S, 1):
        assert send() == 0 and states() == [("waiting", number)]
        assert planned * 0.8 - 1 <= waits_s(Delivery.objects.get()) <= planned * 1.2 + 1
        assert send() == 0 and len(receiver.got) == number  # not before
        let_time_pass()
    send()
    assert states() == [("failed", len(WAITS_S) + 1)]
    found = Delivery.objects.get()
    assert (found.answer, found.error) == (500, "the receiver answered 500")
    assert len({one.headers["webhook-id"] for one in receiver.got}) == 1
    assert fresh(row).failures == 7 and services.state_of(fresh(row)) == "failing"
    assert list(services.troubles()) == [
        ("shop/chat", "7 tries failed in a row: the receiver answered 500")
    ]
    receiver.answers = [204]
    end_jobs(shop)
    let_time_pass()
    assert send() == 1
    assert fresh(row).failures == 0 and not list(services.troubles())


@pytest.mark.parametrize("asked", ["7200", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_receiver_may_ask_for_more_time(
    shop: Workspace, told: Told, receiver: Receiver, asked: str
) -> None:
    receiver.answers, receiver.headers = [429], {"Retry-After": asked}
    end_jobs(shop, 2)
    send()
    tried = Delivery.objects.get(tries=1)
    wanted = 7200 if asked == "7200" else 8 * 3600
    assert abs(waits_s(tried) - wanted) < 2
    assert len(receiver.got) == 1  # the other message waits as well
    assert Subscription.objects.filter(rest_until__gt=Now() + timedelta(minutes=59)).exists()


def test_a_receiver_that_is_gone_pauses_its_subscription(
    shop: Workspace, told: Told, receiver: Receiver
) -> None:
    row, _ = told
    receiver.answers = [410]
    end_jobs(shop)
    send()
    assert states() == [("failed", 1)]
    row = fresh(row)
    assert row.paused_at is not None and "410" in row.paused_because
    assert row.workspace.announced == ""
    assert list(services.troubles()) == [
        ("shop/chat", "paused: The receiver answered 410: it wants no more messages")
    ]
    end_jobs(shop)
    assert len(receiver.got) == 1 and len(states()) == 1
    receiver.answers = [200]
    services.resume(row, by="ada")
    end_jobs(shop)
    assert send() == 1 and not list(services.troubles())


def test_a_redirect_is_not_followed(shop: Workspace, told: Told, receiver: Receiver) -> None:
    with receiving() as trap:
        receiver.answers, receiver.headers = [307], {"Location": trap.url}
        end_jobs(shop)
        send()
        assert len(receiver.got) == 1 and trap.got == []
    found = Delivery.objects.get()
    assert found.error == "the receiver answered 307, a redirect, which is not followed"
    assert states() == [("waiting", 1)]


def test_nobody_there_is_a_sentence(shop: Workspace, told: Told, receiver: Receiver) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    services.change(told[0], Wanted(url, ["job.completed"]), is_paused=False, by="ada")
    end_jobs(shop)
    send()
    assert Delivery.objects.get().error == "the connection failed: Connection refused"


@pytest.fixture
def raw() -> Iterator[tuple[int, list[bytes]]]:
    """A server that says the given bytes, one after the other, and never ends."""
    words: list[bytes] = []
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                with line:
                    try:
                        while not stop.wait(0.02):
                            line.sendall(words.pop(0) if len(words) > 1 else words[0])
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], words
        stop.set()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("words", "told_as"),
    [
        ([b"HTTP/1.1 200 OK\r\nx"], "no answer within 0.4 s"),  # never ends its head
        ([b"h"], "no answer within 0.4 s"),
        ([b"x" * 70_000], "the head of the answer has more than 65,536 bytes"),
        ([b"SSH-2.0\r\n\r\n"], "the answer is not HTTP"),
        ([b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"], ""),
        ([b"HTTP/1.1 204 No\r\n\r\n", b"body without an end"], ""),
    ],
)
def test_no_answer_takes_longer_than_its_time_out(
    shop: Workspace,
    told: Told,
    raw: tuple[int, list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    words: list[bytes],
    told_as: str,
) -> None:
    monkeypatch.setattr(sending, "TIMEOUT_S", 0.4)
    port, said = raw
    said += words
    url = f"http://127.0.0.1:{port}/"
    services.change(told[0], Wanted(url, ["job.completed"]), is_paused=False, by="ada")
    end_jobs(shop)
    send()
    found = Delivery.objects.get()
    assert found.error == told_as
    assert found.status == ("waiting" if told_as else "delivered")


def in_threads(count: int, stop: threading.Event) -> list[threading.Thread]:
    """Schedulers, as far as subscriptions are concerned."""

    def run() -> None:
        try:
            rounds.run(stop)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_a_receiver_that_hangs_keeps_no_other_waiting(
    shop: Workspace, told: Told, receiver: Receiver
) -> None:
    receiver.hangs = threading.Event()
    stop = threading.Event()
    with receiving() as other:
        subscribe(shop, other.url, name="other")
        end_jobs(shop, 3)
        threads = in_threads(1, stop)
        try:
            until(lambda: len(other.got) == 3)
            assert len(receiver.got) == 1 and not receiver.hangs.is_set()
        finally:
            receiver.hangs.set()
            until(lambda: len(receiver.got) == 3)
            until(lambda: not Delivery.objects.exclude(status="delivered").exists())
            stop.set()
            for thread in threads:
                thread.join(10)


def test_two_schedulers_send_each_message_once(
    shop: Workspace, told: Told, receiver: Receiver
) -> None:
    for number in range(5):
        subscribe(shop, receiver.url, name=f"more-{number}")
    end_jobs(shop, 20)
    stop = threading.Event()
    threads = in_threads(2, stop)
    try:
        until(lambda: not Delivery.objects.exclude(status="delivered").exists(), 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    ids = [one.headers["webhook-id"] for one in receiver.got]
    assert len(ids) == len(set(ids)) == 120


@pytest.mark.long
def test_a_scheduler_that_dies_between_sending_and_noting_sends_again_under_the_same_id(
    shop: Workspace, told: Told, receiver: Receiver, process_env: dict[str, str]
) -> None:
    receiver.hangs = threading.Event()  # so it cannot note anything
    end_jobs(shop)
    env = {
        **process_env,
        "STROEM__SUBSCRIPTIONS__PRIVATE_NETWORKS": "127.0.0.0/8",
        "STROEM__SUBSCRIPTIONS__ALLOW_HTTP": "true",
    }
    program = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "scheduler"],
        env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: receiver.got, 60)
    finally:
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
    receiver.hangs.set()
    assert states() == [("waiting", 0)]
    assert send() == 0  # its lease is not over
    Subscription.objects.update(busy_until=Now())
    assert send() == 1 and states() == [("delivered", 1)]
    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_who_lost_its_turn_does_not_end_that_of_another(
    shop: Workspace, told: Told, receiver: Receiver
) -> None:
    end_jobs(shop)
    late = transitions.take(60)
    assert late is not None and transitions.take(60) is None
    Subscription.objects.update(busy_until=Now())
    current = transitions.take(60)
    assert current is not None
    transitions.release(late, 5, "late", None)
    assert fresh(told[0]).failures == 0 and transitions.take(60) is None


def test_a_new_secret_signs_beside_the_old_one_for_a_while(
    shop: Workspace, told: Told, receiver: Receiver
) -> None:
    row, old = told
    new = services.rotate(row, by="ada")
    end_jobs(shop)
    send()
    assert receiver.proves(old) and receiver.proves(new) and old != new
    Subscription.objects.update(previous_until=Now())
    end_jobs(shop)
    send()
    assert receiver.proves(new) and not receiver.proves(old)


def test_a_message_can_be_sent_again_under_its_id(
    shop: Workspace, told: Told, receiver: Receiver
) -> None:
    row, _ = told
    end_jobs(shop)
    first = Delivery.objects.get()
    with pytest.raises(Conflict, match="still tried"):
        services.send_again(row, str(first.pk))
    send()
    again = services.send_again(row, str(first.pk))
    assert again.pk != first.pk and again.message == first.message
    assert send() == 1 and receiver.got[0].body == receiver.got[1].body
    for unknown in ("0", "x", "9" * 30, "²"):
        with pytest.raises(NotFound):
            services.send_again(row, unknown)
    services.pause(row, by="ada")
    with pytest.raises(Conflict, match="paused"):
        services.send_again(fresh(row), str(first.pk))


def test_a_pause_counts_at_once(
    shop: Workspace, told: Told, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, _ = told
    end_jobs(shop, 3)
    take = receiver.take

    def pause_after(message: Any) -> int:
        if not receiver.got:
            services.pause(row, by="ada")
            connections.close_all()  # of the receiver's thread
        return take(message)

    monkeypatch.setattr(receiver, "take", pause_after)
    assert send() == 1 and len(receiver.got) == 1
    services.resume(fresh(row), by="ada")
    assert send() == 2


def test_a_ping_does_not_wait_for_a_rest(shop: Workspace, told: Told, receiver: Receiver) -> None:
    row, _ = told
    receiver.answers = [500, 200]
    end_jobs(shop)
    send()
    services.ping(row, by="ada@example.org")
    assert send() == 1 and receiver.types == ["job.completed", "ping"]
    assert receiver.bodies[1]["data"] == {
        "workspace": "shop", "subscription": "chat", "by": "ada@example.org",
    }  # fmt: skip


def test_only_the_last_messages_are_kept(
    shop: Workspace, told: Told, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transitions, "KEPT", 3)
    receiver.answers = [410]
    end_jobs(shop)
    send()
    services.resume(fresh(told[0]), by="ada")
    receiver.answers = [200]
    end_jobs(shop, 5)
    newest = list(Delivery.objects.order_by("-id").values_list("id", flat=True)[:3])
    assert send() == 5
    assert set(newest) == set(
        Delivery.objects.filter(status="delivered").values_list("id", flat=True)
    )
    assert Delivery.objects.filter(status="failed").count() == 1
    Delivery.objects.update(created_at=Now() - timedelta(days=31))
    transitions.forget_old()
    assert not Delivery.objects.exists()


def test_what_waits_too_long_is_given_up_and_says_so(
    shop: Workspace, told: Told, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers = [503]
    end_jobs(shop, 4)
    send()
    oldest = Delivery.objects.get(tries=1)
    Delivery.objects.filter(pk=oldest.pk).update(created_at=Now() - timedelta(hours=25))
    monkeypatch.setattr(transitions, "MOST_WAITING", 2)
    transitions.give_up_old()
    assert [status for status, _ in states()] == ["failed", "failed", "waiting", "waiting"]
    oldest.refresh_from_db()
    assert oldest.error.startswith("the receiver answered 503; given up after 24 hours")


def test_messages_of_a_deleted_subscription_go(
    shop: Workspace, told: Told, receiver: Receiver
) -> None:
    end_jobs(shop)
    (left,) = Delivery.objects.all()
    services.remove(told[0], by="ada")
    left.pk = None
    left.save(force_insert=True)  # a job ended at the same moment
    assert send() == 0
    transitions.forget_old()
    assert not Delivery.objects.exists() and receiver.got == []


def test_a_body_is_one_text_for_all_tries(shop: Workspace, told: Told, receiver: Receiver) -> None:
    receiver.answers = [500, 200]
    end_jobs(shop)
    send()
    let_time_pass()
    send()
    first, second = receiver.got
    assert first.body == second.body and json.loads(first.body)["type"] == "job.completed"
    said: dict[str, Any] = {**first.headers}
    assert said["webhook-id"] == second.headers["webhook-id"]
