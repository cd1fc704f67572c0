from django.apps import AppConfig


class SigninConfig(AppConfig):
    name = "apps.signin"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.accounts import sessions
        from apps.signin.middleware import stream_holds

        sessions.register(stream_holds)
