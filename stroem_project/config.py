"""The settings file of server, scheduler and `up`: read, checked, frozen. No Django here.

One YAML file (named by STROEM_CONFIG, optional) and the environment over it:
STROEM__RECOVERY__LOST_RETRIES=3 is `recovery.lost_retries: 3`. What nobody set has a default,
except the addresses of database and broker: those stay None until they are given or `up` has
written them down (`<data_dir>/pair.json`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from engine.errors import StroemError
from stroem_project.config_source import Section, Setting, read_sources

ROOT = Path(__file__).resolve().parent.parent
HOUR_S, DAY_S = 3600, 86400
SAMPLE_TOKEN = "change-me-to-a-random-string-of-32-characters"  # noqa: S105  (refused below, so no secret)

AuthType = Literal["ssh_key", "token"]


class ConfigError(StroemError):
    """A setting is wrong; the message names its place and what would be right."""


@dataclass(frozen=True, slots=True)
class Database:
    url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Broker:
    url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GitAuth:
    type: AuthType
    key_path: Path | None = None
    key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    username: str = "x-access-token"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a workspace or a library comes from: a folder, or a git repository."""

    type: Literal["folder", "git"]
    path: Path | None = None
    url: str | None = None
    ref: str = "main"
    poll_interval_s: float = 60.0
    # a name under git_auth; one written in place stands there as `workspaces.NAME.auth`
    auth: str | None = None


@dataclass(frozen=True, slots=True)
class InitialUser:
    email: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Auth:
    base_url: str | None = None
    jwt_secret: str | None = field(default=None, repr=False)
    initial_user: InitialUser | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """A server that takes mail for those who are asked to approve."""

    host: str
    port: int
    sender: str
    user: str = ""
    password: str = field(default="", repr=False)
    security: Literal["starttls", "tls", "none"] = "starttls"


@dataclass(frozen=True, slots=True)
class Recovery:
    heartbeat_timeout_s: float = 30.0
    sweep_interval_s: float = 5.0
    unmatched_step_timeout_s: float = 30.0
    lost_retries: int = 2
    on_worker_lost: Literal["fail", "retry"] = "fail"


@dataclass(frozen=True, slots=True)
class Retention:
    """None means: kept for ever."""

    worker_hours: float | None = None
    job_days: float | None = None
    interval_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Secrets:
    env_allowed: tuple[str, ...] = ()  # names of environment variables that a workspace may read
    key_file: Path | None = None  # None: `<data_dir>/secret.key`, made at first use


@dataclass(frozen=True, slots=True)
class Config:
    listen_host: str = "127.0.0.1"
    listen_port: int = 8080
    allowed_hosts: tuple[str, ...] = ()
    db: Database = Database()
    broker: Broker = Broker()
    workspaces: Mapping[str, Source] = field(default_factory=dict)
    libraries: Mapping[str, Source] = field(default_factory=dict)
    git_auth: Mapping[str, GitAuth] = field(default_factory=dict)
    worker_token: str | None = field(default=None, repr=False)
    auth: Auth = Auth()
    recovery: Recovery = Recovery()
    retention: Retention = Retention()
    secrets: Secrets = Secrets()
    mail: Mail | None = None  # None: no mail is sent
    default_step_timeout_s: float | None = None
    default_job_timeout_s: float | None = None
    unsafe_templates: Literal["warn", "refuse"] = "warn"
    data_dir: Path = ROOT / "var"
    file: Path | None = None

    @property
    def key_file(self) -> Path:
        return self.secrets.key_file or self.data_dir / "secret.key"


def load(environ: Mapping[str, str] = os.environ) -> Config:
    """`given`, with the addresses of the pair that `up` runs in this data directory where none were
    given."""
    return _with_pair(given(environ))


