"""`manage.py up`: all of Stroem on this machine: database, broker, server, scheduler and one
worker."""

from __future__ import annotations

import json
import os
import signal
import threading
from argparse import ArgumentParser, ArgumentTypeError
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from console.arguments import check_address, is_loopback, port_number, weak_addresses
from console.operator_command import OurCommand
from engine.errors import InputError, StroemError
from standalone import addresses, preparation
from standalone.embedded import postgres, standing
from standalone.embedded.folders import write_private
from standalone.leaving import running_steps, what_became_of
from standalone.programs import (
    agents_program,
    check_worker_file,
    drain_s_of,
    manage_program,
    server_program,
    worker_program,
)
from standalone.supervision.lifeline import Lifeline
from standalone.supervision.supervisor import STORES_S, Supervisor

STOP_WITHIN_S = 4.5  # beside the time that running steps get
TEND_EVERY_S = 0.2
_USUAL = "server, scheduler and worker"


class Command(OurCommand):
    help = (
        "Run all of Stroem on this machine: database, broker, server, scheduler and a worker."
        " Ctrl-C stops it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--port",
            type=port_number,
            help="the server's port (default: $PORT or the `listen` setting)",
        )
        parser.add_argument("--worker-config", metavar="FILE", help="a worker-config.yaml")
        parser.add_argument(
            "--no-examples", action="store_true", help="do not import the example workspaces"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        known = settings.STROEM
        host, port = known.listen_host, _port(options["port"], known.listen_port)
        self._signals = Signals()
        try:
            check_worker_file(options["worker_config"])
            self._check_password(host)
            self._check_addresses(host)
        except StroemError as error:
            raise CommandError(str(error), returncode=2) from error
        try:
            lock = standing.take_lock(known.data_dir, self._say)
        except StroemError as error:
            raise CommandError(str(error)) from error
        lifeline = Lifeline(keep_open=(lock.fd,))
        supervisor = Supervisor(lifeline, self._say)
        try:
            self._signals.listen()
            check_address(host, port, "`PORT={port} make up`")
            self._start(supervisor, host, port, options)
            self._signals.is_starting = False
            while not self._signals.stop.wait(TEND_EVERY_S):
                supervisor.tend()
        except KeyboardInterrupt:
            pass
        except (StroemError, OSError) as error:
            raise CommandError(str(error)) from error
        finally:
            self._stop(supervisor, lifeline, options["worker_config"])
            lock.release()

    def _check_password(self, host: str) -> None:
        """A short password is for programs on this machine alone."""
        from apps.accounts.services import short_password

        refusal = short_password()
        if refusal is None or not os.environ.get("STROEM_ADMIN_PASSWORD"):
            return  # one of the settings is looked at when the account is made
        if not is_loopback(host):
            raise InputError({"password": f"{refusal}: {host} can be reached from elsewhere"})
        self._say(f"WARNING: {refusal}. It is accepted only because Stroem listens on {host};")
        self._say("WARNING: every user and every step of this machine can guess it.")

    def _check_addresses(self, host: str) -> None:
        """On a loopback address, only programs of this machine can make use of weak ones."""
        config = settings.STROEM
        for weak in weak_addresses(config.allowed_hosts, config.auth.base_url):
            if not is_loopback(host):
                raise CommandError(weak, returncode=2)
            self._say(f"WARNING: {weak}.")

    def _start(self, supervisor: Supervisor, host: str, port: int, options: dict[str, Any]) -> None:
        shown = f"[{host}]" if ":" in host else host
        listen = os.environ["STROEM__LISTEN"] = f"{shown}:{port}"
        self._start_stores(supervisor, listen)
        email, password = self._prepare(host, with_examples=not options["no_examples"])
        logs = settings.STROEM.data_dir / "log"
        programs = [
            server_program(logs, host, port),
            manage_program("scheduler", logs),
            worker_program(logs, options["worker_config"]),
        ]
        has_agents = bool(settings.STROEM.agents.providers)
        if has_agents:
            programs.append(agents_program(logs))
        seconds = supervisor.start(*programs)
        names = "server, scheduler, worker and agents" if has_agents else _USUAL
        self._say(f"{names}: ready after {seconds:.1f} s")
        sign_in = (
            f"{email} and the password {password} (shown this once)"
            if password
            else f"{email} and its password"
        )
        self._say(f"Stroem runs: open http://{listen}/ and sign in as {sign_in}. Ctrl-C stops it.")

    def _start_stores(self, supervisor: Supervisor, listen: str) -> None:
        """Start a database and a broker unless the settings name them; then use both."""
        given = settings.STROEM_GIVEN()
        db_url, broker_url = given.db.url, given.broker.url
        place = None if db_url and broker_url else standing.standing_in(settings.STROEM.data_dir)
        if db_url or place is None:
            self._say("database: the server named by the settings")
        else:
            settings.FORGET_OTHER_DATABASES()
            self._say(f"database: ready after {supervisor.start(place.database()):.1f} s")
            postgres.create_database(place.cluster)
            db_url = place.cluster.url()
        if broker_url or place is None:
            self._say("broker: the server named by the settings")
        else:
            self._say(f"broker: ready after {supervisor.start(place.broker()):.1f} s")
            broker_url = place.doorbell.url()
        assert db_url and broker_url
        addresses.use(db_url, broker_url)
        if not given.db.url and given.logs.archive is None:
            # its processes share one directory
            os.environ["STROEM__LOGS__ARCHIVE"] = "true"
        if place is not None:
            # for commands in other terminals while `up` runs
            pair = {"db_url": db_url, "broker_url": broker_url, "served_at": f"http://{listen}"}
            write_private(settings.PAIR_FILE, json.dumps(pair))

    def _prepare(self, host: str, *, with_examples: bool) -> tuple[str, str | None]:
        """Prepare tables, examples and the first administrator. Returns the e-mail, and the
        password if it was generated."""
        from apps.accounts.services import ensure_first_admin

        if preparation.migrate():
            self._say("database: tables migrated")
        if with_examples:
            imported, refused = preparation.import_examples()
            self._say(f"workspaces: {', '.join(imported) or 'no examples'}")
            for name, sentence in refused.items():
                self._say(f"workspaces: {name} was not imported: {sentence}")
        email, password = ensure_first_admin(may_be_short=is_loopback(host))
        addresses.hang_up()
        return email, password

    def _stop(self, supervisor: Supervisor, lifeline: Lifeline, config: str | None) -> None:
        """Also called when the start failed half-way. Running steps get time to end; a second
        Ctrl-C ends it."""
        self._signals.is_starting = False
        drain_s = drain_s_of(config)
        steps = running_steps(supervisor.pid_of("worker"))
        if steps:
            number = "1 step runs" if len(steps) == 1 else f"{len(steps)} steps run"
            self._say(f"{number}; waiting up to {drain_s:g} s. Ctrl-C again to stop them.")
        else:
            self._say("Stopping ...")
        supervisor.stop_applications(
            STOP_WITHIN_S + drain_s - STORES_S, lambda: self._signals.count
        )
        for sentence in what_became_of(steps):
            self._say(sentence)
        addresses.hang_up()
        supervisor.stop_stores(STORES_S)
        settings.PAIR_FILE.unlink(missing_ok=True)
        lifeline.close()

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


class Signals:
    """INT, TERM and HUP request a stop; during the start they interrupt at once."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.count = 0
        self.is_starting = True

    def listen(self) -> None:
        """Never undone: a signal at any time must not kill the process that has to clean up."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.stop.set()
        if self.is_starting:
            self.is_starting = False
            raise KeyboardInterrupt


def _port(option: int | None, listen_port: int) -> int:
    given = os.environ.get("PORT", "").strip()
    if option is not None or not given:
        return listen_port if option is None else option
    try:
        return port_number(given)
    except ArgumentTypeError as error:
        raise CommandError(f"PORT {error}, for example PORT=8090", returncode=2) from None
