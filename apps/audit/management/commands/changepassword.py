"""Django's command, whose new password is in the audit log."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.management.commands import changepassword
from django.db import transaction

from apps.audit import services as audit


class Command(changepassword.Command):
    def handle(self, *args: Any, **options: Any) -> Any:
        with audit.during(audit.of_command()), transaction.atomic():
            return super().handle(*args, **options)
