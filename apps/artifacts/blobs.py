"""Bytes by their hash: put, read, clear away.

A row is written before its bytes, so that nothing is left behind unseen, and marked afterwards, so
that bytes are whole or absent. Every upload has a name of its own; of two equal ones, the second
is dropped. Reading needs no transaction; neither does `put`, which holds no connection while bytes
travel.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import IO, BinaryIO

from django.core.files.base import ContentFile
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.db.models import Exists, ForeignObjectRel, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from apps.artifacts.errors import ForeignStorage, StorageAway, TooLarge, Unsteady
from apps.artifacts.models import Blob, Installation
from apps.artifacts.stores import PIECE_BYTES, Source, Store, store, told

SMALL_BYTES = 1 << 18
UNUSED_FOR = timedelta(days=1)  # rows that name a blob are written within it
UNFINISHED_FOR = timedelta(days=2)  # no upload takes longer


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob that is whole. Rows name it by its id."""

    id: int
    digest: str
    size: int


def put(stream: BinaryIO, *, at_most: int | None = None) -> Stored:
    """Store the rest of this stream, if it is not there yet, in pieces.

    Raises StorageAway or a database's OperationalError when it may be repeated, TooLarge beyond
    `at_most` bytes, ForeignStorage. A row that names the blob must follow within UNUSED_FOR.
    """
    if not stream.seekable():
        with tempfile.TemporaryFile() as copy:
            _copy(stream, copy, at_most)
            copy.seek(0)
            return put(copy)
    upload = Upload(stream, at_most=at_most)
    try:
        return upload.go_on()
    except BaseException:
        upload.give_up()
        raise


class Upload:
    """Bytes on their way into the storage. After an outage, `go_on` sends only what the storage
    does not have yet. Whoever does not want to go on calls `give_up`."""

    def __init__(self, stream: BinaryIO, *, at_most: int | None = None) -> None:
        """`stream` can seek, and stays open."""
        self._stream = stream
        self._source = Source(stream)
        self._at_most = at_most
        self._known: tuple[str, int] | None = None  # digest and size
        self._row: Blob | None = None
        self._is_sent = False

    def go_on(self) -> Stored:
        """Raises as `put` does."""
        if self._known is None:
            self._source.go_back()
            self._known = _measure(self._stream, self._at_most)
        digest, size = self._known
        found = _use(digest, size)
        if found is not None:
            self.give_up()
            return found
        target = _verified(again=True)
        if self._row is None:
            key = f"{digest[:2]}/{digest}-{uuid.uuid4().hex[:12]}"
            self._row = Blob.objects.create(key=key)
        _let_go()
        if not self._is_sent:
            self._source.go_back()
            with told():
                target.append(self._row.key, self._source)
            if (self._source.digest, self._source.size) != self._known:
                raise Unsteady("the file was written to while it was stored")
            self._is_sent = True
        stored = _finish(self._row, digest, size)
        if stored is None:
            self.give_up()
            raise StorageAway("the storage was being cleared; put it again")
        return stored

    def give_up(self) -> None:
        """Leave nothing. What cannot be removed now is cleared away later."""
        row, self._row, self._is_sent = self._row, None, False
        if row is not None:
            with suppress(OSError):
                store().abandon(row.key, self._source)
            _give_up(row)
        self._source.forget()
        _let_go()


def open_blob(blob: Blob | Stored, offset: int = 0, length: int | None = None) -> IO[bytes]:
    """A stream of its bytes from `offset` on; the caller closes it. Raises StorageAway, also if it
    is gone."""
    row = blob if isinstance(blob, Blob) else Blob.objects.get(id=blob.id)
    rest = row.size_bytes - offset
    with told():
        try:
            return _verified().open_at(
                row.key, offset, rest if length is None else min(rest, length)
            )
        except FileNotFoundError as error:
            raise StorageAway(f"{store().where()} lacks the file {row.key}") from error


def pieces(
    blob: Blob | Stored, offset: int = 0, length: int | None = None
) -> Generator[bytes, None, None]:
    """The same, piece by piece; opened at once. Raises OSError if there are fewer bytes."""
    size = blob.size_bytes if isinstance(blob, Blob) else blob.size
    return _pieces(open_blob(blob, offset, length), size - offset if length is None else length)


def _pieces(stream: IO[bytes], length: int) -> Generator[bytes, None, None]:
    with stream:
        while length:
            piece = stream.read(min(SMALL_BYTES, length))
            if not piece:
                raise OSError("the storage has fewer bytes than it should")
            length -= len(piece)
            yield piece


def clear_unused(limit: int = 200) -> int:
    """Remove blobs that no row names, and what unfinished uploads left; returns how many."""
    gone = 0
    for row in _unused()[:limit]:
        if _leave(row):
            with told():
                _delete(row)
            row.delete()
            gone += 1
    return gone


