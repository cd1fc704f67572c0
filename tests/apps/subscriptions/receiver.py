"""A receiver that answers as it is told, subscriptions to it, and turns by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F
from django.db.models.functions import Now

from apps.subscriptions import rounds, services, transitions
from apps.subscriptions.models import Delivery, Subscription
from apps.subscriptions.services import Wanted
from apps.workspaces.models import Workspace
from engine import webhooks
from engine.webhooks import Received
from stroem_project.config import Subscriptions

LOCAL = Subscriptions((ip_network("127.0.0.0/8"),), allow_http=True)


@dataclass
class Receiver:
    """`answers`: statuses, the last one for all that follow; `headers` go with each."""

    answers: list[int] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict)
    got: list[Received] = field(default_factory=list)
    hangs: threading.Event | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?x=1"

    def take(self, message: Received) -> int:
        self.got.append(message)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(one.body) for one in self.got]

    @property
    def types(self) -> list[str]:
        return [body["type"] for body in self.bodies]

    def proves(self, secret: str) -> bool:
        """Whether the last message is signed with this secret."""
        last = self.got[-1]
        now = float(last.headers["webhook-timestamp"])
        try:
            webhooks.verify("standard", secret, last, now)
        except webhooks.NotVerified:
            return False
        return True


@contextmanager
def receiving(host: str = "127.0.0.1") -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.take(Received("POST", headers, {}, body))
            if receiver.hangs is not None:
                receiver.hangs.wait(30)
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        if receiver.hangs is not None:
            receiver.hangs.set()
        server.shutdown()
        server.server_close()


def allow(monkeypatch: pytest.MonkeyPatch, rules: Subscriptions = LOCAL) -> None:
    monkeypatch.setattr(settings, "STROEM", changed(settings.STROEM, subscriptions=rules))


def subscribe(
    workspace: Workspace, url: str, *events: str, name: str = "chat", with_output: bool = False
) -> tuple[Subscription, str]:
    wanted = Wanted(url, events or ("job.completed",), with_output)
    return services.create(workspace, name, wanted, by="ada@example.org")


def send() -> int:
    """One turn after the other, until nothing is due; returns how many messages were taken."""
    done = 0
    while (turn := transitions.take(rounds.LEASE_S)) is not None:
        done += rounds.send(turn, threading.Event())
    return done


def let_time_pass() -> None:
    """All that waits is due, and nobody rests."""
    Delivery.objects.exclude(next_at=None).update(next_at=Now())
    Subscription.objects.update(rest_until=None)


def fresh(row: Subscription) -> Subscription:
    return Subscription.objects.select_related("workspace").get(pk=row.pk)


def waits_s(delivery: Delivery) -> float:
    """Seconds from the last try to the next one."""
    rows = Delivery.objects.filter(pk=delivery.pk)
    found = rows.annotate(wait=F("next_at") - F("tried_at")).values_list("wait", flat=True).get()
    return float(found.total_seconds())
