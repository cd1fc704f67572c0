"""Fixtures for every test. The servers behind them are started by `tests.servers`.

`db` and `transactional_db` are pytest-django's and work on a real PostgreSQL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis
from hypothesis import HealthCheck, settings
from kombu import Connection

from tests import caches, emptying, selection

# How fast an example is says more about the machine than about the code.
settings.register_profile("stroem", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stroem")
emptying.install()
ABOUT_DELIVERY = (
    "tests/acceptance/test_away.py", "tests/acceptance/test_routing.py",
    "tests/acceptance/test_sources.py", "tests/acceptance/test_torc_limits.py",
    "tests/apps/", "tests/chaos/", "tests/workers/", "tests/security/test_broker_messages.py",
)  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_caches() -> None:
    caches.forget()


@pytest.fixture
def broker_url() -> Iterator[str]:
    """A broker of this test process, empty at the test's start (of RabbitMQ, the queue that most
    tests use)."""
    url = os.environ["STROEM__BROKER__URL"]
    client = _client(url)
    if client is not None:
        client.flushdb()
        client.close()
    elif url.startswith("amqp"):
        with Connection(url) as link, suppress(link.channel_errors):
            link.default_channel.queue_purge("steps.script")
    yield url


@pytest.fixture
def broker_client(broker_url: str) -> Iterator[redis.Redis]:
    """Speaks to the broker directly, for tests that look into it or empty it."""
    client = _client(broker_url)
    if client is None:
        pytest.fail(
            "this test looks into Redis or Valkey, and STROEM_TEST_BROKER_URL names another broker"
        )
    yield client
    client.close()


@pytest.fixture
def process_env(transactional_db: None, broker_url: str) -> dict[str, str]:
    """The environment for processes (`manage.py worker`, ...) that shall work on this test's
    database and broker."""
    from tests.house import database_url

    return {**os.environ, "STROEM__DB__URL": database_url(), "STROEM__BROKER__URL": broker_url}


@pytest.fixture
def readers(process_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that this one starts for reading workspaces use this test's database."""
    monkeypatch.setenv("STROEM__DB__URL", process_env["STROEM__DB__URL"])


def _client(url: str) -> redis.Redis | None:
    if url.startswith("redis+socket://"):
        path, _, query = url.removeprefix("redis+socket://").partition("?")
        return redis.Redis(unix_socket_path=path, db=int(query.partition("=")[2] or 0))
    if url.startswith("amqp"):
        return None
    return redis.Redis.from_url(url.replace("valkey", "redis", 1))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What uses a broker is a delivery test, if it is about work that reaches workers: `.ci/run`
    repeats those on Redis and on RabbitMQ. `tests.selection` says what is long.

    Tests about being root are for root: others do not collect them.
    """
    about_root = [item for item in items if item.get_closest_marker("root") and os.geteuid() != 0]
    if about_root:
        config.hook.pytest_deselected(items=about_root)
        items[:] = [item for item in items if item not in about_root]
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "broker_url" in fixtures and item.nodeid.startswith(ABOUT_DELIVERY):
            item.add_marker("delivery")
        if "broker_client" in fixtures:
            item.add_marker("broker_inside")
    selection.mark_long(items, selection.programs(config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Where CI=true a test that skips itself has failed: everything that tests need is there."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was not run, and CI runs every test: {reason}"
    return report
