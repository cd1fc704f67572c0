"""pytest plugin: a PostgreSQL for the run and a Valkey for each of its processes, before Django
reads its settings.

STROEM_TEST_DB_URL and STROEM_TEST_BROKER_URL name servers to use instead. Whatever else of the
environment would steer Stroem is taken away, so that a developer's own settings never reach a test.
The servers hang on a lifeline: they end with the process that started them, however it ends. Loaded
by `-p tests.servers`, as pytest-django reads the settings before any conftest.py.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from standalone.embedded import prepared
from standalone.embedded.pair import TemporaryBroker, TemporaryDatabase
from standalone.supervision.lifeline import Lifeline

DB_URL = "STROEM__DB__URL"
BROKER_URL = "STROEM__BROKER__URL"
OWNER = "STROEM_TEST_OWNER"  # the process that started the database; xdist's workers inherit it


def _start() -> None:
    # begun in the background of a shell: no child would hear it
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # else hundreds of processes compile the same files, each of them anew
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    lifeline = Lifeline()
    atexit.register(lifeline.close)
    is_worker = "PYTEST_XDIST_WORKER" in os.environ and OWNER in os.environ
    db_url = os.environ[DB_URL] if is_worker else ""
    for name in [
        name
        for name in os.environ
        if name.startswith("STROEM_") and not name.startswith("STROEM_TEST_")
    ]:
        del os.environ[name]
    os.environ[DB_URL] = db_url or _database(lifeline)
    os.environ[BROKER_URL] = _broker(lifeline)
    os.environ[OWNER] = os.environ.get(OWNER) or str(os.getpid())
    os.environ["STROEM__DATA_DIR"] = str(_data_dir(lifeline))


def _database(lifeline: Lifeline) -> str:
    given = os.environ.get("STROEM_TEST_DB_URL")
    if given:
        return given
    database = TemporaryDatabase(
        lifeline, copy_of=prepared.cluster_for(prepared.key_of(), lifeline)
    )
    atexit.register(database.stop)
    return database.start()


def _broker(lifeline: Lifeline) -> str:
    given = os.environ.get("STROEM_TEST_BROKER_URL")
    if given:
        return _own_database(given)
    broker = TemporaryBroker(lifeline)
    atexit.register(broker.stop)
    return broker.start()


def _own_database(url: str) -> str:
    """A Redis that was given is shared by xdist's workers: each takes a numbered database. Others
    as they are."""
    parts = urlsplit(url)
    worker = re.search(r"\d+", os.environ.get("PYTEST_XDIST_WORKER", ""))
    if worker is None or parts.scheme not in {"redis", "rediss", "valkey", "valkeys"}:
        return url
    return urlunsplit(parts._replace(path=f"/{int(worker[0]) + 1}"))


def _data_dir(lifeline: Lifeline) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="stroem-data-"))
    (folder / "static").mkdir()
    lifeline.remove_at_end(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_start()