def given(environ: Mapping[str, str] = os.environ) -> Config:
    """The settings that this environment asks for. Raises ConfigError with every problem, one
    sentence each."""
    named = environ.get("STROEM_CONFIG")
    file = Path(named).resolve() if named else None
    try:
        top, problems = read_sources(file, environ, prefix="STROEM__", foreign={"worker"})
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    config = _config(top, file)
    top.close()
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _config(top: Section, file: Path | None) -> Config:
    host, port = _listen(top.take("listen"))
    base = file.parent if file else Path.cwd()
    data_dir = top.path("data_dir", base)
    git_auth = {name: _git_auth(section, base) for name, section in top.sections("git_auth")}
    return Config(
        listen_host=host,
        listen_port=port,
        allowed_hosts=top.words("allowed_hosts"),
        db=Database(_url(top.section("db"), ("postgres", "postgresql"))),
        broker=Broker(_url(top.section("broker"), BROKER_SCHEMES)),
        workspaces=_sources(top, "workspaces", base, git_auth),
        libraries=_sources(top, "libraries", base, git_auth),
        git_auth=git_auth,
        worker_token=_token(top, "worker_token"),
        auth=_auth(top.section("auth")),
        recovery=_recovery(top.section("recovery")),
        retention=_retention(top.section("retention")),
        secrets=_secrets(top.section("secrets"), base),
        mail=_mail(top.section("mail")),
        default_step_timeout_s=_timeout(top, "default_step_timeout", DAY_S, "24h"),
        default_job_timeout_s=_timeout(top, "default_job_timeout", 7 * DAY_S, "7d"),
        unsafe_templates=cast(Any, top.choice("unsafe_templates", ("warn", "refuse"), "warn")),
        data_dir=data_dir or ROOT / "var",
        file=file,
    )


BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "valkey", "valkeys", "amqp", "amqps", "pyamqp")


def _listen(setting: Setting | None) -> tuple[str, int]:
    if setting is None:
        return "127.0.0.1", 8080
    found = re.fullmatch(
        r"(?P<host>\[[0-9a-fA-F:]+\]|[^\s:]+):(?P<port>\d{1,5})", str(setting.value)
    )
    if not found or not 0 <= int(found["port"]) <= 65535:
        setting.refuse("listen must be host:port, for example 127.0.0.1:8080")
        return "127.0.0.1", 8080
    return found["host"].strip("[]"), int(found["port"])


def _url(section: Section, schemes: tuple[str, ...]) -> str | None:
    setting = section.take("url")
    section.close()
    if setting is None:
        return None
    scheme, mark, rest = str(setting.value).partition("://")
    if not mark or scheme not in schemes or not rest:
        setting.refuse(
            f"{setting.name} must begin with {schemes[0]}:// (also read: {', '.join(schemes[1:])})"
        )
        return None
    return str(setting.value)


def _token(section: Section, name: str) -> str | None:
    setting = section.take(name)
    if setting is None:
        return None
    if len(str(setting.value)) < 32:
        setting.refuse(f"{name} must be at least 32 characters")
    elif setting.value == SAMPLE_TOKEN:
        setting.refuse(f"{name} is the value of the sample; make one with `openssl rand -hex 32`")
    return str(setting.value)


def _git_auth(section: Section, base: Path) -> GitAuth:
    auth = GitAuth(
        type=cast(AuthType, section.choice("type", ("ssh_key", "token"), None)),
        key_path=section.path("key_path", base),
        key=section.text("key"),
        token=section.text("token"),
        username=section.text("username") or "x-access-token",
    )
    section.close()
    if auth.type == "token" and auth.token is None:
        section.refuse(f"{section.name} of type token needs `token`")
    if auth.type == "ssh_key" and (auth.key_path is None) == (auth.key is None):
        section.refuse(f"{section.name} of type ssh_key needs either `key_path` or `key`")
    return auth


def _sources(
    top: Section, name: str, base: Path, known: dict[str, GitAuth]
) -> Mapping[str, Source]:
    return {key: _source(section, base, known) for key, section in top.sections(name)}


