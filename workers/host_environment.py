"""What the commands of a workflow action find in their environment: the worker's own, less what is
Stroem's secret."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from runners.host.environment import User, clean_path

# Settings, tokens and addresses of database and broker, by name; whatever else holds one of them
# goes by its value.
_PREFIXES = (
    "STROEM",
    "DJANGO_",
    "PG",
    "CELERY_",
    "REDIS",
    "VALKEY",
    "RABBITMQ",
    "AMQP",
    "BROKER_",
    "DATABASE_",
)
_SHORTEST = 6  # a value so short is no credential


def inherit(
    withheld: Collection[str], user: User | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The worker's environment without its credentials. `withheld` are values that must not be
    handed on."""
    secrets = [value for value in withheld if len(value) >= _SHORTEST]
    found = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_PREFIXES) and not any(secret in value for secret in secrets)
    }
    found["PATH"] = clean_path(found.get("PATH"))
    found.pop("VIRTUAL_ENV", None)
    if user is not None:
        found |= user.environment
    return found
