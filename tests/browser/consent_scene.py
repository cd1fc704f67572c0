"""A program that asks to be let in at /mcp."""

from __future__ import annotations

from urllib.parse import urlencode

from tests.browser.stage import Stage

Scene = tuple[str, tuple[str, ...]]


def request(stage: Stage, back: str = "https://agent.example.com/callback") -> str:
    """The page on which it asks."""
    from allauth.idp.oidc.models import Client

    program = Client(name="Design assistant", type="public", scopes="mcp", redirect_uris=back)
    program.set_grant_types(["authorization_code", "refresh_token"])
    program.save()
    query = {
        "response_type": "code",
        "client_id": program.pk,
        "redirect_uri": back,
        "state": "s",
        "scope": "mcp",
        "resource": f"{stage.url}/mcp",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }
    return f"/oauth/authorize?{urlencode(query)}"


def addresses(stage: Stage) -> dict[str, Scene]:
    return {
        "agent-consent": (request(stage), ()),
        "agent-refused": ("/oauth/authorize", ()),
        "connected-agents": ("/admin/accounts/connectedagent/", ()),
    }
