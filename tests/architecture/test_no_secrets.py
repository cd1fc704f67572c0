"""No file of the repository holds a secret."""

from __future__ import annotations

import random
import string
import subprocess
from pathlib import Path

import pytest

from tests.architecture.secret_forms import FORMS, find_secrets

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {
    ("tests/apps/workspaces/test_sources.py", "password in an address"),  # made up
    (
        "tests/engine/test_webhooks.py",
        "random text with a telling name",
    ),  # published with a standard
}
SKIPPED = {".git", ".venv", "var", "node_modules", "__pycache__"}
LETTERS = string.ascii_letters + string.digits


def made_up(length: int, letters: str = LETTERS) -> str:
    return "".join(random.Random(7).choices(letters, k=length))


PLANTED = {
    "private key": "-----BEGIN RSA PRIVATE " + "KEY-----\n" + made_up(64),
    "AWS access key": "AK" + "IA" + made_up(16, string.ascii_uppercase),
    "GitHub token": "gh" + "p_" + made_up(36),
    "GitLab token": "gl" + "pat-" + made_up(20),
    "Slack token": "xo" + "xb-" + made_up(24),
    "Google key": "AI" + "za" + made_up(35),
    "Stripe key": "sk_" + "live_" + made_up(24),
    "model provider's key": "sk-" + "ant-" + made_up(40),
    "npm or PyPI token": "np" + "m_" + made_up(36),
    "age key": "AGE-SECRET-" + "KEY-1" + made_up(58, string.ascii_uppercase),
    "API key of Stroem": "st" + "rm_" + made_up(64, "0123456789abcdef"),
    "signed token": ".".join(("ey" + "J" + made_up(20), "ey" + "J" + made_up(30), made_up(43))),
    "password in an address": "postgresql://stroem:" + made_up(20) + "@db/stroem",
}


def files() -> list[str]:
    """Tracked ones; in a copy without history, all."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout.splitlines()
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [str(path) for path in found if not SKIPPED & set(path.parts)]


def test_no_file_holds_a_secret() -> None:
    found = []
    for name in files():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):  # a picture, or removed meanwhile
            continue
        said = [(line, what) for line, what in find_secrets(text) if (name, what) not in KNOWN]
        found += [f"{name}:{line}: {what}" for line, what in said]
    assert not found, "\n".join(found)
    assert len(files()) > 500


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("around", ["{}", "key = '{}'\n", "# a comment\n  - {}  # in use\n"])
def test_a_planted_secret_is_found(form: str, around: str) -> None:
    text = "one\ntwo\n" + around.format(PLANTED[form])
    found = list(find_secrets(text))
    assert form in {what for _, what in found}
    assert all(line > 2 for line, _ in found)


@pytest.mark.parametrize("name", ["PASSWORD", "api_key", "db-secret", "STROEM_TOKEN", "apiKey"])
def test_random_text_with_a_telling_name_is_found(name: str) -> None:
    assert list(find_secrets(f"{name}: {made_up(32)}\n")) == [
        (1, "random text with a telling name")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "password: '${POSTGRES_PASSWORD:?set it in .env}'",
        "token: change-me-to-a-random-string-of-32-characters",
        "secret_key_of_the_workspace = find_the_key_of_the_workspace_by_name",
        "postgresql://stroem:secret@db/stroem",
        "    --hash=sha256:" + made_up(64, "0123456789abcdef"),
    ],
)
def test_what_only_speaks_of_secrets_is_none(text: str) -> None:
    assert list(find_secrets(text)) == []
