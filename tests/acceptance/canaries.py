"""Fifty values that must never be seen in clear, the workspace that holds them, and where to look
for them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
from django.db import connection


class Canaries:
    """Values by name; each is made when it is first asked for."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._values:
            # Letters that every encoding treats differently, around what is unmistakable.
            self._values[name] = f"K&{len(self._values):02}/{secrets.token_hex(9)}+'z"
        return self._values[name]

    def __len__(self) -> int:
        return len(self._values)

    def digest(self, name: str) -> str:
        """So that a step can prove that it got the value, without anybody writing the value
        down."""
        return hashlib.sha256(self[name].encode()).hexdigest()

    def seen_in(self, text: str) -> set[str]:
        """Names of those that stand in `text`, raw or in an encoding that anybody can undo."""
        return {
            name
            for name, value in self._values.items()
            if any(form in text for form in forms(value))
        }


def forms(value: str) -> Iterator[str]:
    raw = value.encode()
    yield value
    yield raw.hex()
    yield json.dumps(value)[1:-1]
    yield quote(value, safe="")
    yield value.replace("&", "&amp;").replace("'", "&#x27;")
    for lead in range(3):
        coded = base64.b64encode(b"\0" * lead + raw).decode()
        yield coded[4:-4]
    # the unmistakable part: also where quotes, ampersands and slashes were changed somehow
    yield value[5:23]


def tables() -> Iterator[tuple[str, str]]:
    """(name, all rows as text) of every table. Bytes are in hex, as a dump has them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        for (name,) in cursor.fetchall():
            cursor.execute(f"SELECT coalesce(string_agg(t::text, chr(10)), '') FROM \"{name}\" t")
            yield name, cursor.fetchone()[0]


class CommandLines(threading.Thread):
    """Every command line on this host that was seen while it ran."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._stop_it = threading.Event()
        self.seen: set[str] = set()

    def run(self) -> None:
        while not self._stop_it.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue

    def close(self) -> str:
        self._stop_it.set()
        self.join()
        return "\n".join(self.seen)


def environments(pids: Iterable[int]) -> str:
    """What the given processes have in their environment. A worker shows its own to root alone."""
    found = []
    for pid in pids:
        try:
            found.append(str(psutil.Process(pid).environ()))
        except psutil.AccessDenied:
            assert os.geteuid() != 0
    return "\n".join(found)
