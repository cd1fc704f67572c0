"""Sources that were made to stop whoever reads them, in the size that a test asks for."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FLOW = "tasks: {main: {flow: {one: {type: script, script: 'true'}}}}\n"
SLOW_TO_PARSE = "    s{0}_{1}: {{type: script, script: echo {0} {1}, env: {{a: b}}}}\n"


def harmless(folder: Path) -> Path:
    folder.mkdir()
    (folder / "flow.yaml").write_text(FLOW)
    return folder


def large_definition(folder: Path, megabytes: float) -> Path:
    """Workflow files that are all valid, of 0.9 MB each."""
    folder.mkdir()
    size, number = 0, 0
    while size < megabytes * 1_000_000:
        lines = [f"tasks:\n  t{number}:\n   flow:\n"]
        lines += [SLOW_TO_PARSE.format(number, line) for line in range(14_000)]
        text = "".join(lines)[:900_000].rpartition("\n")[0]
        (folder / f"f{number}.yaml").write_text(text + "\n")
        size, number = size + len(text), number + 1
    return folder


def many_entries(folder: Path, number: int) -> Path:
    """Entries that no workspace takes: the count of files alone would not notice them."""
    harmless(folder)
    for index in range(number):
        (folder / f"nothing{index}").symlink_to("/nowhere")
    return folder


def git_bomb(folder: Path, levels: int = 9) -> Path:
    """A bare repository of a few objects whose commit has 10**`levels` files."""
    folder.mkdir()

    def git(*words: str, given: bytes = b"") -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(
            ["git", *identity, *words], cwd=folder, input=given, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    git("init", "-q", "--bare", "-b", "main")
    name = git("hash-object", "-w", "--stdin", given=b"x")
    kind, mode = "blob", "100644"
    for _ in range(levels):
        entries = "".join(f"{mode} {kind} {name}\t{index}\n" for index in range(10))
        name, kind, mode = git("mktree", given=entries.encode()), "tree", "040000"
    git("update-ref", "refs/heads/main", git("commit-tree", "-m", "x", name))
    return folder


@contextmanager
def silent_host() -> Iterator[str]:
    """The address of a repository whose host takes every connection and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        held: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    held.append(listening.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        try:
            yield f"https://127.0.0.1:{listening.getsockname()[1]}/x.git"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for one in held:
                one.close()
