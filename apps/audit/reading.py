"""Finding entries: filters, a search, pages from one cursor to the next, and the export."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from apps.audit.kinds import KINDS, VERBS, is_known
from apps.audit.models import ORDER, Entry
from engine.errors import InputError
from engine.plain import shorten

PIECE = 1000  # entries at once of an export
NEWEST = 5_000  # entries that a search reads through
MOST_FOUND = 1000  # of each column, where several are the term
EXACT = ("actor", "object", "workspace", "address", "key", "act")
PARTS = ("actor", "act", "object", "workspace", "address", "detail")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = re.compile(r"([0-9]{1,17})-([0-9]{1,18})")


COLUMNS = {
    "who": "actor",
    "what": "kind",
    "object": "object",
    "workspace": "workspace",
    "address": "address",
    "key": "key",
}


def chosen(
    named: Mapping[str, str], since: datetime | None = None, until: datetime | None = None
) -> QuerySet[Entry]:
    """Newest first. `named`: what these of COLUMNS must be; `what` is an act or a kind of
    object. Raises InputError."""
    if (what := named.get("what")) and not is_known(what):
        kind, dot, _ = what.partition(".")
        of_kind = f"no kind of object: give one of {', '.join(KINDS)}, or an act such as secret.set"
        of_verb = f"no act: what can be done is one of {', '.join(VERBS)}"
        said = of_verb if dot and kind in KINDS else of_kind
        raise InputError({"what": f"what: '{shorten(what)}' is {said}"})
    narrow: dict[str, Any] = {COLUMNS[name]: value for name, value in named.items() if value}
    if "." in narrow.get("kind", ""):
        narrow["act"] = narrow.pop("kind")
    times = {"at__gte": since, "at__lt": until}
    narrow |= {name: value for name, value in times.items() if value is not None}
    return Entry.objects.filter(**narrow).order_by(*ORDER)


def searched(rows: QuerySet[Entry], term: str) -> QuerySet[Entry]:
    """Those with a column that is the term, wherever they are; if there is none, those that hold it
    as a part, among the newest 5,000. Where several columns are it, the newest thousand of each. So
    a search costs the same in a log of any length."""
    term = term.strip().replace("\x00", "")[:400]
    if not term:
        return rows
    exact = [name for name in EXACT if Entry.objects.filter(**{name: term}).exists()]
    if len(exact) == 1:
        return rows.filter(**{exact[0]: term})
    found: set[int] = set()
    for name in exact:
        found.update(rows.filter(**{name: term}).values_list("pk", flat=True)[:MOST_FOUND])
    if not exact:
        parts = Q()
        for name in PARTS:
            parts |= Q(**{f"{name}__icontains": term})
        newest = Entry.objects.order_by(*ORDER).values("pk")[:NEWEST]
        some = Entry.objects.filter(parts, pk__in=newest)
        found.update(some.values_list("pk", flat=True))
    return rows.filter(pk__in=found)


def before(cursor: str) -> Q | None:
    """A condition for the entries after the one that the cursor names; None if it is none."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        return None
    at = EPOCH + timedelta(microseconds=int(found[1]))
    return Q(at__lte=at) & (Q(at__lt=at) | Q(pk__lt=int(found[2])))


def cursor_after(row: Entry) -> str:
    return f"{(row.at - EPOCH) // timedelta(microseconds=1)}-{row.pk}"


def exported(rows: QuerySet[Entry]) -> Iterator[Entry]:
    """All of them, newest first, a thousand at a time: the reader may be slow, and holds neither a
    transaction nor a connection meanwhile."""
    last: Entry | None = None
    while True:
        more = Q() if last is None else before(cursor_after(last))
        piece = list(rows.filter(more or Q())[:PIECE])
        yield from piece
        if len(piece) < PIECE:
            return
        last = piece[-1]


def as_json(row: Entry) -> dict[str, Any]:
    return {
        "id": row.pk,
        "at": row.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "who": row.actor,
        "what": row.act,
        "object": row.object,
        "workspace": row.workspace,
        "via": row.via,
        "address": row.address,
        "key": row.key,
        "changes": row.changes,
        "detail": row.detail,
    }


def lines(rows: QuerySet[Entry]) -> Iterator[bytes]:
    """JSON lines, a thousand in a piece."""
    piece: list[str] = []
    for row in exported(rows):
        piece.append(json.dumps(as_json(row), ensure_ascii=False))
        if len(piece) == PIECE:
            yield ("\n".join(piece) + "\n").encode()
            piece = []
    if piece:
        yield ("\n".join(piece) + "\n").encode()
