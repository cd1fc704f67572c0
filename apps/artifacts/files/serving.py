"""Artifacts for browsers and programs. Their bytes are a step's word: nothing of them may run in
our origin, so they are drawn only where a browser runs nothing, or in a sandbox."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import IO, cast

from django.utils.http import content_disposition_header

from apps.artifacts import blobs
from apps.artifacts.models import Artifact
from engine import artifacts as rules

CACHE = "private, max-age=0, must-revalidate"
# An origin of its own without scripts, forms and requests, even if somebody opens it by itself.
SANDBOX = "; ".join(
    ("sandbox", "default-src 'none'", "img-src data:", "style-src 'unsafe-inline'",
     "frame-ancestors 'self'")
)  # fmt: skip
# A browser's viewer of PDF does not run in a sandbox; it is no part of our origin.
NO_SANDBOX = "default-src 'none'; object-src 'self'; frame-ancestors 'self'"
_DRAWN = rules.HARMLESS
_IN_SANDBOX = frozenset({rules.HTML, rules.SVG, rules.PDF})
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_SMALLER = re.compile(r"text/|application/(?:json|xml|yaml)|image/svg")


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file: all of them, or what a range asks for. `length` 0: out of range."""

    start: int
    length: int
    is_range: bool = False


def headers(row: Artifact, *, is_preview: bool = False) -> dict[str, str]:
    """How an artifact is served; `is_preview`: on a page of ours, in a frame."""
    is_drawn = row.content_type in _DRAWN or (is_preview and row.content_type in _IN_SANDBOX)
    kind = row.content_type
    if kind.startswith("text/"):
        kind = f"{kind}; charset=utf-8"
    last = row.name.rpartition("/")[2]
    return {
        "Content-Type": kind,
        "Content-Disposition": content_disposition_header(not is_drawn, last) or "attachment",
        "Content-Security-Policy": NO_SANDBOX if row.content_type == rules.PDF else SANDBOX,
        "X-Frame-Options": "SAMEORIGIN",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": CACHE,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Accept-Ranges": "bytes",
        "ETag": tag_of(row),
    }


def tag_of(row: Artifact) -> str:
    return f'"{row.blob.digest}"'


def part_of(row: Artifact, asked: str, if_range: str = "") -> Part:
    """What of it a `Range` asks for. Several ranges at once, and what is no range, get all."""
    whole = Part(0, row.size_bytes)
    found = _RANGE.fullmatch(asked.replace(" ", ""))
    if found is None or not any(found.groups()) or (if_range and if_range != tag_of(row)):
        return whole
    first, last = found.groups()
    if not first:
        length = min(int(last), row.size_bytes)
        return Part(row.size_bytes - length, length, is_range=True)
    start, end = int(first), int(last) if last else row.size_bytes - 1
    if last and end < start:
        return whole
    return Part(start, max(0, min(end, row.size_bytes - 1) - start + 1), is_range=True)


def zipped(rows: Iterable[Artifact]) -> Generator[bytes, None, None]:
    """One zip of them, a directory for each step, while it is made."""
    sink = _Sink()
    with zipfile.ZipFile(cast(IO[bytes], sink), "w") as archive:
        for row in rows:
            name = f"{row.step_name}/{row.name}"
            if rules.find_objection(name) is not None:  # storing has refused it already
                name = f"unnamed-{row.pk}"
            entry = zipfile.ZipInfo(name, row.created_at.timetuple()[:6])
            entry.external_attr = (0o755 if row.is_program else 0o644) << 16
            entry.compress_type = (
                zipfile.ZIP_DEFLATED if _SMALLER.match(row.content_type) else zipfile.ZIP_STORED
            )
            entry.file_size = row.size_bytes
            with archive.open(entry, "w", force_zip64=row.size_bytes > 1 << 30) as file:
                for piece in blobs.pieces(row.blob):
                    file.write(piece)
                    yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """Takes what is written until somebody fetches it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        found, self._pieces = b"".join(self._pieces), []
        return found
