"""The beginning of an artifact for people, as plain values: templates escape all of it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import Literal

from apps.artifacts import blobs
from apps.artifacts.models import Artifact
from engine import artifacts as rules

MOST_BYTES = 256 * 1024
MOST_ROWS, MOST_COLUMNS, MOST_CELL = 200, 50, 500
PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
Kind = Literal["text", "table", "markdown", "picture", "frame", "document", "none"]


@dataclass(frozen=True, slots=True)
class Preview:
    """`frame`: drawn by the browser in a sandbox; `document`: by its viewer of PDF."""

    kind: Kind
    text: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    is_cut: bool = False


def preview_of(row: Artifact) -> Preview:
    """Raises StorageAway."""
    if row.content_type in PICTURES:
        return Preview("picture")
    if row.content_type == rules.PDF:
        return Preview("document")
    if row.content_type in (rules.HTML, rules.SVG):
        return Preview("frame")
    if not _is_text(row.content_type):
        return Preview("none")
    with blobs.open_blob(row.blob, 0, MOST_BYTES) as stream:
        text = stream.read(MOST_BYTES).decode("utf-8", "replace")
    return _of_text(row.content_type, text, is_cut=row.size_bytes > MOST_BYTES)


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind in (
        "application/json", "application/xml", "application/yaml"
    )  # fmt: skip


def _of_text(kind: str, text: str, *, is_cut: bool) -> Preview:
    if kind == "text/csv" and (table := _table(text, is_cut=is_cut)) is not None:
        return table
    if kind == "text/markdown":
        return Preview("markdown", text, is_cut=is_cut)
    if kind == "application/json" and not is_cut:
        return Preview("text", _indented(text))
    return Preview("text", text, is_cut=is_cut)


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _table(text: str, *, is_cut: bool) -> Preview | None:
    """The first rows; None if it does not read as a table."""
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    found: list[tuple[str, ...]] = []
    try:
        for cells in csv.reader(io.StringIO(text), delimiter=separator):
            if len(found) > MOST_ROWS:
                is_cut = True
                break
            is_cut |= len(cells) > MOST_COLUMNS
            found.append(tuple(cell[:MOST_CELL] for cell in cells[:MOST_COLUMNS]))
    except csv.Error:
        return None
    if not found:
        return None
    return Preview("table", head=found[0], rows=tuple(found[1:]), is_cut=is_cut)
