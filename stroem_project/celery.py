"""The Celery app: a doorbell. It carries hints in JSON; results, retries and time limits are not
its business.

Only a worker process includes `workers.tasks` (see `workers.consumer`); everybody else just
publishes.
"""

from __future__ import annotations

from celery import Celery

# the Django fixup closes connections at every task; ours give them back
app = Celery("stroem", fixups=[])
app.config_from_object("stroem_project.celery_settings")
app.set_default()
