from django.apps import AppConfig


class ApprovalsConfig(AppConfig):
    name = "apps.approvals"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.approvals import suspension
        from apps.jobs import ports

        ports.on_step("approval", suspension.suspend)
        ports.on_asking(suspension.ask)
        ports.on_cancel("approvals", suspension.close_cancelled)
