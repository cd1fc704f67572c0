"""The settings of server, scheduler and `up`: read, checked, frozen. Without Django.

An optional YAML file (STROEM_CONFIG), overridden by the environment:
STROEM__RECOVERY__LOST_RETRIES=3 is `recovery.lost_retries: 3`. Everything has a default except the
addresses of database and broker: those are None unless set or written by `up`
(`<data_dir>/pair.json`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from apps.signin.providers import IdentityProvider
from apps.workspaces import stores
from engine.agents.limits import MOST_TURNS, Limits
from engine.agents.providers import KEYLESS, PROVIDER_TYPES, Price, Provider
from engine.agents.servers import McpRules
from engine.errors import StroemError
from engine.plain import plain
from engine.settings.declared import OURS, Key, each, fill, section
from engine.settings.given import Given, Reading, Wrong, empty, override
from engine.settings.readers import (
    Reader,
    choice,
    did_you_mean,
    duration,
    number,
    text,
    token,
    web_address,
    words,
)

ROOT = Path(__file__).resolve().parent.parent
DAY_S = 86400
PREFIX = "STROEM__"
Network = IPv4Network | IPv6Network


class ConfigError(StroemError):
    """A setting is wrong; the message names its place and what is allowed."""


def _url(*schemes: str) -> Reader:
    def reader(given: Given) -> str:
        url = text(given)
        scheme, mark, rest = url.partition("://")
        if not mark or scheme not in schemes or not rest:
            others = ", ".join(f"{other}://" for other in schemes[1:])
            raise Wrong(f"must begin with {schemes[0]}:// (also possible: {others})")
        return url

    return reader


def _listen(given: Given) -> tuple[str, int]:
    found = re.fullmatch(
        r"(?P<host>\[[0-9a-fA-F:]+\]|[^\s:]+):(?P<port>\d{1,5})", str(given.node.value)
    )
    if not found or int(found["port"]) > 65535:
        raise Wrong("must be host:port, for example 127.0.0.1:8080")
    return found["host"].strip("[]"), int(found["port"])


def _networks(given: Given) -> tuple[Network, ...]:
    return tuple(_network(word) for word in words(given, "addresses or networks"))


def _network(word: str) -> Network:
    try:
        network = ip_network(word)
    except ValueError:
        raise Wrong(f"must list addresses or networks such as 10.1.0.0/16, not '{word}'") from None
    if network.prefixlen == 0:
        raise Wrong(f"must not contain {word}: anybody could then choose their address")
    return network


def _named(kind: type) -> Reader:
    """Sections under names that the operator chooses."""
    read_all = each(section(kind))

    def reader(given: Given) -> dict[str, Any]:
        for name, entry in given.entries():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                entry.refuse(
                    f"'{name}' is not a name: use letters, digits, dots, hyphens and underscores"
                )
        found: dict[str, Any] = read_all(given)
        return found

    return reader


def _timeout(most_s: int, most: str) -> Reader:
    def reader(given: Given) -> float:
        seconds = duration(given)
        if seconds > most_s:
            raise Wrong(f"{seconds:g}s exceeds maximum of {most_s}s ({most})")
        return seconds

    return reader


def _credential(given: Given) -> str:
    """A name under `git_auth`; for credentials written in place, their own path."""
    return given.name if isinstance(given.node.value, dict) else text(given)


def _text_or_nothing(given: Given) -> str:
    return text(given) if given.node.value != "" else ""


def _names(given: Given) -> tuple[str, ...]:
    found = words(given)
    if not found or not all(word.strip() for word in found):
        raise Wrong("must list at least one, and no empty text; `*` stands for all")
    return found


def _mail(given: Given) -> Mail | None:
    made: Mail | None = section(Mail)(given) if given.node.value != {} else None
    return made


def _left_to_the_worker(_: Given) -> None:
    """The worker reads this section (workers/config.py)."""


@dataclass(frozen=True, slots=True)
class Database:
    url: Annotated[str | None, _url("postgres", "postgresql")] = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Broker:
    url: Annotated[
        str | None,
        _url("redis", "rediss", "redis+socket", "valkey", "valkeys", "amqp", "amqps", "pyamqp"),
    ] = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GitAuth:
    needs: ClassVar[str] = ".type is missing: one of ssh_key, token"
    type: Literal["ssh_key", "token"]
    key_path: Path | None = None
    key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    username: str = "x-access-token"

    def find_objection(self) -> str | None:
        if self.type == "token" and self.token is None:
            return "of type token needs `token`"
        if self.type == "ssh_key" and (self.key_path is None) == (self.key is None):
            return "of type ssh_key needs either `key_path` or `key`"
        return None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a library may lie: in a folder, or in a git repository."""

    needs: ClassVar[str] = ".type is missing: one of folder, git"
    type: Literal["folder", "git"]
    path: Path | None = None
    url: str | None = None
    # a name under git_auth; credentials written in place are named by their place
    auth: Annotated[str | None, _credential] = None

    def find_objection(self) -> str | None:
        if self.type == "folder" and self.path is None:
            return "of type folder needs `path`"
        if self.type == "git" and self.url is None:
            return "of type git needs `url`"
        return None


