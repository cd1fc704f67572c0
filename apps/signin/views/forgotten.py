"""A new password by mail. Whether an address has an account is told to nobody: the page says the
same, after the same time, as the mail is written apart."""

from __future__ import annotations

import logging
import smtplib
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.contrib.auth.views import PasswordResetConfirmView
from django.core.mail import EmailMessage
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse, reverse_lazy
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminPasswordWidget

from apps.accounts.errors import TooMany
from apps.accounts.models import User
from apps.accounts.throttles import address_range, spend, throttle_key
from apps.signin.views.door import frame

log = logging.getLogger("stroem.accounts")
OF_ADDRESS, OF_ACCOUNT, HOUR_S = 10, 3, 3600
MOST_WAITING = 100
_room = BoundedSemaphore(MOST_WAITING)
_mails = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reset")


class Forgotten(forms.Form):
    email = forms.EmailField(
        label="E-mail", max_length=254,
        widget=UnfoldAdminEmailInputWidget({"autocomplete": "username", "autofocus": ""}),
    )  # fmt: skip


@never_cache
@csrf_protect
@require_http_methods(["GET", "POST"])
def ask(request: HttpRequest) -> HttpResponse:
    if not settings.MAIL_IS_CONFIGURED:
        context = frame(request, "Forgotten password")
        return render(request, "signin/no_mail.html", context, status=404)
    form, told = Forgotten(request.POST or None), ""
    if request.method == "POST" and form.is_valid():
        email = form.cleaned_data["email"]
        try:
            _spend(request, email)
        except TooMany as error:
            minutes = max(1, round(error.retry_after_s / 60))
            told = f"Too many requests; try again in {minutes} minutes"
        else:
            _mails.submit(_send_one, email)
            return redirect("signin_forgotten_sent")
    context = {**frame(request, "Forgotten password"), "form": form, "told": told}
    return render(request, "signin/forgotten.html", context, status=429 if told else 200)


def _spend(request: HttpRequest, email: str) -> None:
    """Of known and unknown addresses alike."""
    place = address_range(request.META.get("REMOTE_ADDR", ""))
    spend(throttle_key("reset-address", place), limit=OF_ADDRESS, window_s=HOUR_S)
    spend(throttle_key("reset-account", email.strip().lower()), limit=OF_ACCOUNT, window_s=HOUR_S)
    if not _room.acquire(blocking=False):
        raise TooMany(60)


def _send_one(email: str) -> None:
    try:
        send(email)
    finally:
        _room.release()
        connection.close()


def send(email: str) -> None:
    """A mail to the account with this address, if there is one that has a password."""
    try:
        user = User.objects.with_email(email).filter(is_active=True).first()
        if user is not None and user.has_usable_password():
            _message(user).send()
    except (OSError, smtplib.SMTPException) as error:
        log.warning("a mail for a new password was not sent: %s", error)


def _message(user: User) -> EmailMessage:
    """To the address of the account, however the request wrote it."""
    names = {
        "uidb64": urlsafe_base64_encode(force_bytes(user.pk)),
        "token": default_token_generator.make_token(user),
    }
    there = f"{settings.BASE_URL}{reverse('signin_reset', kwargs=names)}"
    context = {"user": user, "there": there, "base": settings.BASE_URL}
    body = render_to_string("signin/reset_mail.txt", context)
    return EmailMessage("A new password for Stroem", body, to=[user.email])


@never_cache
@require_http_methods(["GET"])
def sent(request: HttpRequest) -> HttpResponse:
    return render(request, "signin/sent.html", frame(request, "Look into your mail"))


class Reset(PasswordResetConfirmView):
    """Django's: the token of the link is good until the password changes, for an hour."""

    template_name = "signin/reset.html"
    success_url = reverse_lazy("admin:login")
    reset_url_token = "now"  # noqa: S105  (a part of the address, no secret)

    def get_form(self, form_class: Any = None) -> Any:
        form = super().get_form(form_class)
        for name in ("new_password1", "new_password2"):
            form.fields[name].widget = UnfoldAdminPasswordWidget({"autocomplete": "new-password"})
        return form

    def form_valid(self, form: Any) -> HttpResponse:
        answer = super().form_valid(form)
        log.info("a password was reset by mail", extra={"fields": {"user": form.user.pk}})
        return answer

    def get_context_data(self, **more: Any) -> dict[str, Any]:
        return {**super().get_context_data(**more), **frame(self.request, "New password")}


reset = Reset.as_view()
