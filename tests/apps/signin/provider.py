"""Drives the provider of `provider_site` from a test: its people, and a browser that comes to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[3]

# Of the client `LATE`, groups are in ID tokens only, as some providers have it.
CLIENT, LATE, SECRET = "stroem", "stroem-late", "provider-secret"


@dataclass
class Company:
    """The provider: its administrator, and whoever signs in there."""

    url: str

    def person(
        self,
        who: str,
        *groups: str,
        email: str = "",
        verified: bool = True,
        active: bool = True,
        forget: bool = False,
    ) -> str:
        """Make or change somebody. `forget`: all their tokens end."""
        told = {
            "who": who, "email": email or f"{who}@example.org", "verified": verified,
            "groups": groups, "active": active, "forget": forget,
        }  # fmt: skip
        requests.post(f"{self.url}/change", json=told, timeout=30).raise_for_status()
        return who

    def serve(self, base: str) -> None:
        """Answers may go to this address of ours as well."""
        requests.post(f"{self.url}/serve", json={"base": base}, timeout=30).raise_for_status()

    def asked(self) -> int:
        """How often it was asked for tokens and data of users."""
        return int(requests.get(f"{self.url}/asked", timeout=30).text)

    def browser(self, who: str, ago: int = 0) -> requests.Session:
        """Of somebody who signed in there so many seconds ago."""
        session, given = requests.Session(), {"who": who, "ago": str(ago)}
        session.get(f"{self.url}/as", params=given, timeout=30).raise_for_status()
        return session

    def answer(self, who: str, address: str, ago: int = 0) -> str:
        """Where it leads somebody who comes with our request."""
        found = self.browser(who, ago).get(address, allow_redirects=False, timeout=30)
        assert found.status_code == 302, found.text[-800:]
        return found.headers["Location"]


@contextmanager
def company(folder: Path) -> Iterator[Company]:
    program = [sys.executable, "-m", "tests.apps.signin.provider_site", str(folder)]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port: Any = process.stdout.readline().strip()
            assert port, "the provider did not start"
            yield Company(f"http://127.0.0.1:{port}")
        finally:
            process.kill()
