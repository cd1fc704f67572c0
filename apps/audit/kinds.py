"""What entries are about, in words, and what can be done with it."""

KINDS = {
    "session": "sign-ins",
    "user": "users",
    "service-account": "service accounts",
    "group": "groups",
    "workspace-grant": "grants",
    "api-key": "API keys",
    "connected-agent": "connected agents",
    "device": "devices",
    "second-factor": "second factors",
    "social-account": "accounts at identity providers",
    "workspace": "workspaces",
    "secret": "secrets",
    "connection": "connections",
    "library": "libraries",
    "subscription": "subscriptions",
    "trigger": "triggers",
    "job": "jobs",
    "state": "state",
    "worker-limit": "worker limits",
    "audit": "the audit log",
}
VERBS = (
    "add begin cancel change confirm delete deny discard end expire fire import password pause ping"
    " refresh refused remove renew restart restore resume revoke rotate send-again set start"
    " throttled upload"
).split()


def is_known(what: str) -> bool:
    """Whether entries can be of this kind, or act."""
    kind, dot, verb = what.partition(".")
    return kind in KINDS and (verb in VERBS if dot else True)
