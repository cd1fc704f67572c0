"""10,000 guesses over three server processes: five a minute and account are answered as such, and
nobody else is kept out."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP

from apps.accounts import services
from apps.accounts.models import User
from tests.acceptance.house import free_port
from tests.apps.api.callers import PASSWORD
from tests.apps.jobs.builders import until
from tests.house import House

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]
# More guess at once than the servers let wait: the others are turned away without the work of a hash.
GUESSES, CODES, THREADS = 10_000, 100, 40


@pytest.fixture
def ports(tmp_path: Path, process_env: dict[str, str]) -> Iterator[list[int]]:
    house, found = House(tmp_path, process_env), [free_port() for _ in range(3)]
    for port in found:
        house.start("server", "--port", str(port), name=f"server-{port}")

    def answers() -> bool:
        try:
            return all(ask(port, "GET", "/healthz")[0] == 200 for port in found)
        except OSError:
            return False

    try:
        until(answers, within_s=120, every_s=0.2)
        yield found
    finally:
        house.close()


def ask(port: int, method: str, path: str, told: Any = None, by: str = "127.0.0.1") -> Any:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(by, 0))
    try:
        body = None if told is None else json.dumps(told)
        link.request(method, path, body, {"Content-Type": "application/json"})
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def log_in(port: int, email: str, password: str, by: str, **more: str) -> int:
    told = {"email": email, "password": password} | more
    return int(ask(port, "POST", "/api/auth/login", told, by)[0])


def test_guesses_are_slowed_and_lock_nobody_out(ports: list[int]) -> None:
    ada, bob, eve = (
        User.objects.create_user(f"{name}@example.org", PASSWORD) for name in ("ada", "bob", "eve")
    )
    TOTP.activate(eve, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    at_home = "127.0.0.9"
    assert log_in(ports[0], ada.email, PASSWORD, at_home) == 200  # as on any day before
    told: Counter[tuple[str, int]] = Counter()
    ends, left, lock = threading.Event(), [GUESSES], threading.Lock()
    began = time.monotonic()

    def guess(number: int) -> None:
        while True:
            with lock:
                if left[0] == 0:
                    return
                left[0] -= 1
                at = left[0]
            port, by = ports[at % 3], f"127.0.1.{at % 200 + 1}"
            if at % (GUESSES // CODES) == 0:
                status = log_in(port, eve.email, PASSWORD, by, code=f"{at:06}")
                told["code", status] += 1
            else:
                told["password", log_in(port, ada.email, f"guess {at}", by)] += 1

    def others() -> None:
        """Somebody else, and the owner of the account, all the while."""
        while not ends.wait(2):
            for email in (bob.email, ada.email):
                until(lambda email=email: log_in(ports[0], email, PASSWORD, at_home) == 200)
                told["right", 200] += 1

    guessers = [threading.Thread(target=guess, args=(n,)) for n in range(THREADS)]
    other = threading.Thread(target=others)
    for one in (*guessers, other):
        one.start()
    for one in guessers:
        one.join()
    ends.set()
    other.join()
    windows = int((time.monotonic() - began) // services.WINDOW_S) + 1
    print(f"{GUESSES} guesses in {time.monotonic() - began:.0f} s: {dict(told)}")
    assert sum(told.values()) - told["right", 200] == GUESSES
    assert set(told) <= {
        ("password", 401), ("password", 429), ("code", 401), ("code", 429), ("right", 200),
    }  # fmt: skip
    assert 0 < told["password", 401] <= services.ACCOUNT_LIMIT * windows
    assert 0 < told["code", 401] <= 5 * windows
    assert told["right", 200] >= 2
    assert Authenticator.objects.count() == 1
