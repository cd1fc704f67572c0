"""The user that a step runs as, and what its environment gets from the host, by allow lists.

The worker's own environment holds credentials; no deny list could be complete.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import resource
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import PlatformError
from engine.orders import StepOrder
from runners.guard.strays import mark

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED = ("HOME", "LANG", "LANGUAGE", "LOGNAME", "SHELL", "TZ", "USER")
_PASSED_PREFIX = "LC_"

# Package sources. These may hold credentials of a private index, so only installers see them.
_INSTALLERS = frozenset(
    """
    HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy all_proxy
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS DENO_TLS_CA_STORE
    UV_INDEX UV_INDEX_URL UV_DEFAULT_INDEX UV_EXTRA_INDEX_URL UV_FIND_LINKS UV_INDEX_STRATEGY
    UV_OFFLINE UV_SYSTEM_CERTS UV_NATIVE_TLS UV_CONFIG_FILE UV_PYTHON_DOWNLOADS UV_HTTP_TIMEOUT
    PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_TRUSTED_HOST PIP_CERT
    PIP_CONFIG_FILE NPM_CONFIG_REGISTRY npm_config_registry NPM_CONFIG_USERCONFIG
    npm_config_userconfig BUN_CONFIG_REGISTRY NPM_REGISTRY NPM_TOKEN
    GOPROXY GONOPROXY GOPRIVATE GOSUMDB GONOSUMDB GONOSUMCHECK GOINSECURE GOAUTH GOVCS
    """.split()
)
_PLAIN_SHELL = "/bin/sh"
_ACT_S = 30.0
_PR_SET_DUMPABLE = 4


@dataclass(frozen=True, slots=True)
class User:
    """The system user that a step runs as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str

    @property
    def owner(self) -> tuple[int, int]:
        return self.uid, self.gid

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that name the user."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell}


def find_user(name: str) -> User:
    """The system user `name`; PlatformError if it does not exist or this process may not become
    it."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise PlatformError(f"the system user {name!r} does not exist on this host") from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise PlatformError(f"a process that runs programs as {name!r} must be started as root")
    groups = os.getgrouplist(name, entry.pw_gid)
    return User(
        name, entry.pw_uid, entry.pw_gid, tuple(groups), entry.pw_dir, find_shell(entry.pw_uid)
    )


def act_as(user: User, *argv: str, text: str = "") -> str:
    """Run a short command as `user` and return its output: this process touches nothing by a path
    that the user can change. Raises OSError with the command's own words."""
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, check=False, cwd="/",
            env={"PATH": DEFAULT_PATH, "LC_ALL": "C"}, timeout=_ACT_S,
            user=user.uid, group=user.gid, extra_groups=user.groups,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"no answer within {_ACT_S:g} s") from None
    if done.returncode != 0:
        raise OSError(errno.EACCES, f"{done.stderr.strip()[-300:]} (as the user {user.name})")
    return done.stdout


def find_shell(uid: int) -> str:
    """The login shell of a user of this host; /bin/sh if it has no usable one."""
    try:
        shell = pwd.getpwuid(uid).pw_shell
    except KeyError:  # a container may run as any uid
        return _PLAIN_SHELL
    return _PLAIN_SHELL if not shell or shell.endswith(("/nologin", "/false")) else shell


def harden() -> None:
    """Close this process's memory and environment to other processes of its user; no core dumps.

    Steps with the same uid then cannot read /proc/<worker>/environ, but still the user's files.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not set_process_option(_PR_SET_DUMPABLE, 0) and sys.platform == "linux":
        raise PlatformError(
            "could not close this process to other processes of its user (PR_SET_DUMPABLE)"
        )


def set_process_option(option: int, value: int) -> bool:
    """prctl(2); False if the system lacks it or refuses."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)


def clean_path(path: str | None = None) -> str:
    """The worker's PATH without its own virtual environment: `pip install` in a step must not reach
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


def build_base(
    path: str, extra: Iterable[str], user: User | None, fixed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What a step gets from the host: `path`, locale, time zone, home, shell, what `extra` names,
    and `fixed` as it is."""
    worker = os.environ
    base = dict(fixed or {})
    base |= {name: worker[name] for name in (*_PASSED, *extra) if name in worker}
    base |= {name: value for name, value in worker.items() if name.startswith(_PASSED_PREFIX)}
    base["PATH"] = path
    if user is not None:
        base |= user.environment
    # else bash looks it up in /etc/passwd at every start
    base.setdefault("SHELL", find_shell(os.geteuid()))
    if not base.keys() & {"LANG", "LC_ALL", "LC_CTYPE"}:
        base["LC_CTYPE"] = "C.UTF-8"
    return base


def for_installer(
    base: Mapping[str, str], order: StepOrder, keeper: str, extra: Iterable[str]
) -> dict[str, str]:
    """The environment of installers: package sources from the worker, nothing from the author."""
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
        **mark(order.attempt, keeper),
    }


def _has_certificates() -> bool:
    """Whether the host has a certificate store; uv then trusts what the operator trusts."""
    return sys.platform == "darwin" or Path("/etc/ssl/certs/ca-certificates.crt").exists()
