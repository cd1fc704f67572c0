from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "apps.agents"
    label = "agents"
    verbose_name = "Agents"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.agents import children, rulings, services, transcripts
        from apps.jobs import ports

        ports.call("agents", children)
        ports.on_ruling("agent", rulings.decided)
        ports.on_removal("agents", services.on_removal)
        ports.on_progress("agent", transcripts.marks)
