"""`manage.py server`: the web server for API, admin and live pages."""

from __future__ import annotations

import os
import signal
import threading
import time
from argparse import SUPPRESS, ArgumentParser
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError, connections

from console.arguments import check_address, port_number, weak_addresses, whole_number
from console.managed import OurCommand, require_database
from engine.errors import InputError
from stroem_project.connections import BoundedConnection
from stroem_project.web import limit_statements

GRACE_S = 3  # for open requests and streams
MOST_SENT_BYTES = 4096  # in one message of a WebSocket: callers have nothing to say
RETRY_S = 2.0


class Command(OurCommand):
    help = "Serve the API and the admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", help="address to listen on (default: the `listen` setting)")
        parser.add_argument(
            "--port", type=port_number, help="port to listen on (default: the `listen` setting)"
        )
        parser.add_argument(
            "--lifeline-fd",
            type=int,
            help=SUPPRESS,  # `up` uses it: stop when this descriptor closes
        )
        parser.add_argument(
            "--workers",
            type=whole_number(1, 64),
            default=1,
            help="number of server processes (default: 1)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        limit_statements()
        if options["lifeline_fd"] is None:  # else `up` has looked
            config = settings.STROEM
            weak = weak_addresses(config.allowed_hosts, config.auth.base_url)
            if weak:
                raise CommandError("\n".join(weak), returncode=2)
        host = options["host"] or settings.STROEM.listen_host
        port = settings.STROEM.listen_port if options["port"] is None else options["port"]
        check_address(host, port, "`--port {port}`")
        require_database()
        if options["lifeline_fd"] is not None:
            from standalone.supervision.lifeline import watch  # only `up` and `run` ask for it

            watch(options["lifeline_fd"], _end)
        if os.environ.get("STROEM_ADMIN_EMAIL") or settings.STROEM.auth.initial_user is not None:
            self._refuse_short_password()
            threading.Thread(target=self._make_first_admin, name="first-admin", daemon=True).start()
        uvicorn.run(
            "stroem_project.asgi:application",
            host=host,
            port=port,
            workers=options["workers"] if options["workers"] > 1 else None,
            timeout_graceful_shutdown=GRACE_S,
            lifespan="off",
            http=BoundedConnection,
            ws="websockets-sansio",
            ws_max_size=MOST_SENT_BYTES,
            ws_per_message_deflate=False,
            proxy_headers=False,  # `stroem_project.proxies` reads those of trusted proxies
            server_header=False,
            access_log=False,
            log_config=None,  # Django's logging settings apply
        )

    def _refuse_short_password(self) -> None:
        """Wait for the tables only where a short password may be refused: an account that is there
        keeps its own."""
        from apps.accounts.services import short_password

        if short_password() is None:
            return
        try:
            self._make_first_admin()
        except InputError as error:
            raise CommandError(str(error), returncode=2) from error

    def _make_first_admin(self) -> None:
        """Create the administrator named by environment or settings once the tables exist; the
        server does not wait for that."""
        from apps.accounts.services import ensure_first_admin

        while True:
            try:
                email, made_up = ensure_first_admin()
            except DatabaseError:
                time.sleep(RETRY_S)
                continue
            finally:
                connections.close_all()
            if made_up is not None:
                self.stdout.write(f"{email} signs in with the password {made_up} (shown this once)")
            return


def _end() -> None:
    """Stop as on Ctrl-C, and by force if that takes too long."""
    killer = threading.Timer(GRACE_S + 1, os._exit, (1,))
    killer.daemon = True
    killer.start()
    os.kill(os.getpid(), signal.SIGTERM)
