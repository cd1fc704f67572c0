from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured


class WorkspacesConfig(AppConfig):
    name = "apps.workspaces"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Refuse to start if encryption does not work."""
        from apps.workspaces import sealing
        from apps.workspaces.errors import SealError

        try:
            sealing.check()
        except SealError as error:
            raise ImproperlyConfigured(str(error)) from None
