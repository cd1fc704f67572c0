"""Rules about templates."""

from __future__ import annotations

CHECKS = ()
