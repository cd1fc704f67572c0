"""What other rooms set off here."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from apps.agents import spending
from apps.agents.models import Conversation


def on_removal(job_ids: Sequence[UUID]) -> None:
    """Remove the conversations of removed jobs, but not what they took today."""
    spending.keep(job_ids)
    Conversation.objects.filter(job_id__in=list(job_ids)).delete()
