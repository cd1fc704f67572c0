"""The keys that seal secrets at rest: from STROEM_KEYS (newest first, comma-separated) or a file of
mode 0600."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path


def read_keys(environ: Mapping[str, str], file: Path) -> list[str]:
    """32-byte keys in URL-safe base64; the first one seals. Creates a missing file with a new
    key."""
    given = [key.strip() for key in environ.get("STROEM_KEYS", "").split(",") if key.strip()]
    if given:
        return given
    if not file.exists():
        _make(file)
    return file.read_text().split()


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as handle:
        handle.write(base64.urlsafe_b64encode(os.urandom(32)).decode() + "\n")
    try:
        os.link(draft, file)  # simultaneous first starts agree on one key
    except FileExistsError:
        pass
    finally:
        draft.unlink()
