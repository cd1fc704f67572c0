"""Addresses of signing in. They stand before the admin's own, whose names lead here."""

from __future__ import annotations

from django.urls import path

from apps.signin.views import door, forgotten, security, sign_on

urlpatterns = [
    path("admin/login/", door.sign_in, name="signin"),
    path("admin/login/second/", door.second, name="signin_second"),
    path("admin/login/passkey/begin/", door.passkey_begin, name="signin_with_passkey_begin"),
    path("admin/login/passkey/", door.passkey, name="signin_with_passkey"),
    path("admin/login/with/<str:name>/", sign_on.begin, name="signin_with"),
    path("admin/login/with/<str:name>/callback/", sign_on.callback, name="signin_callback"),
    path("admin/logout/", door.sign_out, name="signin_out"),
    path("admin/forgotten/", forgotten.ask, name="signin_forgotten"),
    path("admin/forgotten/sent/", forgotten.sent, name="signin_forgotten_sent"),
    path("admin/forgotten/<str:uidb64>/<str:token>/", forgotten.reset, name="signin_reset"),
    *security.urlpatterns,
]
