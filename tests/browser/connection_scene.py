"""A workspace with connections, one of them overridden in the database, and their checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apps.workspaces.models import Workspace
    from tests.browser.stage import Stage

FILES = """
secrets: { warehouse: not-a-real-password }
connection_types:
  postgres:
    check: reach
    host: { type: string, required: true, description: Name or address }
    port: { type: integer, default: 5432 }
    database: { type: string, required: true }
    sslmode: { type: string, options: [require, verify-full, disable], default: require }
    password: { type: string, required: true, secret: true }
  mail:
    server: { type: string, required: true }
connections:
  warehouse: { type: postgres, host: db.internal, database: dwh, password: "{{ secret.warehouse }}" }
  reports: { type: postgres, host: db2.internal, database: reports, password: not-a-real-password }
  postbox: { type: mail, server: mail.internal }
actions:
  reach:
    type: script
    input: { db: { type: postgres, required: true } }
    env: { PLACE: "{{ input.db.host }}:{{ input.db.port }}" }
    tags: [bench]
    script: pg_isready -h "$PLACE"
  load: { type: script, script: ./load.sh, input: { db: { type: postgres } } }
tasks:
  nightly-load:
    input: { target: { type: postgres, default: warehouse } }
    flow:
      extract: { action: load, input: { db: reports } }
      load: { action: load, depends_on: [extract], input: { db: warehouse } }
"""
VALUES = {
    "host": "db3.internal",
    "database": "dwh",
    "sslmode": "verify-full",
    "password": "not-a-real-password",
}


def prepare(stage: Stage) -> Workspace:
    """A hand that is no process takes the checks, so they end at once."""
    from apps.accounts.models import User
    from apps.connections import checks
    from apps.jobs import ledger
    from apps.workspaces import connections
    from apps.workspaces.models import Workspace
    from engine.orders import Line
    from tests.apps.jobs.builders import DONE, Hand, failed, workspace

    found = Workspace.objects.filter(name="warehouse").first()
    if found is not None:
        return found
    made = workspace(stage.folder, FILES, "warehouse")
    connections.store(made, "warehouse", "postgres", VALUES, by="olga@example.org")
    hand, user = Hand("script", "bench", name="checks"), User.objects.get(email=stage.root.email)
    answers = {
        "reports": ("db2.internal:5432 - no response", failed("Exit code: 2", 2)),
        "warehouse": ("db3.internal:5432 - accepting connections", DONE),
    }
    for name, (text, outcome) in answers.items():
        checks.start(made, name, user)
        claim = hand.take("check")
        ledger.append(claim, 0, [Line(0.0, "stdout", text)])
        hand.start(claim)
        hand.finish(claim, outcome)
    return made
