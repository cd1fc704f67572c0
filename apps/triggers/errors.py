"""What triggers refuse."""

from __future__ import annotations

from engine.errors import Conflict


class NotListed(Conflict):
    """The files of the workspace do not have the trigger any more."""
