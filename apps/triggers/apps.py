from django.apps import AppConfig


class TriggersConfig(AppConfig):
    name = "apps.triggers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.jobs import ports as job_ports
        from apps.triggers import ends, roster
        from apps.workspaces import ports

        ports.on_revision("triggers", roster.follow)
        ports.on_check("triggers", roster.doubts)
        job_ports.on_end("triggers", ends.on_end)