def any_library() -> dict[str, Origin]:
    """Entries that allow whatever this process can read."""
    urls = ("https://", "ssh://", "file:///", "/")
    return {url: Origin("git", url=url) for url in urls} | {"any": Origin("folder", Path("/"))}


@dataclass(frozen=True, slots=True)
class Source(Origin):
    """Where a workspace comes from."""

    ref: str = "main"
    poll_interval_s: Annotated[float, Key("poll_interval_secs"), number(at_least=1)] = 60.0


@dataclass(frozen=True, slots=True)
class InitialUser:
    email: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Auth:
    base_url: Annotated[str | None, web_address] = None
    jwt_secret: Annotated[str | None, token] = field(default=None, repr=False)
    initial_user: InitialUser | None = None
    providers: Annotated[Mapping[str, IdentityProvider], _named(IdentityProvider)] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class Mail:
    """The server for mail to approvers, and to those who have forgotten their password."""

    needs: ClassVar[str] = " needs `host`, and `sender`, the address that mail comes from"
    host: str
    sender: str
    port: Annotated[int, number(at_least=1, whole=True)] = 587
    user: Annotated[str, _text_or_nothing] = ""
    password: Annotated[str, _text_or_nothing] = field(default="", repr=False)
    security: Literal["starttls", "tls", "none"] = "starttls"


@dataclass(frozen=True, slots=True)
class Recovery:
    heartbeat_timeout_s: Annotated[float, Key("heartbeat_timeout_secs"), number(at_least=10)] = 30.0
    sweep_interval_s: Annotated[float, Key("sweep_interval_secs"), number(at_least=5)] = 5.0
    unmatched_step_timeout_s: Annotated[
        float, Key("unmatched_step_timeout_secs"), number(at_least=5)
    ] = 30.0
    lost_retries: Annotated[int, number(at_least=0, whole=True)] = 2
    on_worker_lost: Literal["fail", "retry"] = "fail"


@dataclass(frozen=True, slots=True)
class Retention:
    """None keeps everything."""

    worker_hours: Annotated[float | None, number(at_least=1)] = None
    job_days: Annotated[float | None, number(at_least=1)] = None
    audit_days: Annotated[float | None, number(at_least=1)] = None
    interval_s: Annotated[float, Key("interval_secs"), number(at_least=1)] = 3600.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of S3, or of what speaks like it. Without keys, boto3 finds them."""

    needs: ClassVar[str] = " needs `bucket`"
    bucket: str
    prefix: Annotated[str, _text_or_nothing] = ""
    endpoint_url: Annotated[str | None, web_address] = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    addressing: Literal["auto", "path", "virtual"] = "auto"

    def find_objection(self) -> str | None:
        if (self.access_key is None) != (self.secret_key is None):
            return "needs both `access_key` and `secret_key`, or neither"
        return None


@dataclass(frozen=True, slots=True)
class Storage:
    """Where files that steps leave behind are kept: a directory, or a bucket of S3."""

    path: Path | None = None  # None: `<data_dir>/storage`
    s3: Bucket | None = None

    def find_objection(self) -> str | None:
        if self.path is not None and self.s3 is not None:
            return "has both `path` and `s3`"
        return None


@dataclass(frozen=True, slots=True)
class ArtifactSettings:
    """Limits of files that steps leave behind."""

    file_mb: Annotated[int, number(at_least=1, whole=True)] = 1024
    job_mb: Annotated[int, number(at_least=1, whole=True)] = 5120
    workspace_mb: Annotated[int | None, number(at_least=1, whole=True)] = None
    files: Annotated[int, number(at_least=1, whole=True)] = 10_000  # of one job
    retain: Annotated[float | None, duration] = None  # None: as long as their job
    patience_s: Annotated[float, Key("patience_secs"), number(at_least=0)] = 600.0


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How long the lines of ended jobs are kept, and how many MB of a workspace, compressed. None:
    as long as their job, and without limit."""

    retain: Annotated[float | None, duration] = None
    workspace_mb: Annotated[int | None, number(at_least=1, whole=True)] = None


