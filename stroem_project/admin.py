"""Imported after the pages of all other apps: those of allauth are not shown, in a style of their
own. `apps.accounts.admin` shows what people have let in, `apps.signin.pages` what they sign in
with."""

from django.apps import apps
from django.conf import settings
from django.contrib import admin

for app in apps.get_app_configs():
    if app.name.startswith("allauth"):
        for model in app.get_models():
            if admin.site.is_registered(model):
                admin.site.unregister(model)
if settings.HAS_ALLAUTH:
    from apps.signin.pages import PAGES

    for shown, page in PAGES.items():
        admin.site.register(shown, page)
