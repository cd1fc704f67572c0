from django.apps import AppConfig


class StroemProjectConfig(AppConfig):
    name = "stroem_project"
    label = "stroem_project"
    verbose_name = "Stroem"
