"""Upkeep of sessions."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone

from apps.signin.models import SignOn


def forget_old() -> int:
    """Remove sessions that are over, and what no session can need any more; returns how many."""
    Session.objects.filter(expire_date__lt=timezone.now()).delete()
    oldest = timezone.now() - timedelta(seconds=settings.SESSION_COOKIE_AGE)
    return SignOn.objects.filter(created_at__lt=oldest).delete()[0]
