"""The pages on which people see what acts for them, make API keys of their own, and end both."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.accounts import connected, sessions, tokens
from apps.accounts.key_admin import TO_MAKE_KEYS, KeyForm
from apps.accounts.models import ApiToken, ConnectedAgent, signed_in

TITLE = "API keys and agents"


class OwnKeyForm(KeyForm):
    class Meta:
        model = ApiToken
        fields = ("name",)
        widgets: ClassVar = {"name": UnfoldAdminTextInputWidget()}
        help_texts: ClassVar = {"name": "What uses it, such as a laptop or a pipeline."}


@require_GET
def own_keys(request: HttpRequest) -> HttpResponse:
    user = signed_in(request.user)
    more = {
        "keys": ApiToken.objects.filter(user=user).order_by("-created_at"),
        "agents": ConnectedAgent.objects.filter(user=user).order_by("-created_at"),
        "now": timezone.now(),
    }
    return _shown(request, "accounts/own_keys.html", TITLE, more)


@require_http_methods(["GET", "POST"])
def new_key(request: HttpRequest) -> HttpResponse:
    if not sessions.is_fresh(request):
        return sessions.sign_in_again(request, TO_MAKE_KEYS, reverse("own_key_new"))
    form = OwnKeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        key, row = form.make(signed_in(request.user), timezone.now())
        more = {"key": key, "row": row, "back": reverse("own_keys")}
        return _shown(request, "accounts/new_key.html", "New API key", more)
    crumbs = [(TITLE, reverse("own_keys"))]
    more = {"form": form, "crumbs": crumbs}
    return _shown(request, "accounts/own_key.html", "New API key", more)


@require_POST
def revoke_key(request: HttpRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(ApiToken, user=signed_in(request.user), pk=pk)
    tokens.revoke_key(row)
    messages.success(request, f"Revoked: {row}.")
    return redirect("own_keys")


@require_POST
def end_agent(request: HttpRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(ConnectedAgent, user=signed_in(request.user), pk=pk)
    connected.revoke(row)
    messages.success(request, f"Ended: {row.name or row.client_id}.")
    return redirect("own_keys")


def _shown(request: HttpRequest, page: str, title: str, more: dict[str, Any]) -> HttpResponse:
    context = {**admin.site.each_context(request), "title": title, **more}
    return render(request, page, context)
