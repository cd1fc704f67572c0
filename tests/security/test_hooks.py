"""Hostile requests to webhooks: no answer is an error of ours, nothing starts without the right
signature, and no secret is kept or logged."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import random
import string
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from apps.jobs.models import Job
from apps.triggers.models import Delivery, Firing
from tests.apps.jobs.builders import workspace

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "canary-4711-hook"
KINDS = ("bearer", "github", "gitlab", "stripe", "standard")
FLOW = (
    """
secrets: {hook: canary-4711-hook}
tasks:
  main:
    input: {n: {type: integer}}
    flow: {a: {type: script, script: "true"}}
triggers:
"""
    + "".join(
        f"  {kind}: {{type: webhook, name: {kind}, task: main, verify: {kind},"
        ' secret: "{{ secret.hook }}", filter: "{{ body.n is defined }}",'
        ' input: {n: "{{ body.n }}"}}\n'
        for kind in KINDS
    )
    + "  open: {type: webhook, name: open, task: main, verify: none, allow_get: true,"
    ' filter: "{{ body.n > 3 }}", input: {n: "{{ body.deep.n }}"}}\n'
)
ODD = (
    "\x00",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "😀",
    "{{ secret.hook }}",
    "%00",
    "../..",
    "'; --",
    "a" * 3000,
)
NAMES = (
    "authorization", "x-hub-signature-256", "x-gitlab-token", "stripe-signature",
    "webhook-signature", "webhook-id", "webhook-timestamp", "x-github-delivery", "cookie",
    "idempotency-key", "content-type", "x-gitlab-event-uuid", "x-forwarded-for", "x-odd",
)  # fmt: skip


class Sender:
    """Makes requests that look right and are not."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def value(self, body: bytes) -> str:
        dice = self.dice
        wrong = "canary-4712-" + "".join(dice.choices(string.ascii_letters, k=4))
        digest = hmac.new(wrong.encode(), body, hashlib.sha256).hexdigest()
        return dice.choice(
            (
                *ODD, "", "Bearer", f"Bearer {wrong}", f"bearer {SECRET[:-1]}", f"Basic {wrong}",
                f"sha256={digest}", f"sha1={digest}", "sha256=", digest[:10], digest.upper(),
                f"t=1,v1={digest}", "t=x,v1=", "t=99999999999999999999,v1=a", "t=,,,=",
                f"v1,{digest}", "v1,!!!", "v1 v1 v1", "v1," * 500, "1e400", "-1", "nan",
                "application/json; charset=klingon", "multipart/form-data", "text/plain; charset=utf-16",
            )
        )  # fmt: skip

    def body(self) -> bytes:
        dice = self.dice
        return dice.choice(
            (
                b"", b"{", b"[" * 5000, b'{"n": NaN}', b'{"n": 1e999}', b'{"n": "\\ud800"}',
                b'{"n": "\\u0000"}', b"\xff\xfe\x00", b"null", b"[]", b'"x"', b"5",
                b'{"n": 99999999999999999999999}', b'{"n": {"__proto__": 1}}', b'{"deep": 5, "n": 9}',
                json.dumps({"n": "{{ secret.hook }}"}).encode(), dice.randbytes(200),
                b"a=b&c=%00", b'{"n": 4, "n": 5}', b"x" * 200_000,
            )
        )  # fmt: skip

    def send(self, client: Client) -> Any:
        dice, body = self.dice, self.body()
        names = dice.sample(NAMES, dice.randint(0, 5))
        headers = {
            # as a server reads the bytes of a header
            f"HTTP_{name.upper().replace('-', '_')}": self.value(body).encode().decode("latin-1")
            for name in names
        }
        kind = headers.pop("HTTP_CONTENT_TYPE", dice.choice(("application/json", "text/plain", "")))
        place = dice.choice((*KINDS * 6, "open", "nobody", "%00", "a" * 300, "..", "😀"))
        path = dice.choice(("/hooks/{}", "/hooks/shop/{}", "/hooks/none/{}", "/hooks/{}/jobs/x"))
        path = path.format(place) + dice.choice(
            ("", "", "?secret=x", "?a=%00&a=%ff", "?wait=true&timeout=x")
        )
        method = dice.choice(("POST",) * 20 + ("GET", "PUT", "HEAD", "DELETE", "OPTIONS"))
        return client.generic(method, path, body, content_type=kind, **headers)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_hostile_requests_break_nothing_start_nothing_and_leave_no_secret(
    tmp_path: Path, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    workspace(tmp_path, FLOW, "shop")
    caplog.set_level(logging.DEBUG)
    sender, client = Sender(4711), Client(raise_request_exception=False)
    statuses: dict[int, int] = {}
    for number in range(count):
        answer = sender.send(client)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (number, answer.content)
        assert SECRET.encode() not in answer.content
    assert statuses.get(401, 0) > count / 10, statuses
    signed = [f"shop/{kind}" for kind in KINDS]
    assert not Job.objects.filter(source_id__in=signed).exists()
    assert not Firing.objects.filter(trigger__name__in=KINDS).exists()
    assert not Delivery.objects.filter(trigger__name__in=KINDS).exclude(outcome="rejected").exists()
    assert SECRET not in caplog.text
    assert SECRET not in _rows()


def _rows() -> str:
    """Everything that stands in clear in the tables of jobs and triggers."""
    tables = ("jobs_job", "jobs_step", "triggers_trigger", "triggers_firing", "triggers_delivery")
    found = []
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"SELECT t::text FROM {table} t")
            found += [row[0] for row in cursor.fetchall()]
    return "\n".join(found)
