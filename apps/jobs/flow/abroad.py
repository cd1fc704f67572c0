"""Steps with actions of other workspaces.

The files and the definition are those of the revision that was in force when the job was started.
The consent is asked for once more before each run of such a step: what the owner takes back, counts
at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apps.jobs.models import Job
from apps.jobs.plans import Abroad, Node, Plan
from apps.jobs.ports import Dispatch
from apps.jobs.values import Home
from apps.workspaces import exports
from apps.workspaces.errors import NotExported, SecretError
from apps.workspaces.revisions import (
    connections_of,
    secret_values,
    secrets_of,
    sensitive_of,
    stored_of,
)
from engine.spec.exports import reads_secrets


def admit(caller: str, node: Node) -> bool:
    """Whether the step gets the owner's secrets. Raises NotExported if it may not run at all."""
    abroad = _abroad(node)
    if abroad.refusal:
        raise NotExported(abroad.refusal)
    now = exports.find(caller, node.step.action)
    with_secrets = abroad.with_secrets and now.with_secrets
    if not with_secrets and reads_secrets(node.action):
        raise NotExported(exports.without_secrets(caller, node.step.action))
    return with_secrets


def home_of(caller: str, node: Node) -> Home:
    """Where the files of the step's action come from, and what its templates may read."""
    abroad = _abroad(node)
    with_secrets = admit(caller, node)
    return Home(
        abroad.workspace,
        abroad.revision_id,
        abroad.digest,
        secrets_of(abroad.revision_id) if with_secrets else None,
        connections_of(abroad.revision_id) if with_secrets else {},
        masks_of(node),
        stored_of(abroad.revision_id) if with_secrets else {},
    )


def masks_of(node: Node) -> tuple[str, ...]:
    """The owner's secret values, which nobody of the caller may see: none where none can be
    resolved, so that no text can contain them, and none where the step gets none. It could
    otherwise print guesses, and what is masked would be a secret of the owner."""
    if node.abroad is None or node.abroad.refusal or not node.abroad.with_secrets:
        return ()
    try:
        return sensitive_of(node.abroad.revision_id)
    except SecretError:
        return ()


def secrets_of_action(job: Job, node: Node) -> dict[str, Any]:
    """What the defaults of the action's own fields read as `secret`."""
    if node.abroad is None:
        return secrets_of(job.revision_id)
    return secrets_of(node.abroad.revision_id) if admit(job.workspace.name, node) else {}


def of_owner(dispatch: Dispatch, node: Node, *, with_secrets: bool) -> Dispatch:
    """What the owner's part of a step that runs on the server sees: the input, never what else the
    caller's job knows."""
    secrets = secrets_of(_abroad(node).revision_id) if with_secrets else None
    context: dict[str, Any] = {"input": {}}
    if secrets is not None:
        context |= {"secret": secrets, "secrets": secrets}
    masks = secret_values([dispatch.masks, masks_of(node)])
    # the job of the owner does not know the secrets of the caller
    return replace(dispatch, context=context, masks=masks, hidden=dispatch.masks)


def told(plan: Plan) -> list[str]:
    """For the record of a job: which steps use what of whom."""
    return [
        f"Step '{node.name}' uses action '{node.step.action.partition('.')[2]}' of workspace"
        f" '{abroad.workspace}' at {abroad.digest[:12]}"
        + (", with its secrets" if abroad.with_secrets else ", without its secrets")
        for node in plan.strangers
        if (abroad := _abroad(node)) and not abroad.refusal
    ]


def _abroad(node: Node) -> Abroad:
    assert node.abroad is not None, "only steps with actions of other workspaces are asked about"
    return node.abroad
