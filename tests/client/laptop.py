"""Somebody's laptop: the client with nothing of the server's settings, and a server to speak to."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from apps.accounts import tokens
from apps.accounts.models import Role, User, WorkspaceGrant
from tests.house import ROOT

KEPT = ("PATH", "LANG", "TMPDIR")


@dataclass
class Laptop:
    home: Path
    env: dict[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = (sys.executable, "-m", "stroem")

    def command(self, *words: str) -> tuple[list[str], dict[str, str]]:
        kept = {name: value for name, value in os.environ.items() if name in KEPT}
        env = {**kept, "HOME": str(self.home), "PYTHONPATH": str(ROOT), **self.env}
        return [*self.program, *words], env

    def run(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command, env = self.command(*words)
        return subprocess.run(
            command, env=env, cwd=self.home, input=given, capture_output=True, text=True,
            timeout=110, check=False,
        )  # fmt: skip

    def lines(self, *words: str, given: str = "", code: int = 0) -> list[str]:
        """What it prints, after it ended with this code and said nothing else."""
        done = self.run(*words, given=given)
        assert done.returncode == code, (words, done)
        assert not done.stderr, done
        return done.stdout.splitlines()

    def complaint(self, *words: str, given: str = "", code: int = 2) -> str:
        done = self.run(*words, given=given)
        assert done.returncode == code, (words, done)
        assert "Traceback" not in done.stderr, done
        return done.stderr.strip()


def key_of(role: Role | None, email: str, pattern: str = "*") -> str:
    """An API key of a new user with this role; None: of somebody who may do everything."""
    rights = {"is_superuser": role is None}
    person = User.objects.create_user(email, "correct horse battery", **rights)
    if role is not None:
        WorkspaceGrant.objects.create(user=person, pattern=pattern, role=role)
    return tokens.make_key(person, "laptop")[0]
