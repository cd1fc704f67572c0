"""The address of a link: it redirects to the page of its request, nothing more."""

from __future__ import annotations

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from apps.approvals import links
from apps.approvals.errors import LinkSpent, NotAllowed
from apps.approvals.links import PAGE
from engine.errors import NotFound

# ids of requests that this session reached by a link; the channel of their decisions
SESSION_KEY = "approvals_by_link"


@never_cache
@require_GET
def open_link(request: HttpRequest, token: str) -> HttpResponse:
    """Visitors who are not signed in (such as link previews) are sent to the sign-in page and do
    not spend the link."""
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    try:
        found = links.open_link(token, request.user, str(request.META.get("REMOTE_ADDR", "")))
    except NotFound as error:
        return _sentence(404, str(error))
    match found:
        case LinkSpent():
            return _sentence(
                410, f"{found}. Your open requests are at /admin/approvals/approvalrequest/"
            )
        case NotAllowed():
            return _sentence(403, str(found))
    request.session[SESSION_KEY] = [*request.session.get(SESSION_KEY, [])[-20:], found.pk]
    return HttpResponseRedirect(PAGE.format(id=found.pk))


def _sentence(status: int, text: str) -> HttpResponse:
    return HttpResponse(f"{text}\n", content_type="text/plain; charset=utf-8", status=status)
