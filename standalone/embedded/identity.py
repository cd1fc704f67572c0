"""Which user runs the database: PostgreSQL refuses to run as root, the only user of many machines
and containers.

Nothing here creates an account or widens permissions outside the given directory.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from standalone.embedded.wheels import EmbeddedError, postgres_bin

ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Identity:
    """How to run a command: with `prefix` before it, or as `user` and `group`, an existing
    account."""

    prefix: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *argv],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            user=self.user,
            group=self.group,
            extra_groups=None if self.user is None else [],
            check=False,
        )

    def own(self, folder: Path) -> None:
        """Give our folder and its contents to the account that will use it."""
        if self.user is not None and self.group is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self.user, self.group, follow_symlinks=False)


def identity_for(folder: Path) -> Identity:
    """Who runs PostgreSQL with its data in `folder`, which must exist."""
    return Identity() if os.geteuid() != 0 else _identity_of_root(folder)


@functools.lru_cache
def _identity_of_root(folder: Path) -> Identity:
    for identity in _candidates():
        if _can_run(identity) and _can_reach(identity, folder):
            return identity
    raise EmbeddedError(
        "PostgreSQL does not run as root, user namespaces are not allowed here and no other account"
        f" can reach {folder}: start as another user, or set STROEM__DB__URL and"
        " STROEM__BROKER__URL to your own servers."
    )


def _candidates() -> Iterator[Identity]:
    unshare, mapped = shutil.which("unshare"), _mapped_id()
    if unshare and mapped:
        yield Identity((unshare, "--user", f"--map-user={mapped}", f"--map-group={mapped}", "--"))
    for name in ACCOUNTS:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        yield Identity(user=account.pw_uid, group=account.pw_gid)


def _mapped_id() -> int | None:
    """The user id of root inside the namespace: initdb needs one with a name."""
    ids = [account.pw_uid for account in pwd.getpwall() if account.pw_uid != 0]
    return max(ids, default=None)  # usually that of `nobody`


def _can_run(identity: Identity) -> bool:
    try:
        return identity.run(str(postgres_bin() / "postgres"), "--version").returncode == 0
    except OSError:
        return False


def _can_reach(identity: Identity, folder: Path) -> bool:
    """Our folder can change its owner, but the account must be able to enter those above it."""
    return (
        identity.user is None
        or identity.run("/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder.parent)).returncode == 0
    )
