"""Pages of accounts that belong to no list."""

from django.contrib import admin
from django.urls import path

from apps.accounts import own_keys
from apps.accounts.device_page import device

page = admin.site.admin_view
urlpatterns = [
    path("admin/device/", page(device), name="device"),
    path("admin/keys/", page(own_keys.own_keys), name="own_keys"),
    path("admin/keys/new/", page(own_keys.new_key), name="own_key_new"),
    path("admin/keys/<int:pk>/revoke/", page(own_keys.revoke_key), name="own_key_revoke"),
    path("admin/keys/agents/<int:pk>/end/", page(own_keys.end_agent), name="own_agent_end"),
]
