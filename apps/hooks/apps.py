from django.apps import AppConfig


class HooksConfig(AppConfig):
    name = "apps.hooks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.hooks import services
        from apps.jobs import ports

        ports.on_end("hooks", services.on_end)
        ports.on_suspension("hooks", services.on_suspended)
        ports.on_removal("hooks", services.on_removal)
