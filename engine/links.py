"""Symbolic links of a workspace: where they lead, by names alone. A link that leads out of the
workspace, to nothing or in a circle has no end."""

from __future__ import annotations

from collections.abc import Container, Mapping

_MOST_HOPS = 40  # as in Linux
LONGEST_TARGET = 1000


class BadLink(Exception):
    """The link cannot be part of a workspace; the message says why."""


def follow(
    path: str, links: Mapping[str, str], folders: Container[str], files: Container[str]
) -> str:
    """The file or folder (empty for the root) that `path` names once all links are followed.

    Paths are relative to the root, with '/'. Raises BadLink; never trusts what is on a disk.
    """
    waiting = path.split("/")[::-1]
    here: list[str] = []
    hops = 0
    while waiting:
        part = waiting.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                raise BadLink("it leads out of the workspace")
            here.pop()
            continue
        at = "/".join((*here, part))
        if at in links:
            hops += 1
            if hops > _MOST_HOPS:
                raise BadLink("it leads in a circle")
            waiting += _parts_of(links[at])[::-1]
        elif at in folders or (at in files and not waiting):
            here.append(part)
        else:
            raise BadLink(f"it leads to '{at[:200]}', which is not part of the workspace")
    return "/".join(here)


def _parts_of(target: str) -> list[str]:
    if target.startswith("/"):
        raise BadLink("it leads out of the workspace")
    if not target or "\0" in target or len(target.encode("utf-8", "replace")) > LONGEST_TARGET:
        raise BadLink("its target is not a path")
    return target.split("/")
