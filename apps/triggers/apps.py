from django.apps import AppConfig


class TriggersConfig(AppConfig):
    name = "apps.triggers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.triggers import roster
        from apps.workspaces import ports

        ports.on_revision("triggers", roster.follow)
        ports.on_check("triggers", roster.doubts)
