from django.apps import AppConfig


class ConductorConfig(AppConfig):
    name = "apps.conductor"
    label = "conductor"
    verbose_name = "Conductor"
    default_auto_field = "django.db.models.BigAutoField"
