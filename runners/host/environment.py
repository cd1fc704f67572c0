"""What a process of a step finds in its environment: built from nothing, by allow lists.

The worker's own environment holds its credentials; no rule that takes names away could be complete.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from engine.orders import INPUT_FILE, StepOrder
from runners.guard.strays import ATTEMPT_MARK, KEEPER_MARK
from runners.host.process import User, find_shell

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED = ("HOME", "LANG", "LANGUAGE", "LOGNAME", "SHELL", "TZ", "USER")
_PASSED_PREFIX = "LC_"

# Where packages come from. These may carry the credentials of a private index, so installers see
# them and steps do not.
_INSTALLERS = frozenset(
    {
        *(
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "NO_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "all_proxy",
        ),
        *(
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "REQUESTS_CA_BUNDLE",
            "NODE_EXTRA_CA_CERTS",
            "DENO_TLS_CA_STORE",
        ),
        *(
            "UV_INDEX",
            "UV_INDEX_URL",
            "UV_DEFAULT_INDEX",
            "UV_EXTRA_INDEX_URL",
            "UV_FIND_LINKS",
            "UV_INDEX_STRATEGY",
        ),
        *(
            "UV_OFFLINE",
            "UV_SYSTEM_CERTS",
            "UV_NATIVE_TLS",
            "UV_CONFIG_FILE",
            "UV_PYTHON_DOWNLOADS",
            "UV_HTTP_TIMEOUT",
        ),
        *(
            "PIP_INDEX_URL",
            "PIP_EXTRA_INDEX_URL",
            "PIP_FIND_LINKS",
            "PIP_NO_INDEX",
            "PIP_TRUSTED_HOST",
            "PIP_CERT",
        ),
        *("PIP_CONFIG_FILE", "NPM_CONFIG_REGISTRY", "npm_config_registry", "NPM_CONFIG_USERCONFIG"),
        *("npm_config_userconfig", "BUN_CONFIG_REGISTRY", "NPM_REGISTRY", "NPM_TOKEN"),
        *(
            "GOPROXY",
            "GONOPROXY",
            "GOPRIVATE",
            "GOSUMDB",
            "GONOSUMDB",
            "GONOSUMCHECK",
            "GOINSECURE",
            "GOAUTH",
            "GOVCS",
        ),
    }
)


def clean_path(path: str | None = None) -> str:
    """The worker's PATH without its own virtual environment: `pip install` in a step may not reach
    the worker."""
    own = (
        {os.path.realpath(os.path.dirname(sys.executable))}
        if sys.prefix != sys.base_prefix
        else set()
    )
    folders = (path if path is not None else os.environ.get("PATH", DEFAULT_PATH)).split(os.pathsep)
    return os.pathsep.join(
        folder for folder in folders if folder and os.path.realpath(folder) not in own
    )


def build_base(path: str, extra: Iterable[str], user: User | None) -> dict[str, str]:
    """What a step gets from the host: `path`, locale, time zone, home, shell, and what `extra`
    names."""
    worker = os.environ
    base = {name: worker[name] for name in (*_PASSED, *extra) if name in worker}
    base |= {name: value for name, value in worker.items() if name.startswith(_PASSED_PREFIX)}
    base["PATH"] = path
    if user is not None:
        base |= user.environment
    # or bash would look for it in /etc/passwd at every start
    base.setdefault("SHELL", find_shell(os.geteuid()))
    if not base.keys() & {"LANG", "LC_ALL", "LC_CTYPE"}:
        base["LC_CTYPE"] = "C.UTF-8"
    return base


def for_step(base: Mapping[str, str], order: StepOrder, keeper: str) -> dict[str, str]:
    """The environment of the step itself. The marks come last: an author's `env` cannot take them
    away."""
    return {
        **base,
        "TMPDIR": str(order.scratch_dir),
        **order.env,
        **({INPUT_FILE: str(order.input_path)} if order.input_path is not None else {}),
        ATTEMPT_MARK: order.attempt,
        KEEPER_MARK: keeper,
    }


def for_installer(
    base: Mapping[str, str], order: StepOrder, keeper: str, extra: Iterable[str]
) -> dict[str, str]:
    """The environment of what prepares a step: package sources from the worker, nothing of the
    author's."""
    worker = os.environ
    sources = {name: worker[name] for name in (*_INSTALLERS, *extra) if name in worker}
    trust = (
        {}
        if sources.keys() & {"UV_SYSTEM_CERTS", "SSL_CERT_FILE"} or not _has_certificates()
        else {"UV_SYSTEM_CERTS": "1"}
    )
    return {
        **base,
        "TMPDIR": str(order.scratch_dir),
        "UV_PYTHON_DOWNLOADS": "never",
        **trust,
        **sources,
        ATTEMPT_MARK: order.attempt,
        KEEPER_MARK: keeper,
    }


def _has_certificates() -> bool:
    """Whether the host has a store of certificates; uv then trusts what the operator trusts."""
    return sys.platform == "darwin" or Path("/etc/ssl/certs/ca-certificates.crt").exists()