@dataclass(frozen=True, slots=True)
class Logs(LogLimits):
    """Lines of ended jobs in the storage. `workspaces`: other limits of some."""

    archive: bool | None = None  # None: where a storage is named, or `up` runs everything
    archive_after_s: Annotated[float, Key("archive_after"), duration] = 3600.0
    interval_s: Annotated[float, Key("interval_secs"), number(at_least=1)] = 60.0
    workspaces: Annotated[Mapping[str, LogLimits], _named(LogLimits)] = field(default_factory=dict)

    def limits_of(self, workspace: str) -> tuple[float | None, int | None]:
        """Seconds and bytes."""
        own = self.workspaces.get(workspace, LogLimits())
        retain = self.retain if own.retain is None else own.retain
        most_mb = self.workspace_mb if own.workspace_mb is None else own.workspace_mb
        return retain, None if most_mb is None else most_mb << 20

    @property
    def has_limits(self) -> bool:
        every = (self, *self.workspaces.values())
        return any(one.retain is not None or one.workspace_mb is not None for one in every)

    def find_objection(self) -> str | None:
        if self.archive is False and self.has_limits:
            return "has limits of lines in the storage, but `archive: false` lets none get there"
        return None


@dataclass(frozen=True, slots=True)
class StateStorage:
    """How many versions are kept of what each task remembers, and each workspace."""

    max_snapshots: Annotated[int, number(1, 10_000, whole=True)] = 20
    global_max_snapshots: Annotated[int | None, number(1, 10_000, whole=True)] = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A rule: what references to secrets some workspaces may hold."""

    needs: ClassVar[str] = " needs `workspaces`, `scheme` and `paths`"
    workspaces: Annotated[tuple[str, ...], _names]
    scheme: str
    paths: Annotated[tuple[str, ...], _names]
    parameters: tuple[str, ...] = ()

    def find_objection(self) -> str | None:
        known = (stores.ENV, stores.SOPS, *stores.SCHEMES)
        if self.scheme not in known:
            hint = did_you_mean(self.scheme, known)
            return f"has no scheme that may be allowed: one of {', '.join(sorted(known))}{hint}"
        ours = [name for name in self.parameters if stores.is_operators(name)]
        if ours:
            return (
                f"cannot allow the parameter '{ours[0]}': addresses, authentication and files come"
                " from the server's environment"
            )
        return None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Who may read `/metrics`: everybody, or whoever sends the token."""

    public: bool = False
    token: Annotated[str | None, token] = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Secrets:
    env_allowed: tuple[str, ...] = ()  # environment variables that all workspaces may read
    references: Annotated[Mapping[str, Reference], _named(Reference)] = field(default_factory=dict)
    timeout_s: Annotated[float, Key("timeout_secs"), number(at_least=1, at_most=60)] = 15.0
    key_file: Path | None = None  # None: `<data_dir>/secret.key`, created on first use