def establish() -> None:
    """Mark the storage as that of this installation, unless another one already holds its bytes.
    For server and scheduler: a worker with a disk of its own must not be the first."""
    row = Installation.objects.first()
    if row is not None and row.marked_at is not None:
        holds = Blob.objects.filter(stored_at__isnull=False).exists()
        with told():
            if holds or store().exists(_mark(row.id)):
                return
    Installation.objects.bulk_create([Installation()], ignore_conflicts=True)
    with transaction.atomic():
        row = Installation.objects.select_for_update().get()
        with told():
            store().prepare()
            if not store().exists(_mark(row.id)):
                store().save(_mark(row.id), ContentFile(b"of this installation\n"))
        row.marked_at = Now()
        row.save(update_fields=["marked_at"])


def _mark(installation: uuid.UUID) -> str:
    return f"stroem-{installation}"


@cache
def _mark_of_ours() -> str:
    """The name of the mark, once it was seen in the storage."""
    row = Installation.objects.filter(marked_at__isnull=False).first()
    if row is None:
        raise StorageAway("no server or scheduler has prepared the storage yet")
    mark, target = _mark(row.id), store()
    with told():
        if target.exists(mark):
            return mark
    raise ForeignStorage(
        f"{target.where()} is not the storage of this installation: it lacks {mark}. Give server,"
        " scheduler and workers the same `storage`"
    )


def _verified(*, again: bool = False) -> Store:
    """The storage, if it bears our mark; `again`: also now, as what was mounted may be gone."""
    target, is_known = store(), _mark_of_ours.cache_info().currsize > 0
    mark = _mark_of_ours()
    if again and is_known:
        with told():
            if not target.exists(mark):
                raise StorageAway(f"{target.where()} has lost its mark {mark}: is it mounted?")
    return target


def _measure(stream: BinaryIO, at_most: int | None) -> tuple[str, int]:
    reader = Source(stream)
    while reader.read(PIECE_BYTES):
        if at_most is not None and reader.size > at_most:
            break
    if at_most is not None and reader.size > at_most:
        raise TooLarge(f"more than {at_most:,} bytes")
    return reader.digest, reader.size


def _copy(stream: BinaryIO, copy: IO[bytes], at_most: int | None) -> None:
    size = 0
    while piece := stream.read(PIECE_BYTES):
        size += len(piece)
        if at_most is not None and size > at_most:
            raise TooLarge(f"more than {at_most:,} bytes")
        copy.write(piece)


def _use(digest: str, size: int) -> Stored | None:
    """The blob with these bytes, kept from now on for UNUSED_FOR."""
    whole = Blob.objects.filter(
        digest=digest, size_bytes=size, stored_at__isnull=False, leaving_at__isnull=True
    )
    row = whole.first()
    if row is None or not whole.filter(id=row.id).update(used_at=Now()):
        return None
    return Stored(row.id, digest, size)


def _finish(row: Blob, digest: str, size: int) -> Stored | None:
    """The bytes are there; None if they are being cleared away. Somebody else may have stored the
    same in the meantime."""
    whole = {"digest": digest, "size_bytes": size, "stored_at": Now(), "used_at": Now()}
    try:
        with transaction.atomic():
            if Blob.objects.filter(id=row.id, leaving_at__isnull=True).update(**whole):
                return Stored(row.id, digest, size)
    except IntegrityError:
        found = _use(digest, size)
        if found is not None:
            return found
    finally:
        _let_go()
    return None


def _give_up(row: Blob) -> None:
    """Let it be cleared away soon; if the database is away, it is later."""
    with suppress(DatabaseError):
        Blob.objects.filter(id=row.id).update(leaving_at=Now())
    _let_go()


def _unused() -> QuerySet[Blob]:
    """What may go: unfinished for long, on its way out, or named by no row of any table."""
    named = Q()
    for relation in Blob._meta.get_fields(include_hidden=True):
        if isinstance(relation, ForeignObjectRel):
            rows = relation.related_model._base_manager
            named |= Q(Exists(rows.filter(**{relation.field.name: OuterRef("pk")})))
    unfinished = Q(stored_at__isnull=True, used_at__lt=Now() - UNFINISHED_FOR)
    unnamed = Q(stored_at__isnull=False, used_at__lt=Now() - UNUSED_FOR)
    found = Blob.objects.filter(unfinished | unnamed | Q(leaving_at__isnull=False))
    return (found.exclude(named) if named else found).order_by("used_at")


def _leave(row: Blob) -> bool:
    """From here on nobody finds it; False if somebody has used it."""
    still = _unused().order_by().filter(id=row.id, used_at=row.used_at)
    return bool(still.update(leaving_at=Now()))


def _delete(row: Blob) -> None:
    try:
        target = _verified(again=True)
        if row.stored_at is None:
            target.abandon(row.key, None)
        else:
            target.delete(row.key)
    except FileNotFoundError:
        return


def _let_go() -> None:
    """Give back this thread's connection, unless a transaction of the caller needs it."""
    if not connection.in_atomic_block:
        connections.close_all()
