"""Orders for tests that only look at the pod which would be made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.orders import ImageWork, Pinned, ScriptWork, StepOrder
from runners.pod.config import PodConfig

CONFIG = PodConfig(namespace="stroem-jobs", owner="worker-1")


def build_pod_order(work: ScriptWork | ImageWork | None = None, **changes: Any) -> StepOrder:
    """An order for `work`, else for a script with a pinned workspace."""
    fields: dict[str, Any] = {
        "attempt": "a1b2c3",
        "job_id": "00000000-0000-4000-8000-000000000001",
        "task_name": "deploy",
        "step_name": "build",
        "workspace": "default",
        "number": 1,
        "work": work or ScriptWork(code="true"),
        "scratch_dir": Path("/nowhere"),
        "env": {"STROEM_STEP_NAME": "build"},
        "pinned": None
        if isinstance(work, ImageWork)
        else Pinned("http://stroem/pinned/r1.tar.gz", "t0ken"),
    }
    return StepOrder(**{**fields, **changes})
