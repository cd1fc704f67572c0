"""What entries are about, in words."""

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
