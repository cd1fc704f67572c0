"""Pages of accounts that belong to no list."""

from django.contrib import admin
from django.urls import path

from apps.accounts.device_page import device

urlpatterns = [path("admin/device/", admin.site.admin_view(device), name="device")]
