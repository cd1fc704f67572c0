"""How passwords are hashed, and tokens, which are random and need no slow hash."""

from __future__ import annotations

import hashlib

from django.contrib.auth.hashers import Argon2PasswordHasher


class PasswordHasher(Argon2PasswordHasher):
    """Argon2id with the parameters that RFC 9106 recommends where memory is scarce: two hashes at
    once take 128 MiB. Hashes made with others are renewed at the next sign-in."""

    time_cost = 3
    memory_cost = 64 * 1024  # KiB
    parallelism = 4


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
