"""Where agents find what they need. The library finds its own page by these names."""

from django.urls import include, path

from apps.api.oauth import views

WELL_KNOWN = ".well-known/oauth-"
_OURS = [path("oauth/authorize", views.authorize, name="authorization")]
urlpatterns = [
    path(f"{WELL_KNOWN}protected-resource", views.resource_metadata),
    path(f"{WELL_KNOWN}protected-resource/mcp", views.resource_metadata),
    path(f"{WELL_KNOWN}authorization-server", views.server_metadata),
    path("oauth/register", views.register),
    path("oauth/token", views.token),
    path("", include(([path("", include((_OURS, "oidc")))], "idp"))),
]