def _source(section: Section, base: Path, known: dict[str, GitAuth]) -> Source:
    kind = section.choice("type", ("folder", "git"), None)
    auth: str | None
    if section.has_section("auth"):
        auth = section.full("auth")
        known[auth] = _git_auth(section.section("auth"), base)
    else:
        auth = section.choice("auth", tuple(known), "") or None
    source = Source(
        type=cast(Any, kind),
        path=section.path("path", base),
        url=section.text("url"),
        ref=section.text("ref") or "main",
        poll_interval_s=section.number("poll_interval_secs", 60.0, at_least=1),
        auth=auth,
    )
    section.close()
    if kind == "folder" and source.path is None:
        section.refuse(f"{section.name} of type folder needs `path`")
    if kind == "git" and source.url is None:
        section.refuse(f"{section.name} of type git needs `url`")
    return source


def _auth(section: Section) -> Auth:
    user = None
    if section.has_section("initial_user"):
        given = section.section("initial_user")
        email, password = given.text("email"), given.text("password")
        given.close()
        if email and password:
            user = InitialUser(email, password)
        else:
            given.refuse("auth.initial_user needs `email` and `password`")
    base_url = section.take("base_url")
    if base_url is not None and not re.match(r"https?://[^/\s]+", str(base_url.value)):
        base_url.refuse("auth.base_url must begin with http:// or https://")
    auth = Auth(
        str(base_url.value).rstrip("/") if base_url else None, _token(section, "jwt_secret"), user
    )
    section.close()
    return auth


def _recovery(section: Section) -> Recovery:
    recovery = Recovery(
        heartbeat_timeout_s=section.number("heartbeat_timeout_secs", 30.0, at_least=10),
        sweep_interval_s=section.number("sweep_interval_secs", 5.0, at_least=5),
        unmatched_step_timeout_s=section.number("unmatched_step_timeout_secs", 30.0, at_least=5),
        lost_retries=int(section.number("lost_retries", 2, at_least=0, whole=True)),
        on_worker_lost=cast(Any, section.choice("on_worker_lost", ("fail", "retry"), "fail")),
    )
    section.close()
    return recovery


def _retention(section: Section) -> Retention:
    retention = Retention(
        worker_hours=section.optional_number("worker_hours", at_least=1),
        job_days=section.optional_number("job_days", at_least=1),
        interval_s=section.number("interval_secs", 3600.0, at_least=1),
    )
    section.close()
    return retention


def _secrets(section: Section, base: Path) -> Secrets:
    secrets = Secrets(section.words("env_allowed"), section.path("key_file", base))
    section.close()
    return secrets


def _mail(section: Section) -> Mail | None:
    if not section.entries:
        return None
    host, sender = section.text("host"), section.text("sender")
    mail = Mail(
        host=host or "",
        port=int(section.number("port", 587, at_least=1, whole=True)),
        sender=sender or "",
        user=section.text("user") or "",
        password=section.text("password") or "",
        security=cast(Any, section.choice("security", ("starttls", "tls", "none"), "starttls")),
    )
    section.close()
    if not host or not sender:
        section.refuse("mail needs `host`, and `sender`, the address that it comes from")
        return None
    return mail


def _timeout(top: Section, name: str, most_s: int, most: str) -> float | None:
    seconds = top.duration(name)
    if seconds is not None and seconds > most_s:
        top.refuse_key(name, f"{name} {seconds:g}s exceeds maximum of {most_s}s ({most})")
    return seconds


def pair_file(data_dir: Path) -> Path:
    """Where `up` writes the addresses of the database and the broker that it runs."""
    return data_dir / "pair.json"


def _with_pair(config: Config) -> Config:
    if config.db.url and config.broker.url:
        return config
    try:
        pair = json.loads(pair_file(config.data_dir).read_text())
    except (OSError, ValueError):
        return config
    return replace(
        config,
        db=Database(config.db.url or pair.get("db_url")),
        broker=Broker(config.broker.url or pair.get("broker_url")),
    )