@dataclass(frozen=True, slots=True)
class Mcp:
    """The MCP server at /mcp. Hosts and origins beyond those of the server itself."""

    enabled: bool = False
    oauth: bool = True  # people let agents in by their browser
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refresh:
    """The limits of reading a workspace, each in a process of its own."""

    parallel: Annotated[int, number(at_least=1, at_most=64, whole=True)] = 4
    timeout_s: Annotated[float, Key("timeout_secs"), number(at_least=1)] = 120.0
    memory_mb: Annotated[int, number(at_least=200, whole=True)] = 1024
    files: Annotated[int, number(at_least=1, whole=True)] = 20_000
    workspace_mb: Annotated[int, number(at_least=1, whole=True)] = 200
    definition_mb: Annotated[int, number(at_least=1, whole=True)] = 8
    quarantine_after: Annotated[int, number(at_least=1, whole=True)] = 3
    quarantine_s: Annotated[float, Key("quarantine_secs"), number(at_least=1)] = 3600.0


@dataclass(frozen=True, slots=True)
class PriceSettings(Price):
    """In US dollars per million tokens."""

    needs: ClassVar[str] = " needs `input` and `output`, in US dollars per million tokens"
    input: Annotated[float, number(at_least=0)]
    output: Annotated[float, number(at_least=0)]
    cached: Annotated[float | None, number(at_least=0)] = None


@dataclass(frozen=True, slots=True)
class ProviderSettings(Provider):
    """A service of language models."""

    needs: ClassVar[str] = f".type is missing: one of {', '.join(PROVIDER_TYPES)}"
    type: Annotated[str, partial(choice, allowed=PROVIDER_TYPES)]
    api_endpoint: Annotated[str | None, web_address] = None
    max_tokens: Annotated[int | None, number(at_least=1, whole=True)] = None
    temperature: Annotated[float | None, number(0, 2)] = None
    max_retries: Annotated[int, number(0, 10, whole=True)] = 3
    concurrency: Annotated[int | None, number(at_least=1, whole=True)] = None
    requests_per_minute: Annotated[int | None, number(at_least=1, whole=True)] = None
    request_timeout_s: Annotated[float, Key("request_timeout_secs"), number(1, 3600)] = 120.0
    price: PriceSettings | None = None

    def find_objection(self) -> str | None:
        if self.type == "fake":
            return None if self.answers else "of type fake needs `answers`, a file"
        if self.answers is not None:
            return f"of type {self.type} has no use for `answers`"
        if self.api_key is not None and self.api_key_file is not None:
            return "has both `api_key` and `api_key_file`"
        if self.type not in KEYLESS and self.api_key is None and self.api_key_file is None:
            return f"of type {self.type} needs `api_key` or `api_key_file`"
        return None


@dataclass(frozen=True, slots=True)
class LimitSettings(Limits):
    """What one conversation may spend at most."""

    turns: Annotated[int | None, number(1, MOST_TURNS, whole=True)] = None
    tokens: Annotated[int | None, number(at_least=1, whole=True)] = None
    cost: Annotated[float | None, number(at_least=0)] = None
    tool_calls: Annotated[int | None, number(at_least=0, whole=True)] = None
    time: Annotated[float | None, duration] = None


@dataclass(frozen=True, slots=True)
class DailySettings:
    """What all conversations of the last 24 hours may spend together."""

    tokens: Annotated[int | None, number(at_least=1, whole=True)] = None
    cost: Annotated[float | None, number(at_least=0)] = None


@dataclass(frozen=True, slots=True)
class McpServers(McpRules):
    """What MCP servers of workspaces the process for agents may start or call."""

    private_networks: Annotated[tuple[Network, ...], _networks] = ()


