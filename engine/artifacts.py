"""Names and types of files that steps leave behind. Never the step's word: its bytes decide."""

from __future__ import annotations

from urllib.parse import quote

LONGEST = 255
HEAD_BYTES = 4096
TEXT, BINARY = "text/plain", "application/octet-stream"
HTML, SVG, PDF = "text/html", "image/svg+xml", "application/pdf"
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", PDF),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
)
_BY_ENDING = {
    "csv": "text/csv",
    "htm": HTML,
    "html": HTML,
    "json": "application/json",
    "log": TEXT,
    "markdown": "text/markdown",
    "md": "text/markdown",
    "svg": SVG,
    "txt": TEXT,
    "xml": "application/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
}
# what a browser draws without running anything
HARMLESS = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", TEXT})


def find_objection(name: str) -> str | None:
    """Why no file may be kept under this name; None if it may."""
    if not name or len(name) > LONGEST:
        return f"must have 1 to {LONGEST} letters"
    if not name.isprintable() or "\\" in name:
        return "must not contain control characters or '\\'"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "must not contain empty parts, '.' or '..'"
        if part.startswith("-"):
            return "must not begin with '-'"
    return None


def type_of(name: str, head: bytes) -> str:
    """The content type, by the first HEAD_BYTES of a file, then by the ending of its name."""
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if not _is_text(head):
        return BINARY
    start = head.lstrip()[:64].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return HTML
    if b"<svg" in head.lower():
        return SVG
    _, dot, ending = name.rpartition(".")
    return _BY_ENDING.get(ending.lower(), TEXT) if dot else TEXT


def _is_text(head: bytes) -> bool:
    """Whether it reads as UTF-8, but for a character that the end of `head` may have cut."""
    if b"\0" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and len(head) - error.start < 4
    return True


def address(job_id: str, name: str, step: str | None = None) -> str:
    """Where the API serves it, relative to the server; `step` where names are not unique."""
    path = f"/api/jobs/{job_id}/artifacts/{quote(name, safe='')}"
    return f"{path}?step={quote(step, safe='')}" if step is not None else path
