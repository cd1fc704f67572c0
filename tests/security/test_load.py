"""What one caller without an account can cost the server: neither its answers to others, nor its
memory, nor its disk."""

from __future__ import annotations

import json
import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.apps.jobs.builders import until
from tests.house import House
from tests.security.test_requests import (
    CHUNK,
    GB,
    HEALTH,
    answer,
    ask,
    dial,
    free_port,
    post,
    status,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.django_db(transaction=True)]
MOST_GROWTH = 200 * 1_048_576
MOST_WAIT_S = 1.0
HALF_OPEN, BODIES, SIGN_INS = 2000, 20, 200
ATTACK_S = 20.0


class Server:
    """A server process, its memory and what it writes."""

    def __init__(self, house: House, folder: Path) -> None:
        self.port = free_port()
        self.written = folder / "written"
        self.written.mkdir()
        house.env |= {"TMPDIR": str(self.written)}
        process = house.start("server", "--host", "127.0.0.1", "--port", str(self.port))
        self.process = psutil.Process(process.pid)
        until(self.answers, 60)
        for _ in range(20):  # what is loaded at the first use is no growth
            self.health()
        self.before = self.process.memory_info().rss
        self.most = self.before

    def answers(self) -> bool:
        with suppress(OSError):
            return status(ask(self.port, HEALTH)) == 200
        return False

    def health(self) -> float:
        began = time.monotonic()
        assert status(ask(self.port, HEALTH)) == 200
        return time.monotonic() - began

    def growth(self) -> int:
        self.most = max(self.most, self.process.memory_info().rss)
        return self.most - self.before

    def on_disk(self) -> int:
        """Bytes of files in its folder for them, and of open ones that have no name any more."""
        named = sum(path.stat().st_size for path in self.written.rglob("*") if path.is_file())
        nameless = 0
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(OSError):
                if "(deleted)" in str(entry.readlink()):
                    nameless += entry.stat().st_size
        return named + nameless


@pytest.fixture
def server(tmp_path: Path, process_env: dict[str, str]) -> Iterator[Server]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    house = House(tmp_path, process_env)
    try:
        yield Server(house, tmp_path)
    finally:
        house.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def half_open(server: Server, over: threading.Event) -> Iterator[None]:
    with ExitStack() as held:
        for number in range(HALF_OPEN):
            with suppress(OSError):
                link = held.enter_context(dial(server.port))
                link.sendall(b"GET /admin/ HTTP/1.1\r\nHost: " if number % 2 else b"")
        yield
        over.wait()


def body(server: Server, over: threading.Event) -> int:
    """Send up to 1 GB; the bytes that the server took."""
    sent = 0
    with suppress(OSError), dial(server.port) as link:
        link.sendall(post("/api/auth/login", "Transfer-Encoding: chunked"))
        while sent < GB and not over.is_set():
            link.sendall(CHUNK)
            sent += len(CHUNK)
    return sent


def sign_in(server: Server, number: int) -> int:
    text = json.dumps({"email": f"u{number}@example.org", "password": "a wrong guess"})
    headers = (
        "Content-Type: application/json",
        f"Content-Length: {len(text)}",
        "Connection: close",
    )
    with suppress(OSError), dial(server.port) as link:
        link.sendall(post("/api/auth/login", *headers) + text.encode())
        return status(answer(link))
    return 0


Attack = Callable[[Server, ThreadPoolExecutor, threading.Event], None]


def connections(server: Server, pool: ThreadPoolExecutor, over: threading.Event) -> None:
    def hold() -> None:
        with half_open(server, over):
            pass

    pool.submit(hold)


def bodies(server: Server, pool: ThreadPoolExecutor, over: threading.Event) -> None:
    for _ in range(BODIES):
        pool.submit(body, server, over)


def sign_ins(server: Server, pool: ThreadPoolExecutor, over: threading.Event) -> None:
    for number in range(SIGN_INS):
        pool.submit(sign_in, server, number)


@pytest.mark.parametrize("attack", [connections, bodies, sign_ins])
def test_one_caller_costs_others_nothing(
    server: Server, attack: Attack, record_property: Callable[[str, object], None]
) -> None:
    over = threading.Event()
    with ThreadPoolExecutor(SIGN_INS + BODIES) as pool:
        attack(server, pool, over)
        waits = []
        until_when = time.monotonic() + ATTACK_S
        try:
            while time.monotonic() < until_when:
                waits.append(server.health())
                server.growth()
                assert server.on_disk() == 0
        finally:
            over.set()
    p99 = sorted(waits)[int(len(waits) * 0.99)]
    report = (
        f"{attack.__name__}: {len(waits)} health checks, p99 {p99 * 1000:.0f} ms, longest"
        f" {max(waits) * 1000:.0f} ms; memory +{server.growth() // 1_048_576} MB; disk 0"
    )
    record_property("report", report)
    print(report)
    assert p99 < MOST_WAIT_S, report
    assert server.growth() < MOST_GROWTH, report
    assert server.on_disk() == 0
