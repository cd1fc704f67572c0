"""What is different for steps in pods, which share no directory with this host: where they fetch
their workspace and send their files, with the passes for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import quote, urlencode

from apps.jobs.ledger import Claim, Home, Material
from engine.errors import PlatformError
from engine.orders import STATE_VARIABLES, Pinned, Shelves
from engine.spec.model import Artifacts
from workers.artifacts import Shelf
from workers.attempts import Attempt
from workers.rendering import Rendered
from workers.trees import Scratch


class Pins:
    """Makes what a pod needs to fetch its workspace. Thread-safe."""

    def __init__(self, server_url: str | None, pass_for: Callable[[int, int, str], str]) -> None:
        """`pass_for` makes the pass for (attempt id, fence, digest)."""
        self._server_url = server_url
        self._pass_for = pass_for

    def parcel(self, claim: Claim, home: Home | None = None) -> Pinned:
        """Where the pod of this claim sends files. Raises PlatformError without a `server_url`."""
        if self._server_url is None:
            raise PlatformError(
                "the pod cannot send its files: the worker's configuration needs `server_url`, an"
                " address of the server that pods can reach"
            )
        digest = claim.revision_digest if home is None else home.digest
        token = self._pass_for(claim.attempt_id, claim.fence, digest)
        return Pinned(f"{self._server_url}/worker/artifacts", token)

    def pin(self, claim: Claim, home: Home | None = None) -> Pinned:
        """The pinned workspace of this claim, or of the owner of its action. Raises PlatformError
        without a `server_url`."""
        if self._server_url is None:
            raise PlatformError(
                "the pod cannot fetch its workspace: the worker's configuration needs `server_url`,"
                " an address of the server that pods can reach"
            )
        workspace, digest = claim.workspace, claim.revision_digest
        if home is not None:
            workspace, digest = home.workspace, home.digest
        address = f"{self._server_url}/worker/workspace/{quote(workspace, safe='')}.tar.gz"
        token = self._pass_for(claim.attempt_id, claim.fence, digest)
        return Pinned(f"{address}?{urlencode({'revision': digest})}", token)


def shelves(
    pins: Pins,
    shelf: Shelf,
    attempt: Attempt,
    material: Material,
    rendered: Rendered,
    scratch: Scratch,
) -> Shelves:
    """Where the pod of this attempt fetches and sends files."""
    kept = rendered.artifacts or Artifacts()
    is_image = rendered.action.type == "pod"
    return Shelves(
        scratch.left,
        on_failure=kept.on_failure,
        parcel=pins.parcel(attempt.claim, material.home),
        takes=bool(kept.takes),
        tell_end=partial(shelf.tell_end, attempt) if is_image else None,
    )


def says(rendered: Rendered, *names: str) -> bool:
    """Whether the action's own code names one of these variables."""
    action = rendered.action
    texts = (action.script, action.cmd, *action.image_words, *action.env.values())
    return any(name in text for text in texts if text for name in names)


def sees_state(material: Material, rendered: Rendered) -> bool:
    """Whether a pod's image gets directories of state, which takes a container more: only if
    something says that it is for them."""
    return material.declares_state or says(rendered, *STATE_VARIABLES)
