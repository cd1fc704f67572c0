"""Bells: hints that cost the ringer next to nothing, whatever the broker does."""

from __future__ import annotations

import json
import socket
import time

import pytest

from apps.jobs import bells
from stroem_project.celery import app as publishing


@pytest.fixture
def ringer(monkeypatch):
    """A ringer of this test's own."""
    fresh = bells._Ringer()
    monkeypatch.setattr(bells, "_ringer", fresh)
    yield fresh
    fresh._drop()


@pytest.fixture
def broker_at(monkeypatch):
    """Points the app at a broker URL for the length of a test."""

    def point(url: str) -> None:
        monkeypatch.setattr(publishing.conf, "broker_url", url)

    return point


def waiting(client, key: str) -> list[dict]:
    return [json.loads(raw) for raw in client.lrange("stroem:" + bells.queue_name(key), 0, -1)]


def test_a_bell_is_one_message_that_names_the_tag_set_and_nothing_else(broker_client, ringer):
    assert bells.ring({"docker+gpu": 2, "script": 1, "none": 0}) == 3
    messages = waiting(broker_client, "docker+gpu")
    assert len(messages) == 2
    assert messages[0]["headers"]["task"] == "workers.tasks.look"
    assert "docker+gpu" in json.dumps(current_body(messages[0]))
    assert len(waiting(broker_client, "script")) == 1
    assert waiting(broker_client, "none") == []


def current_body(message: dict):
    import base64

    return json.loads(base64.b64decode(message["body"]))[0]


def test_bells_that_nobody_hears_do_not_pile_up(broker_client, ringer):
    bells.ring({"arm": 1000})
    bells.ring({"arm": 1000})
    assert len(waiting(broker_client, "arm")) == bells.MAX_WAITING


def test_ringing_goes_on_after_the_broker_was_flushed(broker_client, ringer):
    bells.ring({"script": 1})
    broker_client.flushall()
    assert bells.ring({"script": 1}) == 1
    assert len(waiting(broker_client, "script")) == 1


def test_ringing_goes_on_after_the_connection_was_cut(broker_client, ringer):
    bells.ring({"script": 1})
    broker_client.client_kill_filter(_type="normal", skipme=True)
    assert bells.ring({"script": 2}) == 1
    assert len(waiting(broker_client, "script")) == 2


def test_a_bell_that_still_hangs_in_its_queue_is_not_rung_again(broker_client, ringer):
    assert [bells.ring({"script": count}) for count in (1, 1, 3)] == [1, 0, 2]
    assert len(waiting(broker_client, "script")) == 3


def test_a_broker_that_refuses_costs_no_time_and_is_counted(ringer, broker_at):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        broker_at(f"redis://127.0.0.1:{taken.getsockname()[1]}/0")
        began = time.monotonic()
        assert bells.ring({"script": 3}) == 0
        assert time.monotonic() - began < 0.5
    assert bells.counts() == {"rung": 0, "failed": 3}


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_swallows_packets_costs_one_budget_and_then_nothing_for_a_moment(
    ringer, broker_at, scheme
):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # accepts, never answers
        broker_at(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/")
        began = time.monotonic()
        assert bells.ring({"script": 1}) == 0
        first = time.monotonic() - began
        assert bells.ring({"script": 1}) == 0
        assert first < 0.9 and time.monotonic() - began - first < 0.05
    assert bells.counts()["failed"] == 2


def test_queue_names_of_long_tag_sets_stay_within_what_brokers_take():
    long = "+".join(f"tag-{n:03}" for n in range(60))
    assert len(bells.queue_name(long).encode()) <= 255
    assert bells.queue_name(long) != bells.queue_name(long + "x")
    assert bells.queue_name("docker+gpu") == "steps.docker+gpu"
