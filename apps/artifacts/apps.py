from django.apps import AppConfig


class ArtifactsConfig(AppConfig):
    name = "apps.artifacts"
    verbose_name = "Artifacts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.artifacts.files import leaving, shelf
        from apps.artifacts.state.keeping import Keeper
        from apps.jobs import ports

        ports.on_files(shelf.listed)
        ports.on_removal("artifacts", leaving.on_removal)
        ports.keep(Keeper())
