"""Where pods fetch their workspace and send their files, with the passes for it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, urlencode

from apps.jobs.ledger import Claim, Home
from engine.errors import PlatformError
from engine.orders import Pinned


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
