from django.apps import AppConfig


class AdminkitConfig(AppConfig):
    name = "apps.adminkit"
    label = "adminkit"
    verbose_name = "Adminkit"
    default_auto_field = "django.db.models.BigAutoField"
