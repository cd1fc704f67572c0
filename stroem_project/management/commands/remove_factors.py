"""`manage.py remove_factors EMAIL`: for whoever has lost device and recovery codes."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from console.managed import OurCommand, require_database


class Command(OurCommand):
    help = (
        "Remove the second factors of an account: authenticator app, passkeys and recovery codes."
        " Its password alone opens it then."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", metavar="EMAIL", help="of the account")

    def handle(self, *args: Any, **options: Any) -> None:
        from apps.accounts.models import User
        from apps.audit import services as audit
        from apps.signin import factors

        require_database()
        user = User.objects.with_email(options["email"]).first()
        if user is None:
            raise CommandError(f"There is no account '{options['email']}'", returncode=2)
        with audit.during(audit.of_command()):
            gone = factors.remove_all(user)
        said = f"{gone} removed" if gone else "none were there"
        self.stdout.write(f"Second factors of {user.email}: {said}.")
