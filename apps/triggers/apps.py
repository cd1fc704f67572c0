from django.apps import AppConfig


class TriggersConfig(AppConfig):
    name = "apps.triggers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.jobs import ports as job_ports
        from apps.triggers import ends, roster
        from apps.triggers.models import Trigger
        from apps.workspaces import ports

        ports.on_revision("triggers", roster.follow, Trigger)
        ports.on_check("triggers", roster.doubts, about=("triggers", "exports.job_ends"))
        job_ports.on_end("triggers", ends.on_end)