@dataclass(frozen=True, slots=True)
class Agents:
    providers: Annotated[Mapping[str, ProviderSettings], _named(ProviderSettings)] = field(
        default_factory=dict
    )
    limits: LimitSettings = LimitSettings()
    daily: DailySettings = DailySettings()
    mcp: McpServers = McpServers()
    max_concurrent: Annotated[int, number(1, 1000, whole=True)] = 16


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Where messages to subscribers may go, beside the public internet by https."""

    private_networks: Annotated[tuple[Network, ...], _networks] = ()
    allow_http: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    listen: Annotated[tuple[str, int], _listen] = ("127.0.0.1", 8080)
    allowed_hosts: tuple[str, ...] = ()
    # whose X-Forwarded-For says where a request comes from
    trusted_proxies: Annotated[tuple[Network, ...], _networks] = ()
    db: Database = Database()
    broker: Broker = Broker()
    workspaces: Annotated[Mapping[str, Source], _named(Source)] = field(default_factory=dict)
    libraries: Annotated[Mapping[str, Origin], _named(Origin)] = field(default_factory=dict)
    git_auth: Annotated[Mapping[str, GitAuth], _named(GitAuth)] = field(default_factory=dict)
    worker_token: Annotated[str | None, token] = field(default=None, repr=False)
    auth: Auth = Auth()
    recovery: Recovery = Recovery()
    retention: Retention = Retention()
    refresh: Refresh = Refresh()
    secrets: Secrets = Secrets()
    state_storage: StateStorage = StateStorage()
    storage: Storage = Storage()
    artifacts: ArtifactSettings = ArtifactSettings()
    logs: Logs = Logs()
    mcp: Mcp = Mcp()
    metrics: Metrics = Metrics()
    mail: Annotated[Mail | None, _mail] = None  # None: no mail is sent
    agents: Agents = Agents()
    subscriptions: Subscriptions = Subscriptions()
    default_step_timeout_s: Annotated[
        float | None, Key("default_step_timeout"), _timeout(DAY_S, "24h")
    ] = None
    default_job_timeout_s: Annotated[
        float | None, Key("default_job_timeout"), _timeout(7 * DAY_S, "7d")
    ] = None
    unsafe_templates: Literal["warn", "refuse"] = "warn"
    data_dir: Path = ROOT / "var"
    worker: Annotated[None, _left_to_the_worker] = None
    is_one_machine: Annotated[bool, OURS] = False  # `up` runs the pair
    served_at: Annotated[str | None, OURS] = None  # the server of that `up`
    file: Annotated[Path | None, OURS] = None

    @property
    def listen_host(self) -> str:
        return self.listen[0]

    @property
    def listen_port(self) -> int:
        return self.listen[1]

    @property
    def archives_logs(self) -> bool:
        """Without a named storage, processes on several machines would have one each."""
        is_shared = self.storage != Storage() or self.is_one_machine
        return is_shared if self.logs.archive is None else self.logs.archive

    @property
    def key_file(self) -> Path:
        return self.secrets.key_file or self.data_dir / "secret.key"


def load(environ: Mapping[str, str] = os.environ) -> Config:
    """`given`, completed with the addresses of the pair that `up` runs in this data directory."""
    return _with_pair(given(environ))


def given(environ: Mapping[str, str] = os.environ) -> Config:
    """The settings of file and environment. Raises ConfigError with a sentence for every
    problem."""
    named = environ.get("STROEM_CONFIG")
    file = Path(named).resolve() if named else None
    base = file.parent if file else Path.cwd()
    reading = Reading(lambda text: (base / Path(text).expanduser()).resolve())
    root = reading.parse(str(file), _content(file)) if file else empty("environment")
    top = reading.given(override(root, environ, PREFIX))
    config = fill(Config, top, file=file)
    if config is not None:
        config = replace(config, git_auth=_credentials(config, top))
    if config is None or reading.problems:
        raise ConfigError("\n".join(reading.problems))
    return config


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"STROEM_CONFIG names {plain(file)}, which does not exist.") from None
    except OSError as error:
        raise ConfigError(str(error)) from error


def _credentials(config: Config, top: Given) -> Mapping[str, GitAuth]:
    """Credentials under `git_auth` and those written in place of a name. Refuses unknown names."""
    found = dict(config.git_auth)
    for kind, sources in (("workspaces", config.workspaces), ("libraries", config.libraries)):
        for name, source in sources.items():
            if source.auth is None:
                continue
            auth = top.at(kind, name, "auth")
            if isinstance(auth.node.value, dict):
                if made := fill(GitAuth, auth):
                    found[auth.name] = made
            elif source.auth not in found and f"git_auth.{source.auth}" not in auth.reading.refused:
                known = (
                    f"must be one of {', '.join(found)}"
                    if found
                    else "names nothing, as none are defined"
                )
                hint = did_you_mean(source.auth, found)
                auth.refuse(f"{auth.name} {known}, not '{auth.shown}'{hint}")
    return found


def pair_file(data_dir: Path) -> Path:
    """Where `up` writes the addresses of its database, broker and server."""
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
        served_at=pair.get("served_at"),
        is_one_machine=config.db.url is None and "db_url" in pair,
    )
