"""The key of a provider: as written, from the environment, or from a file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from engine.agents.providers import Provider
from engine.errors import PlatformError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def key_of(name: str, provider: Provider, environ: Mapping[str, str] = os.environ) -> str | None:
    """The provider's key in clear; None if it has none. Raises PlatformError with a cure."""
    if provider.api_key_file is not None:
        try:
            return provider.api_key_file.read_text().strip()
        except OSError as error:
            raise PlatformError(
                f"the key of provider '{name}' cannot be read: {provider.api_key_file}:"
                f" {error.strerror}"
            ) from None
    if provider.api_key is None:
        return None
    found = _VARIABLE.fullmatch(provider.api_key.strip())
    if found is None:
        return provider.api_key
    key = environ.get(found[1], "").strip()
    if not key:
        raise PlatformError(
            f"the key of provider '{name}' is missing: the environment of the agents process has"
            f" no variable {found[1]}"
        )
    return key
