"""Two more columns of the table of routes: which scope of an API key opens a row, and what the
audit log says of it."""

from __future__ import annotations

from apps.accounts.models import Scope

Row = tuple[str, str]
_TASK = "api/workspaces/<str:workspace>/tasks/<str:task>"
_TRIGGER = "api/workspaces/<str:workspace>/triggers/<str:trigger>"
_HOOK = "api/workspaces/<str:workspace>/subscriptions/<str:subscription>"
_CONNECTION = "api/workspaces/<str:workspace>/connections/<str:name>"
_STEP = "api/jobs/<str:job>/steps/<str:step>"
_SERVICE = "api/service-accounts/<str:service>"
_STATE = "api/workspaces/<str:workspace>/state"

# No key opens what belongs to a person who has signed in, or makes keys.
NO_KEY: set[Row] = {
    ("get", "api/auth/agents"),
    ("delete", "api/auth/agents/<str:agent>"),
    ("get", "api/auth/api-keys"),
    ("post", "api/auth/api-keys"),
    ("delete", "api/auth/api-keys/<str:prefix>"),
    ("post", "api/auth/api-keys/<str:prefix>/rotate"),
    ("get", "api/service-accounts"),
    ("post", "api/service-accounts"),
    ("delete", _SERVICE),
    ("get", f"{_SERVICE}/api-keys"),
    ("post", f"{_SERVICE}/api-keys"),
    ("delete", f"{_SERVICE}/api-keys/<str:prefix>"),
    ("post", f"{_SERVICE}/api-keys/<str:prefix>/rotate"),
}
FOR_RUNNING: set[Row] = {
    ("post", f"{_TASK}/execute"),
    ("post", f"{_TASK}/plan"),
    ("post", f"{_TASK}/state"),
    ("post", f"{_TASK}/state/versions/<str:version>/restore"),
    ("post", f"{_CONNECTION}/check"),
    ("post", f"{_TRIGGER}/pause"),
    ("post", f"{_TRIGGER}/resume"),
    ("post", f"{_TRIGGER}/fire"),
    ("post", f"{_TRIGGER}/dead-letters/<str:letter>/send-again"),
    ("post", f"{_TRIGGER}/dead-letters/<str:letter>/discard"),
    ("post", "api/jobs/<str:job>/cancel"),
    ("post", "api/jobs/<str:job>/restart"),
}
FOR_DECIDING: set[Row] = {
    ("post", f"{_STEP}/approve"),
    ("post", f"{_STEP}/withdraw"),
    ("post", f"{_STEP}/delegate"),
    ("post", f"{_STEP}/link"),
}
FOR_BOTH: set[Row] = {
    ("get", "api/approvals"),
    ("get", "api/auth/me"),
    ("get", f"{_STEP}/approval"),
}
FOR_ADMINS: set[Row] = {
    ("get", "api/audit"),
    ("get", "api/audit/export"),
    ("get", "api/groups"),
    ("get", "api/users"),
    ("get", "api/users/<str:user>"),
    ("get", "api/users/<str:user>/groups"),
    ("get", "api/workspaces/<str:workspace>/secrets"),
    ("get", "api/workspaces/<str:workspace>/subscriptions"),
    ("get", _HOOK),
    ("get", f"{_HOOK}/deliveries"),
    ("get", "healthz/detail"),
    ("get", "metrics"),
}


def opened_by(row: Row) -> set[Scope]:
    """The scopes of which one alone opens this row. Without mention here: reading what everybody
    may see needs `jobs:read`, anything else `admin`."""
    if row in NO_KEY:
        return set()
    if row in FOR_RUNNING:
        return {Scope.RUN, Scope.ADMIN}
    if row in FOR_DECIDING:
        return {Scope.DECIDE, Scope.ADMIN}
    if row in FOR_BOTH:
        return set(Scope)
    if row in FOR_ADMINS or row[0] != "get":
        return {Scope.ADMIN}
    return {Scope.READ, Scope.RUN, Scope.ADMIN}


