from django.apps import AppConfig


class SubscriptionsConfig(AppConfig):
    name = "apps.subscriptions"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.jobs import ports
        from apps.subscriptions import telling

        ports.on_end("subscriptions", telling.on_end)
        ports.on_failures("subscriptions", telling.on_failures)
        ports.on_suspension("subscriptions", telling.on_suspension)
