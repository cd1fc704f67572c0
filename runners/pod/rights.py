"""What the worker's account may do in its namespace, and what its steps lose without a right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import AuthorError
from engine.orders import ImageWork, StepOrder
from runners.pod.answers import Refused
from runners.pod.cluster import Cluster
from runners.pod.config import PodConfig
from runners.pod.manifest import build_plan


@dataclass(frozen=True, slots=True)
class Right:
    """Verbs on one resource (`pods/log`: subresource log of pods), and the effect of lacking
    them."""

    resource: str
    verbs: tuple[str, ...]
    is_needed: bool
    without: str


RIGHTS = (
    Right("pods", ("create", "get", "delete"), True, "no step can run"),
    Right("pods/log", ("get",), False, "the lines of steps, and any OUTPUT in them, are not known"),
    Right(
        "pods",
        ("list", "watch"),
        False,
        "pods are polled, and leftovers of a killed worker are not found",
    ),
    Right(
        "secrets", ("create", "delete"), False, "environment variables are stored in the pod itself"
    ),
    Right("secrets", ("list",), False, "secrets left by a killed worker are not found"),
    Right("events", ("list",), False, "the log does not tell what a pod waits for"),
)


def find_missing(cluster: Cluster) -> Iterator[Right]:
    """The rights that the account lacks, each with the missing verbs only. Raises ClusterAway and
    Refused."""
    for right in RIGHTS:
        missing = tuple(verb for verb in right.verbs if not cluster.may(verb, right.resource))
        if missing:
            yield replace(right, verbs=missing)


def find_objection(cluster: Cluster, config: PodConfig) -> str | None:
    """Why the cluster would refuse the pod of a step: no such namespace, a quota, an admission
    rule.

    Uses a dry run. Raises ClusterAway.
    """
    order = StepOrder(
        attempt="doctor",
        job_id="doctor",
        task_name="doctor",
        step_name="doctor",
        workspace="doctor",
        number=1,
        work=ImageWork(config.runner_image),
        scratch_dir=Path("/nonexistent"),
    )
    try:
        cluster.create("pod", build_plan(order, config).pod, is_rehearsal=True)
    except (Refused, AuthorError) as objection:
        return str(objection)
    return None
