"""One row for each act, and the count of those that upkeep has removed."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Func

NOW = Func(function="clock_timestamp")
ORDER = ("-at", "-id")


class Entry(models.Model):
    """What somebody did. The database prevents changes and deletion. It outlives what it is about,
    so it holds names instead of references."""

    at = models.DateTimeField(db_default=NOW)
    actor = models.CharField(max_length=254, blank=True, help_text="E-mail; empty: not known")
    act = models.CharField(max_length=40, help_text="Kind of object and verb: secret.set")
    kind = models.CharField(max_length=30, help_text="Of the object; the first part of the act")
    object = models.CharField(max_length=400, blank=True, help_text="Its name or id")
    workspace = models.CharField(max_length=100, blank=True)
    via = models.CharField(max_length=10, help_text="page, api, mcp, command or server")
    address = models.CharField(max_length=100, blank=True, help_text="Of the caller")
    key = models.CharField(max_length=12, blank=True, help_text="First letters of the API key")
    changes = models.JSONField(
        default=dict, help_text="By field: before and after; of a secret only that it changed"
    )
    detail = models.CharField(max_length=500, blank=True)

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=ORDER, name="audit_newest"),
            *(
                models.Index(fields=[field, *ORDER], name=f"audit_{field}")
                for field in ("actor", "act", "kind", "object", "workspace", "address", "key")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.actor or self.via}: {self.act} {self.object}"


class Removal(models.Model):
    """What upkeep has removed and not told of yet: it outlives the process that did it."""

    ONLY: ClassVar = 1  # the one row
    id = models.SmallIntegerField(primary_key=True)
    until = models.DateTimeField()
    count = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.count} before {self.until}"
