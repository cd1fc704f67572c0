"""State in and out of a pod: small, by the ways that everything else takes.

What a task remembers goes in with the script's files, in the environment. What a step leaves comes
out as the last lines of its log, which the record proves to be complete. Around an image, which
runs as it is, two containers of the platform do the same.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from pathlib import Path
from typing import IO

from engine.errors import AuthorError
from engine.orders import STATE_VARIABLES, StateFolders, StepOrder
from runners.containers.script import FILES
from runners.containers.states import OUT, pack_one, unpack

MOST_IN, MOST_OUT = 500_000, 4_000_000  # bytes, packed: of a secret, and of a node's log
_LINE = 4000  # letters of base64, a multiple of four
_ELSEWHERE = "let the step run with `runner: docker` or `local`, or keep the files elsewhere"
_FOLDERS = {variable: STATE_VARIABLES[variable].lstrip("/") for variable in OUT}


def read_state(order: StepOrder) -> dict[str, str]:
    """What the task and its workspace remember, as files of the script: name -> text."""
    if order.state is None:
        return {}
    found = {
        f"state-{variable}": pack_one(folder)
        for variable, folder in order.state.by_variable.items()
        if variable not in OUT
    }
    files = {name: text for name, text in found.items() if text}
    size = sum(map(len, files.values()))
    if size > MOST_IN:
        raise AuthorError(
            f"the state of the task takes {size:,} bytes, and a pod gets at most {MOST_IN:,};"
            f" {_ELSEWHERE}"
        )
    return files


def build_volumes(order: StepOrder) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The volumes for the directories, and their mounts."""
    if order.state is None:
        return [], []
    paths = {f"stroem{path.replace('/', '-')}": path for path in STATE_VARIABLES.values()}
    volumes: list[dict[str, object]] = [{"name": name, "emptyDir": {}} for name in paths]
    return volumes, [{"name": name, "mountPath": path} for name, path in paths.items()]


def find_mounts(order: StepOrder, *, are_out: bool) -> list[dict[str, object]]:
    """Those of the directories that a step reads, or of those that it writes to."""
    wanted = {path for name, path in STATE_VARIABLES.items() if (name in OUT) == are_out}
    return [mount for mount in build_volumes(order)[1] if mount["mountPath"] in wanted]


def build_unpacking(files: dict[str, str], folder: str = FILES) -> str:
    """The part of the program that fills the directories from files in `folder`."""
    return "".join(
        f"base64 -d <{folder}/{name} | tar -xzf - -C {STATE_VARIABLES[name.removeprefix('state-')]}"
        " || exit 127\n"
        for name in files
    )


def build_mark(attempt: str) -> str:
    """How lines of the log begin that hold what the step leaves; they are not shown."""
    return f"stroem: state of {attempt} "


def build_leaving(attempt: str, folder: str = FILES) -> str:
    """A shell function that writes what the step leaves to the log. What cannot be passed on lets
    the step fail. `folder`: where it may write."""
    return f"""
_s_leave() {{
    for _s_left in {" ".join(_FOLDERS.values())}; do
        [ -n "$(ls -A "/$_s_left")" ] || continue
        printf '\\n'
        for _s_tool in tar gzip base64 tr fold sed wc; do
            command -v "$_s_tool" >/dev/null 2>&1 || {{
                printf 'Error: %s is not in this image, which state needs\\n' "$_s_tool"
                _s_code=127
                return
            }}
        done
        tar -czf {folder}/left.tar.gz -C "/$_s_left" . || {{ _s_code=1; return; }}
        _s_size=$(wc -c <{folder}/left.tar.gz)
        if [ "$_s_size" -gt {MOST_OUT} ]; then
            printf 'Error: /%s holds %d bytes, packed; a pod passes on at most {MOST_OUT}: %s\\n' \\
                "$_s_left" "$_s_size" '{_ELSEWHERE.replace("`", "")}'
            _s_code=1
            return
        fi
        {{ base64 <{folder}/left.tar.gz | tr -d '\\n'; echo; }} | fold -w {_LINE} |
            sed "s/^/{build_mark(attempt)}$_s_left /"
    done
}}
"""


class LeftLines:
    """Takes the lines of what a step leaves, as they come."""

    def __init__(self, folders: StateFolders, scratch: Path, *, are_counted: bool = False) -> None:
        """`are_counted`: nothing proves that the log is complete but `expected`, their number."""
        self.expected: int | None = None
        self._count = 0
        self._are_counted = are_counted
        self._folders = folders
        self._scratch = scratch
        self._packed: dict[str, IO[bytes]] = {}
        self._is_broken = False
        self._size = 0

    def take(self, line: bytes) -> None:
        """`line`: without its mark."""
        folder, _, text = line.decode("ascii", "replace").partition(" ")
        variable = next((name for name, path in _FOLDERS.items() if path == folder), None)
        self._size += len(line)
        self._count += 1
        if variable is None or self._size > 4 * MOST_OUT:  # only a script can print this
            self._is_broken = True
            return
        if variable not in self._packed:
            self._packed[variable] = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115
        try:
            self._packed[variable].write(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            self._is_broken = True

    def unpack(self) -> None:
        """Write it to the directories of this host. Raises AuthorError."""
        is_whole = not self._are_counted or self._count == self.expected
        if self._is_broken or not is_whole:
            raise AuthorError("what the step left in its state could not be read from its log")
        for variable, packed in self._packed.items():
            packed.seek(0)
            unpack(packed, self._folders.by_variable[variable], variable, is_gzip=True)

    def close(self) -> None:
        for packed in self._packed.values():
            packed.close()
