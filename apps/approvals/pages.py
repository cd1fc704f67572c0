"""Where the pages of approvals are, for links in messages."""

from __future__ import annotations

from django.conf import settings

PAGE = "/admin/approvals/approvalrequest/{id}/change/"
LINK = "/approvals/link/{token}"


def page_url(request_id: int) -> str:
    """The address of the page where people decide this request."""
    return f"{settings.BASE_URL}{PAGE.format(id=request_id)}"


def link_url(token: str) -> str:
    return f"{settings.BASE_URL}{LINK.format(token=token)}"
