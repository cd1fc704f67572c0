"""What a job's steps and workflow actions find on this host: their shared output directory and,
for actions, the worker's environment without Stroem's secrets."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from uuid import UUID

from engine.errors import PlatformError
from runners.host.environment import User, clean_path

# Settings, tokens and addresses of database and broker, by name; other variables that contain one
# are recognised by value.
_PREFIXES = (
    "STROEM",
    "DJANGO_",
    "PG",
    "CELERY_",
    "REDIS",
    "VALKEY",
    "RABBITMQ",
    "AMQP",
    "BROKER_",
    "DATABASE_",
)
_SHORTEST = 6  # shorter values are not credentials


class Outputs:
    """Output directories on this host. Thread-safe."""

    def __init__(self, root: Path, owner: tuple[int, int] | None = None) -> None:
        """`root` holds a directory for each job; `owner`: the user and group that steps run as."""
        self._root = root
        self._owner = owner
        self._made: set[Path] = set()

    def open(self, named: str, job_id: UUID) -> Path:
        """The directory `named` or, if empty, the job's own below the root; created if missing."""
        path = Path(named) if named else self._root / str(job_id)
        if path not in self._made:
            self._make(path)
            self._made.add(path)
        return path

    def _make(self, path: Path) -> None:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
            if self._owner is not None:
                for folder in missing:
                    os.chown(folder, *self._owner)
        except OSError as error:
            raise PlatformError(
                f"the output directory {path} cannot be created: {error.strerror}"
            ) from error


def inherit(
    withheld: Collection[str], user: User | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The worker's environment without its credentials; `withheld` are values to leave out."""
    secrets = [value for value in withheld if len(value) >= _SHORTEST]
    found = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_PREFIXES) and not any(secret in value for secret in secrets)
    }
    found["PATH"] = clean_path(found.get("PATH"))
    found.pop("VIRTUAL_ENV", None)
    if user is not None:
        found |= user.environment
    return found
