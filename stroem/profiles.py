"""Servers by name, with the key for each, in one file that only its owner can read."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stroem.errors import BadProfile, NotSignedIn

USUAL = "default"
PRIVATE = 0o600
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Profile:
    url: str
    key: str = field(default="", repr=False)
    ca_file: str = ""  # trusted instead of the system's certificates
    email: str = ""  # whose key it is


@dataclass(frozen=True, slots=True)
class Profiles:
    """`current`: used where none is named."""

    current: str
    by_name: Mapping[str, Profile]


def file_of(environ: Mapping[str, str]) -> Path:
    if given := environ.get("STROEM_CONFIG_DIR"):
        return Path(given) / "client.json"
    base = environ.get("XDG_CONFIG_HOME") or str(
        Path(environ.get("HOME", "~")).expanduser() / ".config"
    )
    return Path(base) / "stroem" / "client.json"


def load(file: Path) -> Profiles:
    """Raises BadProfile if the file is not ours, or if others can read it."""
    try:
        with file.open(encoding="utf-8") as handle:
            mode = os.fstat(handle.fileno()).st_mode
            content = json.load(handle)
        if stat.S_IMODE(mode) & 0o077:
            raise BadProfile(f"{file} holds keys and can be read by others: run `chmod 600 {file}`")
        found = {name: Profile(**values) for name, values in content["profiles"].items()}
        return Profiles(content["current"], found)
    except FileNotFoundError:
        return Profiles(USUAL, {})
    except OSError as error:
        raise BadProfile(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadProfile(f"{file} is not a file of profiles: remove it and sign in again") from None


def save(file: Path, profiles: Profiles) -> None:
    """Replaces the file in one step, and never opens it to others."""
    content = {
        "current": profiles.current,
        "profiles": {name: asdict(one) for name, one in sorted(profiles.by_name.items())},
    }
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as text:
                json.dump(content, text, indent=2)
            new.replace(file)
        finally:
            with suppress(FileNotFoundError):
                new.unlink()
    except OSError as error:
        raise BadProfile(f"{file} cannot be written: {error.strerror}") from None


def chosen(name: str | None, server: str | None, environ: Mapping[str, str]) -> Profile:
    """The profile to use. STROEM_URL and STROEM_TOKEN come first: CI has no file. Raises BadProfile
    and NotSignedIn."""
    url = server or environ.get("STROEM_URL", "")
    token, ca_file = environ.get("STROEM_TOKEN", ""), environ.get("STROEM_CA_FILE", "")
    if url and token and not name:
        return Profile(checked_url(url), token, ca_file)
    profiles = load(file_of(environ))
    wanted = name or environ.get("STROEM_PROFILE") or profiles.current
    found = profiles.by_name.get(wanted)
    if found is None and (name or environ.get("STROEM_PROFILE")):
        known = ", ".join(sorted(profiles.by_name)) or "none"
        raise BadProfile(f"There is no profile '{wanted[:60]}' (there are: {known})")
    if found is None:
        raise NotSignedIn(
            "No server is known: run `stroem login URL`, or set STROEM_URL and STROEM_TOKEN"
        )
    if url and checked_url(url) != found.url:  # a key goes only to the server that it is for
        raise NotSignedIn(f"No key for {checked_url(url)}: set STROEM_TOKEN, or run `stroem login`")
    key, ca_file = token or found.key, ca_file or found.ca_file
    return Profile(found.url, key, ca_file, found.email)


def checked_url(text: str) -> str:
    """The server's address without a path. Raises BadProfile."""
    address = text.strip().removesuffix("/")
    if "://" not in address:
        address = f"https://{address}"
    scheme, _, rest = address.partition("://")
    if scheme not in ("http", "https") or not _HOST.fullmatch(rest):
        raise BadProfile(
            f"'{text[:100]}' is not the address of a server: give one such as"
            " https://stroem.example.org"
        )
    return address.lower()
