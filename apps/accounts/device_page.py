"""The page on which a person confirms the code of a program."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from apps.accounts import devices, sessions
from apps.accounts.errors import TooMany
from apps.accounts.models import signed_in
from apps.accounts.throttles import spend, throttle_key
from engine.errors import NotFound

TRIES, IN_S = 10, 600


@require_http_methods(["GET", "POST"])
def device(request: HttpRequest) -> HttpResponse:
    """Asks for the code, then shows what asks, then says what became of it."""
    user = signed_in(request.user)
    shown: dict[str, Any] = {"title": "Sign in a program", "user": user}
    given = request.POST if request.method == "POST" else request.GET
    code = given.get("code", "")[:50].replace("\x00", "")
    if not sessions.is_fresh(request):  # the program gets a key that outlives this session
        back = f"{reverse('device')}?{urlencode({'code': code})}"
        return sessions.sign_in_again(request, "to sign in a program", back)
    if code:
        try:
            spend(throttle_key("device-code", str(user.pk)), limit=TRIES, window_s=IN_S)
            row = devices.found(code)
            if request.method == "POST" and "answer" in given:
                confirmed = given["answer"] == "yes"
                devices.answer(row, user, confirmed=confirmed)
                shown |= {"done": "in" if confirmed else "out"}
            shown |= {"row": row, "code": code}
        except NotFound as error:
            shown["wrong"] = str(error)
        except TooMany as error:
            shown["wrong"] = f"Too many codes; try again in {error.retry_after_s} seconds"
    context = {**admin.site.each_context(request), **shown}
    return render(request, "accounts/device.html", context)
