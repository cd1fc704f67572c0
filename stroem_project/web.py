"""What only the web server's processes set."""

from __future__ import annotations

from typing import Any

from django.conf import settings

MOST_STATEMENT_S = 20
_TIMEOUT = f" -c statement_timeout={MOST_STATEMENT_S}s"


def limit_statements() -> None:
    """No statement of a request holds the database longer than MOST_STATEMENT_S. For processes that
    have not connected yet; a second call changes nothing."""
    options: dict[str, Any] = settings.DATABASES["default"]["OPTIONS"]
    if _TIMEOUT not in options["options"]:
        options["options"] += _TIMEOUT
