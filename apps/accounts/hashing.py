"""How passwords are hashed."""

from __future__ import annotations

from django.contrib.auth.hashers import Argon2PasswordHasher


class PasswordHasher(Argon2PasswordHasher):
    """Argon2id with the parameters that RFC 9106 recommends where memory is scarce: two hashes at
    once take 128 MiB. Hashes made with others are renewed at the next sign-in."""

    time_cost = 3
    memory_cost = 64 * 1024  # KiB
    parallelism = 4
