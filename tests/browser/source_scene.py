"""An event source at work, one that backs off, and a webhook with its last requests."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.browser.stage import Stage

SECRET = "correct-horse-battery"
FILES = """
secrets: { github: correct-horse-battery }
tasks:
  listen:
    manual: false
    flow:
      listen:
        type: script
        language: python
        interpreter: python3
        script: |
          import json, sys
          lines = [{"order": f"2026-{n}", "rows": n} for n in range(311, 315)]
          lines[1:1] = [{"order": "2026-311b", "rows": "many"}]
          for line in [*lines, {"order": "2026-315", "rows": 1}]:
              line["_event"] = {"id": line["order"], "reply": True}
              print("OUTPUT:", json.dumps(line), flush=True)
              sys.stdin.readline()
          sys.stdin.read()
  fail:
    manual: false
    flow:
      fail:
        type: script
        script: |
          echo "queue.internal:5672: connection refused" >&2
          exit 3
  order:
    max_concurrent_jobs: 1
    input: { order: { type: string }, rows: { type: integer } }
    flow: { load: { type: script, script: sleep 600 } }
  build:
    input: { commit: { type: string } }
    flow: { make: { type: script, script: 'echo "building $STROEM_INPUT_COMMIT"' } }
triggers:
  orders: { type: event_source, task: listen, target_task: order, max_in_flight: 4 }
  returns: { type: event_source, task: fail, target_task: order, backoff_secs: 300 }
  on-push:
    type: webhook
    name: push
    task: build
    verify: github
    secret: "{{ secret.github }}"
    filter: "{{ body.ref == 'refs/heads/main' }}"
    input: { commit: "{{ body.after }}" }
"""


def prepare(stage: Stage) -> dict[str, int]:
    """The ids of the triggers by name."""
    from apps.triggers.models import Trigger
    from apps.triggers.snapshots import source_states
    from tests.apps.jobs.builders import until

    if not stage.has("intake"):
        stage.workspace("intake", FILES)
        _deliver("one", "refs/heads/main", after="8f2c1d0")
        _deliver("one", "refs/heads/main", after="8f2c1d0")
        _deliver("two", "refs/heads/try-out", after="77ab310")
        _deliver("three", "refs/heads/main")
        _deliver("four", "refs/heads/main", after="31d9e55", secret="guessed")
    rows = {row.name: row for row in Trigger.objects.filter(workspace__name="intake")}

    def is_ready() -> bool:
        states = source_states(rows.values())
        orders, returns = states[rows["orders"].pk], states[rows["returns"].pk]
        return orders.in_flight == 4 and orders.dead_letters == 1 and returns.failures > 0

    until(is_ready, within_s=60)
    return {name: row.pk for name, row in rows.items()}


def _deliver(name: str, ref: str, secret: str = SECRET, **more: Any) -> None:
    from apps.triggers import hooks
    from engine.webhooks import Received

    body = json.dumps({"ref": ref, **more}).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json",
        "x-github-event": "push",
        "x-github-delivery": f"72d3162e-cc78-11e3-81ab-{name:0>12}",
        "x-hub-signature-256": f"sha256={signature}",
    }
    hooks.receive(hooks.find("push", "intake"), Received("POST", headers, {}, body))
