"""An audit log with a little of everything, a rotated key, and a program that asks for a code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apps.accounts.models import ApiToken
    from tests.browser.stage import Stage

ADA, EVE = "ada@example.org", "eve@example.org"


def prepare(stage: Stage) -> ApiToken:
    from apps.accounts import tokens
    from apps.accounts.models import ApiToken
    from apps.accounts.people import add_service
    from apps.audit.services import CHANGED, Origin, during, note

    found = ApiToken.objects.filter(name="nightly import").first()
    if found is not None:
        return found
    site, now = stage.site.name, datetime.now(UTC)
    with during(Origin("page", "192.0.2.7", ADA)):
        note("session.begin", ADA)
        limits = {"scopes": ["jobs:run"], "workspaces": ["data-*", site]}
        _, key = tokens.make_key(
            add_service("nightly-import", ()), "nightly import", now + timedelta(days=90), **limits
        )
        tokens.rotate_key(key, timedelta(hours=24), now)
        groups = {"before": ["devs"], "after": ["devs", "operators"]}
        note("user.change", EVE, changes={"groups": groups})
        note("secret.set", "pager_token", workspace=site, changes={"value": CHANGED})
    with during(Origin("api", "198.51.100.23", "nightly-import@services.invalid", key.prefix)):
        note("job.start", "0198c4f2-9d1c", workspace=site, detail="task deploy")
    with during(Origin("page", "203.0.113.9")):
        note("session.refused", EVE)
        note("session.throttled", EVE, detail="too many failed tries; told once a minute")
    with during(Origin("command", "local user deploy")):
        note("trigger.pause", "nightly", by=ADA, workspace=site)
    key.refresh_from_db()
    return key


def code() -> str:
    """Of a program that waits."""
    from apps.accounts import devices

    now = datetime.now(UTC)
    return devices.ask("stroem on ada-laptop", "192.0.2.7", ["jobs:run"], now).code
