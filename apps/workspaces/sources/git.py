"""Reads one commit of a git repository through the git program, without a checkout.

Objects are fetched into a bare repository of our own and read by id, so nothing from the repository
runs or is written to disk under its own name: no hooks, filters, attributes or submodules.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from apps.workspaces.errors import SourceError
from apps.workspaces.sources.gitprogram import Credential, Git
from apps.workspaces.sources.tree import Gatherer, Limits, Tree
from engine.links import LONGEST_TARGET

_REF = re.compile(r"[\w#+=,!%@][\w./+=,!%@#-]{0,199}")  # letters of all alphabets
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SCP_LIKE = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:(?!/?/)[^\s]+")
_REGULAR, _PROGRAM, _LINK, _SUBMODULE = "100644", "100755", "120000", "160000"


@dataclass(frozen=True, slots=True)
class GitSource:
    """`is_local` allows paths and file:// URLs; only operators may set it."""

    url: str
    ref: str = ""
    credential: Credential | None = None
    is_local: bool = False


def check_url(url: str, *, is_local: bool) -> str:
    """`url`, if git may be given it. Raises SourceError without credentials in its message."""
    if (
        any(ord(letter) <= 32 or ord(letter) == 127 for letter in url)
        or url.startswith("-")
        or not url
    ):
        raise SourceError(
            "the address of the repository contains a space or begins with '-'; check it"
        )
    if "::" in url:
        raise SourceError(
            "the address of the repository names a remote helper (`::`), which is not allowed"
        )
    parts = _split(url)
    if parts.scheme in ("https", "ssh") and parts.hostname:
        if parts.password or (parts.scheme == "https" and parts.username):
            raise SourceError(
                "take the credentials out of the address and put them under `git_auth`"
            )
        if parts.hostname.startswith("-") or (parts.username or "").startswith("-"):
            raise SourceError("the address of the repository names a host that begins with '-'")
        return url
    if _SCP_LIKE.fullmatch(url):
        return url
    if parts.scheme == "file" or (not parts.scheme and (url.startswith("/") or is_local)):
        if not is_local:
            raise SourceError(
                "repositories on the server's own disk can be imported by an operator's command"
                " only"
            )
        return url
    raise SourceError("the address of a repository must begin with https:// or ssh://")


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise SourceError("the address of the repository is not a URL") from None


def check_ref(ref: str) -> str:
    """`ref`, if it can be a branch, a tag or a commit id. Raises SourceError."""
    bad = (
        not _REF.fullmatch(ref)
        or ref == "@"
        or ".." in ref
        or "@{" in ref
        or "//" in ref
        or ref.endswith((".", "/"))
        or any(part.startswith(".") or part.endswith(".lock") for part in ref.split("/"))
    )
    if bad:
        raise SourceError(f"'{ref[:100]}' cannot be a branch, a tag or a commit id")
    return ref


def read_git(source: GitSource, limits: Limits = Limits()) -> Tree:  # noqa: B008  (a frozen value)
    """The files of the commit named by `source.ref` (empty: the default branch)."""
    url = check_url(source.url, is_local=source.is_local)
    ref = check_ref(source.ref) if source.ref else ""
    with tempfile.TemporaryDirectory(prefix="stroem-git-") as folder:
        git = Git(Path(folder), source.credential, limits, url=url, allow_local=source.is_local)
        git.run("init", "--quiet", "--bare", "--template=", "--", str(git.repository))
        commit = _fetch(git, url, ref)
        return _export(git, commit, limits)


def newest_commit(source: GitSource, limits: Limits = Limits()) -> str | None:  # noqa: B008  (a frozen value)
    """The current commit of a branch, without fetching it; None if it is not a branch."""
    url = check_url(source.url, is_local=source.is_local)
    name = f"refs/heads/{check_ref(source.ref)}" if source.ref else "HEAD"
    with tempfile.TemporaryDirectory(prefix="stroem-git-") as folder:
        git = Git(Path(folder), source.credential, limits, url=url, allow_local=source.is_local)
        git.run("init", "--quiet", "--bare", "--template=", "--", str(git.repository))
        for line in (
            git.run("ls-remote", "--quiet", "--", url, name).decode("utf-8", "replace").splitlines()
        ):
            commit, _, found = line.partition("\t")
            if found == name:
                return commit
    return None


def _fetch(git: Git, url: str, ref: str) -> str:
    """The commit id of `ref`, after fetching its objects."""
    wanted = ref if _COMMIT.fullmatch(ref) else _full_name(git, url, ref)
    shallow = ["--depth=1"] if "://" in url or ":" in url else []
    options = ["--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", *shallow]
    try:
        git.run("fetch", *options, "--", url, f"+{wanted}:refs/stroem/wanted")
    except SourceError:
        if not _COMMIT.fullmatch(ref):
            raise
        # Not every server serves commits by id: fetch the branches instead.
        git.run(
            "fetch",
            *[o for o in options if o != "--depth=1"],
            "--",
            url,
            "+refs/heads/*:refs/stroem/heads/*",
        )
    name = ref if _COMMIT.fullmatch(ref) else "refs/stroem/wanted"
    try:
        return git.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
    except SourceError:
        raise SourceError(f"'{ref}' names no commit of this repository") from None


def _full_name(git: Git, url: str, ref: str) -> str:
    """The full name of `ref`: branches before tags; HEAD if empty."""
    if not ref:
        return "HEAD"
    names = [f"refs/heads/{ref}", f"refs/tags/{ref}"] if not ref.startswith("refs/") else [ref]
    lines = (
        git.run("ls-remote", "--quiet", "--", url, *names).decode("utf-8", "replace").splitlines()
    )
    known = {line.partition("\t")[2] for line in lines}
    for name in names:
        if name in known:
            return name
    hint = "; a commit is named by all its 40 digits" if _SHORT_COMMIT.fullmatch(ref) else ""
    raise SourceError(f"this repository has no branch, tag or commit '{ref}'{hint}")


def _export(git: Git, commit: str, limits: Limits) -> Tree:
    gatherer = Gatherer(limits)
    listed = []
    planned = 0
    for mode, oid, size, path in _entries(git, commit):
        gatherer.see()
        if mode == _LINK and size > LONGEST_TARGET:
            gatherer.leave_out(path, "it is a symbolic link whose target is not a plain path")
        elif mode == _SUBMODULE:
            gatherer.leave_out(path, "it is a submodule")
        elif mode in (_REGULAR, _PROGRAM, _LINK, "100664") and gatherer.accepts(path):
            planned += size
            gatherer.room_for(path, planned)
            listed.append((mode, oid, path))
            if len(listed) > limits.files:
                raise gatherer.too_many(f"{limits.files} files")
    contents = git.blobs([oid for _, oid, _ in listed])
    for (mode, _, path), content in zip(listed, contents, strict=True):
        if mode == _LINK:
            gatherer.add_link(path, os.fsdecode(content))
        else:
            gatherer.add(path, content, is_program=mode == _PROGRAM)
    return gatherer.tree(commit)


def _entries(git: Git, commit: str) -> Iterator[tuple[str, str, int, str]]:
    """(mode, object id, size, path) of everything in the commit."""
    for line in git.run("ls-tree", "-r", "-z", "-l", "--full-tree", commit).split(b"\0"):
        if line:
            head, _, path = line.partition(b"\t")
            mode, _, oid, size = head.decode().split()
            yield mode, oid, int(size) if size.isdecimal() else 0, os.fsdecode(path)