# What the log says of a row that changes something.
NOTED: dict[Row, str] = {
    ("post", "api/auth/api-keys"): "api-key.add",
    ("post", "api/service-accounts"): "service-account.add",
    ("delete", _SERVICE): "service-account.remove",
    ("post", f"{_SERVICE}/api-keys"): "api-key.add",
    ("delete", f"{_SERVICE}/api-keys/<str:prefix>"): "api-key.revoke",
    ("post", f"{_SERVICE}/api-keys/<str:prefix>/rotate"): "api-key.rotate",
    ("post", "api/users"): "user.add",
    ("put", "api/users/<str:user>/admin"): "user.change",
    ("put", "api/users/<str:user>/groups"): "user.change",
    ("post", "api/workspaces/<str:workspace>/refresh"): "workspace.refresh",
    ("put", "api/workspaces/<str:workspace>/secrets/<str:name>"): "secret.set",
    ("delete", "api/workspaces/<str:workspace>/secrets/<str:name>"): "secret.remove",
    ("put", _CONNECTION): "connection.set",
    ("patch", _CONNECTION): "connection.set",
    ("delete", _CONNECTION): "connection.remove",
    ("post", f"{_CONNECTION}/check"): "job.start",
    ("post", "api/workspaces/<str:workspace>/subscriptions"): "subscription.add",
    ("put", _HOOK): "subscription.change",
    ("delete", _HOOK): "subscription.remove",
    ("post", f"{_HOOK}/rotate"): "subscription.rotate",
    ("post", f"{_HOOK}/ping"): "subscription.ping",
    ("post", f"{_HOOK}/deliveries/<str:delivery>/send-again"): "subscription.send-again",
    ("post", f"{_TASK}/execute"): "job.start",
    ("post", f"{_TASK}/state"): "state.upload",
    ("delete", f"{_TASK}/state"): "state.remove",
    ("post", f"{_TASK}/state/versions/<str:version>/restore"): "state.restore",
    ("post", _STATE): "state.upload",
    ("delete", _STATE): "state.remove",
    ("post", f"{_STATE}/versions/<str:version>/restore"): "state.restore",
    ("post", f"{_TRIGGER}/pause"): "trigger.pause",
    ("post", f"{_TRIGGER}/fire"): "trigger.fire",
    ("post", "api/jobs/<str:job>/cancel"): "job.cancel",
    ("post", "api/jobs/<str:job>/restart"): "job.start",
    ("post", "api/auth/login"): "session.refused",
}
# Why it says nothing of one.
NOT_NOTED: dict[Row, str] = {
    ("post", f"{_TASK}/plan"): "changes nothing",
    ("post", "api/auth/refresh"): "goes on with a sign-in that is noted",
    ("post", "api/auth/device"): "gives nothing before somebody confirms it, which is noted",
    ("post", "api/auth/device/token"): "gives nothing here; tests/apps/accounts/test_devices.py",
    ("post", "api/auth/logout"): "of nobody; tests/apps/audit/test_log.py ends a sign-in",
    **dict.fromkeys(FOR_DECIDING, "the record of decisions keeps it"),
    # Nothing there to act on; elsewhere with something:
    ("delete", "api/workspaces/<str:workspace>"): "tests/apps/audit/test_log.py",
    ("delete", "api/auth/agents/<str:agent>"): "tests/apps/audit/test_log.py",
    ("delete", "api/auth/api-keys/<str:prefix>"): "tests/apps/audit/test_log.py",
    ("post", "api/auth/api-keys/<str:prefix>/rotate"): "tests/apps/audit/test_log.py",
    ("post", "api/workspaces/<str:workspace>/libraries/<str:name>/refresh"): (
        "tests/apps/workspaces/test_libraries.py"
    ),
    ("post", f"{_TRIGGER}/resume"): "tests/apps/audit/test_pages.py",
    **{
        (
            "post",
            f"{_TRIGGER}/dead-letters/<str:letter>/{what}",
        ): "tests/apps/triggers/test_sources.py"
        for what in ("send-again", "discard")
    },
}
