"""Encrypts values that may contain secrets before they reach the database: AES-256-GCM, with
rotating keys.

A sealed value is `S1`, the first 4 bytes of the key's id, a nonce of 12 bytes and the cipher text.
The first key of `STROEM_KEYS` seals; every key of the list opens.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from typing import Any

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import connection
from django.db.models import Model
from psycopg import sql

from apps.workspaces.errors import SealError

_MARK = b"S1"
_ID, _NONCE = 4, 12


def seal_bytes(plain: bytes) -> bytes:
    """`plain`, encrypted under the newest key."""
    key_id, cipher = _ciphers(tuple(settings.STROEM_KEYS))[0]
    nonce = os.urandom(_NONCE)
    head = _MARK + key_id
    return head + nonce + cipher.encrypt(nonce, plain, head)


def unseal_bytes(sealed: bytes | memoryview) -> bytes:
    """The decrypted bytes. Raises SealError if no key fits or a byte was changed."""
    data = bytes(sealed)
    head, nonce, body = data[: 2 + _ID], data[2 + _ID : 2 + _ID + _NONCE], data[2 + _ID + _NONCE :]
    if head[:2] != _MARK:
        raise SealError("a stored value is not sealed; it cannot be trusted")
    for key_id, cipher in _ciphers(tuple(settings.STROEM_KEYS)):
        if key_id == head[2:]:
            try:
                return cipher.decrypt(nonce, body, head)
            except InvalidTag:
                raise SealError("a sealed value was changed after it was stored") from None
    raise SealError(
        f"a stored value was sealed with key {head[2:].hex()}, which is not among STROEM_KEYS; add"
        " that key to the list"
    )


def store(row: Model, sealed: bytes) -> None:
    """Write the row's column `sealed`, in the caller's transaction. As a parameter of its own:
    Django writes bytes into the statement, as hex, which takes four times their size in memory."""
    table, key = sql.Identifier(row._meta.db_table), sql.Identifier(row._meta.pk.attname)
    statement = sql.SQL("UPDATE {} SET sealed = %b WHERE {} = %s").format(table, key)
    with connection.wrap_database_errors:
        psycopg.Cursor(connection.connection).execute(statement, (sealed, row.pk))


def seal(value: Any) -> bytes:
    """A JSON value, encrypted under the newest key."""
    return seal_bytes(json.dumps(value, separators=(",", ":"), allow_nan=False).encode())


def unseal(sealed: bytes | memoryview) -> Any:
    """The decrypted JSON value. Raises SealError if no key fits or a byte was changed."""
    return json.loads(unseal_bytes(sealed))


def check() -> None:
    """Seal and unseal a probe. Raises SealError if that fails; the process must not start then."""
    probe = b"stroem round trip " + os.urandom(8)
    sealed = seal_bytes(probe)
    if probe in sealed or unseal_bytes(sealed) != probe:
        raise SealError("sealing does not encrypt; check STROEM_KEYS")


@lru_cache(maxsize=4)
def _ciphers(keys: tuple[str, ...]) -> tuple[tuple[bytes, AESGCM], ...]:
    if not keys or any(len(key) < 32 for key in keys):
        raise SealError(
            "STROEM_KEYS must hold keys of at least 32 characters; make one with `openssl rand"
            " -base64 32`"
        )
    material = [hashlib.sha256(b"stroem seal" + key.encode()).digest() for key in keys]
    return tuple((hashlib.sha256(b"id" + key).digest()[:_ID], AESGCM(key)) for key in material)
