"""`stroem login`: keep the key of a server."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
import time
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from console.arguments import whole_number
from console.operator_command import TypedCommand
from engine.errors import InputError
from stroem import profiles
from stroem.errors import NotSignedIn, NotYet
from stroem.http import Server
from stroem.profiles import Profile, Profiles

LONGEST_KEY = 4096
USUAL_DAYS, MOST_DAYS = 90, 36_500  # that a key is valid
_NAME = "stroem on {}"
LOCAL = ("http://127.0.0.1", "http://localhost", "http://[::1]")


class Command(TypedCommand):
    help = (
        "Sign in to a server and keep the key in a file that only you can read. On a terminal, it"
        " shows a code that you confirm in a browser; with --key, it asks for an API key, with"
        " --email for the password, and makes a key. Away from a terminal, it reads an API key from"
        " standard input."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("url", help="address of the server")
        way = parser.add_mutually_exclusive_group()
        way.add_argument("--email", help="sign in with a password, and make an API key")
        way.add_argument("--key", action="store_true", help="ask for an API key")
        way.add_argument(
            "--device", action="store_true", help="show a code to confirm, also without a terminal"
        )
        parser.add_argument(
            "--scope",
            action="append",
            metavar="SCOPE",
            help="with a code: what the key is for, e.g. jobs:run; may be repeated",
        )
        parser.add_argument(
            "--days",
            type=whole_number(1, MOST_DAYS),
            help=f"with --email: how long the key is valid (default {USUAL_DAYS})",
        )
        parser.add_argument(
            "--ca-file", default="", metavar="PATH", help="certificates to trust, in PEM format"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def act(self, **options: Any) -> int:
        url = profiles.checked_url(options["url"])
        ca_file = os.path.abspath(options["ca_file"]) if options["ca_file"] else ""
        if url.startswith("http:") and not url.startswith(LOCAL):
            self.stderr.write(f"warning: {url} is not encrypted: others can read the key")
        email, days = options["email"], options["days"]
        with_code = options["device"] or (sys.stdin.isatty() and not options["key"] and not email)
        if options["scope"] and not with_code:
            raise InputError({"scope": "--scope is for signing in with a code: give --device"})
        if days is not None and not email:
            raise InputError({"days": "--days is for signing in with --email"})
        if email is not None:
            key = _made(Profile(url, "", ca_file), email, days or USUAL_DAYS)
        elif with_code:
            key = self._confirmed(Profile(url, "", ca_file), options["scope"])
        else:
            key = _given("API key: ").strip()
        if not key:
            raise InputError({"key": f"no API key was given: make one at {url}/admin/keys/"})
        me = Server(Profile(url, key, ca_file), patience_s=0).get("auth", "me")
        name = self._keep(options["profile"], Profile(url, key, ca_file, me["email"]))
        said = f"{url}: signed in as {me['email']} (profile {name})"
        told = {"url": url, "email": me["email"], "profile": name}
        self.stdout.write(json.dumps(told) if options["json"] else said)
        return 0

    def _confirmed(self, profile: Profile, scopes: list[str] | None) -> str:
        """A key that somebody confirms in a browser."""
        server = Server(profile)
        wanted: dict[str, Any] = {"client_name": _NAME.format(socket.gethostname())[:150]}
        if scopes:
            wanted["scopes"] = scopes
        asked = server.send("POST", "auth", "device", body=wanted)
        self.stderr.write(
            f"Open {asked['verification_uri']} and confirm the code {asked['user_code']}"
        )
        self.stderr.flush()
        given_up = time.monotonic() + asked["expires_in"]
        body = {"device_code": asked["device_code"]}
        while time.monotonic() < given_up:
            time.sleep(asked["interval"])
            with suppress(NotYet):
                return str(
                    server.send("POST", "auth", "device", "token", body=body)["access_token"]
                )
        raise InputError({"code": "nobody has confirmed the code; run the command again"})

    def _keep(self, name: str | None, profile: Profile) -> str:
        """The first one, and one without a name, is the one to use from now on."""
        file = profiles.file_of(os.environ)
        known = profiles.load(file)
        chosen = name or profiles.USUAL
        current = known.current if name and known.current in known.by_name else chosen
        profiles.save(file, Profiles(current, {**known.by_name, chosen: profile}))
        return chosen


def _made(profile: Profile, email: str, days: int) -> str:
    """A key that a password gets."""
    password = _given(f"Password of {email}: ")
    body = {"email": email, "password": password}
    try:
        token = Server(profile).send("POST", "auth", "login", body=body)["access_token"]
    except NotSignedIn as error:
        raise NotSignedIn(str(error).rpartition(": run ")[0]) from None
    signed_in = Server(Profile(profile.url, token, profile.ca_file))
    asked = {"name": _NAME.format(socket.gethostname())[:200], "expires_in_days": days}
    return str(signed_in.send("POST", "auth", "api-keys", body=asked)["key"])


def _given(prompt: str) -> str:
    """From whoever is at the terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        return getpass.getpass(prompt)
    return sys.stdin.readline(LONGEST_KEY).rstrip("\r\n")
