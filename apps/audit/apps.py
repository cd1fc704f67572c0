from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "apps.audit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.adminkit import edits
        from apps.audit.edited import note_edit

        edits.listener = note_edit
