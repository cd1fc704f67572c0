"""The Celery app: it only carries bells, in JSON; no results, retries or time limits.

Workers listen with `workers.bells`; other processes just publish.
"""

from __future__ import annotations

from celery import Celery

# no Django fixup: it closes connections after every task; our code returns them to the pool
app = Celery("stroem", fixups=[])
app.config_from_object("stroem_project.celery_settings")
app.set_default()
