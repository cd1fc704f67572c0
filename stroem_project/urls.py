"""URLs of the API, the admin and the live pages."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from apps.api.views.archives import pinned_archive
from apps.api.views.parcels import ask, image_end, parcel
from apps.approvals.views import open_link

admin.autodiscover()
urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("", include("apps.accounts.urls")),
    path("", include("apps.jobs.urls")),
    path("", include("apps.workflow_actions.urls")),
    path("", include("apps.agents.urls")),
    path("", include("apps.connections.urls")),
    path("", include("apps.artifacts.state.urls")),
    path("", include("apps.artifacts.urls")),
    path("", include("apps.triggers.urls")),
    path("", include("apps.workspaces.urls")),
    path("approvals/link/<str:token>", open_link),
    path("worker/workspace/<str:workspace>.tar.gz", pinned_archive),
    path("worker/artifacts", parcel),
    path("worker/artifacts/end", image_end),
    path("worker/artifacts/ask", ask),
    *([path("", include("apps.signin.urls"))] if settings.HAS_ALLAUTH else []),
    path("admin/", admin.site.urls),
    path("", include("apps.api.oauth.urls")),
    path("", include("apps.api.urls")),
]
handler400 = "apps.api.errors.bad_request"
handler403 = "apps.api.errors.forbidden"
handler404 = "apps.api.errors.not_found"
handler500 = "apps.api.errors.server_error"
