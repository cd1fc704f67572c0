"""Runs git with a clean environment, credentials by askpass, limits on time and disk, and redacted
errors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from apps.workspaces.errors import LimitError, SourceError
from apps.workspaces.programs import end
from apps.workspaces.sources.tree import LONGEST_PATH, Limits

# Git asks for "Password for 'https://USER@HOST': ", also after an answer led it to another host.
_ASKPASS = """#!/bin/sh
host=$(cat -- "$STROEM_ASKPASS_DIR/host")
case "$1" in
*[/@]"$host': ") ;;
*) exit ;;
esac
case "$1" in
Username*) cat -- "$STROEM_ASKPASS_DIR/username" ;;
*) cat -- "$STROEM_ASKPASS_DIR/token" ;;
esac
"""
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.symlinks=false",
    "core.fsmonitor=false",
    "core.askPass=",
    "credential.helper=",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "protocol.version=2",
    "gc.auto=0",
    "maintenance.auto=false",
    "core.bigFileThreshold=1m",  # larger files are streamed, not held in memory
    "pack.threads=1",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=30",  # seconds until git itself gives a silent host up
    "http.sslVerify=true",
)
_PASSED_ON = (
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
)
_IN_URL = re.compile(r"(?<=://)[^/\s@]*@")
_TOO_MUCH = re.compile(
    r"too slow|timed out|timeout|out of memory|cannot allocate|too large", re.IGNORECASE
)
# packs may exceed the limit of the tree by this factor: not all history is shallow
_PACK_SHARE = 4


@dataclass(frozen=True, slots=True)
class Credential:
    """One entry of `git_auth`: a token, or an SSH key."""

    username: str = "x-access-token"
    token: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    key_path: Path | None = None


class Git:
    """One use of one repository, in `folder`, which the caller removes."""

    def __init__(
        self,
        folder: Path,
        credential: Credential | None,
        limits: Limits,
        *,
        url: str,
        allow_local: bool,
    ) -> None:
        """`url`: of the only host that the credential is told."""
        self.repository = folder / "repository.git"
        self._folder = folder
        self._limits = limits
        self._ends_at = time.monotonic() + limits.seconds
        self._hidden = [credential.token] if credential and credential.token else []
        self._environment = self._make_environment(credential, url, allow_local)
        if shutil.which("git", path=self._environment["PATH"]) is None:
            raise SourceError("there is no git program on this server; install git")

    def run(self, command: str, *arguments: str) -> bytes:
        """The output of git. Raises SourceError with its error message, without credentials."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = self._start(command, arguments, subprocess.DEVNULL, out, err)
            if self._wait(process, out, max(1_000_000, self._limits.files * LONGEST_PATH)) != 0:
                raise self._failure(command, err)
            out.seek(0)
            return out.read()

    def blobs(self, oids: Sequence[str]) -> list[bytes]:
        """The contents of objects, in the order of their ids."""
        with (
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
            tempfile.TemporaryFile() as asked,
        ):
            asked.write("".join(f"{oid}\n" for oid in oids).encode())
            asked.seek(0)
            process = self._start("cat-file", ("--batch",), asked, out, err)
            if self._wait(process, out, self._limits.bytes + 200 * len(oids)) != 0:
                raise self._failure("cat-file", err)
            out.seek(0)
            contents = []
            for oid in oids:
                found = out.readline().split()
                if len(found) != 3 or found[1] != b"blob":
                    raise SourceError(f"the repository lacks the object {oid}")
                contents.append(out.read(int(found[2])))
                out.read(1)
            return contents

    def _start(
        self, command: str, arguments: Sequence[str], *files: IO[bytes] | int
    ) -> subprocess.Popen[bytes]:
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        where = [] if command == "init" else [f"--git-dir={self.repository}"]
        stdin, out, err = files
        return subprocess.Popen(
            ["git", *settings, *where, command, *arguments],
            cwd=self._folder,
            env=self._environment,
            stdin=stdin,
            stdout=out,
            stderr=err,
        )  # in our own group, which ends as a whole when reading takes too long

    def _wait(self, process: subprocess.Popen[bytes], out: IO[bytes], most_answer: int) -> int:
        try:
            while True:
                try:
                    code = process.wait(0.2)
                except subprocess.TimeoutExpired:
                    code = None
                if os.fstat(out.fileno()).st_size > most_answer:
                    raise LimitError(
                        f"the repository lists more than {self._limits.files} files, folders or"
                        " references"
                    )
                if code is not None:
                    return code
                self._check()
        finally:
            end(process)

    def _check(self) -> None:
        if time.monotonic() > self._ends_at:
            raise LimitError(
                f"git took longer than {self._limits.seconds:g} s and was stopped; perhaps its"
                " host does not answer"
            )
        most = self._limits.bytes * _PACK_SHARE
        if _size_of(self._folder) > most:
            raise LimitError(f"the repository is larger than {most // 1_000_000} MB")

    def _failure(self, command: str, err: IO[bytes]) -> SourceError:
        reason = self._reason(err)
        kind = LimitError if _TOO_MUCH.search(reason) else SourceError
        return kind(f"git {command} failed: {reason}")

    def _reason(self, err: IO[bytes]) -> str:
        err.seek(0)
        text = err.read(20_000).decode("utf-8", "replace")
        lines = [
            line.strip()
            for line in text.splitlines()
            if line.strip() and not line.startswith("hint:")
        ]
        reason = (
            "; ".join(line.removeprefix("fatal: ").removeprefix("error: ") for line in lines[:3])
            or "no reason given"
        )
        for hidden in self._hidden:
            reason = reason.replace(hidden, "••••••")
        return _IN_URL.sub("", reason)[:500]

    def _make_environment(
        self, credential: Credential | None, url: str, allow_local: bool
    ) -> dict[str, str]:
        home = self._folder / "home"
        home.mkdir(mode=0o700)
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment.setdefault("PATH", os.defpath)
        environment |= {
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "https:ssh:file" if allow_local else "https:ssh",
            "GIT_SSH_COMMAND": self._ssh(credential, home),
            "GIT_ASKPASS": "/bin/true",
        }
        if credential and credential.token:
            _write(home / "username", credential.username)
            _write(home / "token", credential.token)
            _write(home / "host", urlsplit(url).netloc)
            _write(home / "askpass", _ASKPASS, 0o700)
            environment |= {"GIT_ASKPASS": str(home / "askpass"), "STROEM_ASKPASS_DIR": str(home)}
        return environment

    def _ssh(self, credential: Credential | None, home: Path) -> str:
        words = [
            "ssh",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "ConnectTimeout=15",
            "-o",
            "ServerAliveInterval=10",
            "-o",
            "ServerAliveCountMax=3",
        ]
        key = credential.key_path if credential else None
        if credential and credential.key:
            key = home / "key"
            _write(key, credential.key.rstrip("\n") + "\n")
        if key is not None:
            words += ["-o", "IdentitiesOnly=yes", "-i", f"'{key}'"]
        return " ".join(words)


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w") as handle:
        handle.write(text)


def _size_of(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except OSError:  # git renames its temporary packs meanwhile
                continue
    return total
