"""Settings that anybody could guess or abuse are refused before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from console.arguments import weak_addresses
from standalone.management.commands.up import Command

ROOT = Path(__file__).resolve().parents[2]
TYPED = "abcabcabc" * 5


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("STROEM__ALLOWED_HOSTS", "*", "allowed_hosts must not contain '*'"),
        (
            "STROEM__AUTH__BASE_URL",
            "http://flows.example.com",
            "auth.base_url must begin with https://, as flows.example.com is a public address",
        ),
        ("STROEM_KEYS", "a" * 32, "STROEM_KEYS holds a key that repeats the same few characters"),
        ("STROEM_KEYS", TYPED, "STROEM_KEYS holds a key that repeats the same few characters"),
        ("STROEM__AUTH__JWT_SECRET", TYPED, "jwt_secret repeats the same few characters"),
        ("STROEM__WORKER_TOKEN", TYPED, "worker_token repeats the same few characters"),
    ],
)
@pytest.mark.parametrize("command", ["server", "up"])
def test_what_is_weak_is_refused_in_one_sentence(
    tmp_path: Path, command: str, name: str, value: str, sentence: str
) -> None:
    own = {
        "STROEM__DATA_DIR": str(tmp_path),
        "STROEM__LISTEN": "0.0.0.0:1",
        "STROEM__DB__URL": "postgresql://nobody@127.0.0.1:1/none",
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), command],
        env=os.environ | own | {name: value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert value == "*" or value.startswith("http") or value not in done.stderr


@pytest.mark.parametrize(
    "address",
    [
        "https://flows.example.com", "http://localhost:8080", "http://127.0.0.1", "http://[::1]:1",
        "http://10.1.2.3", "http://stroem", "http://stroem.lan", "http://stroem-server.flows.svc",
        None,
    ],
)  # fmt: skip
def test_private_addresses_and_https_are_fine(address: str | None) -> None:
    assert weak_addresses(("flows.example.com",), address) == []


def test_up_on_this_machine_alone_warns(settings: Any) -> None:
    settings.STROEM = replace(django_settings.STROEM, allowed_hosts=("*",))
    told = StringIO()
    Command(stdout=told)._check_addresses("127.0.0.1")
    assert "WARNING: allowed_hosts must not contain '*'" in told.getvalue()
