from django.apps import AppConfig


class WorkflowActionsConfig(AppConfig):
    name = "apps.workflow_actions"
    label = "workflow_actions"
    verbose_name = "Workflow actions"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.jobs import ports
        from apps.workflow_actions import services, snapshots
        from engine.lifecycle import OwnerKind

        ports.own(OwnerKind.ACTION, services)
        ports.on_birth("workflow_actions", services.on_birth)
        ports.on_moves("workflow_actions", services.on_moves)
        ports.on_end("workflow_actions", services.on_end)
        ports.on_cancel("workflow_actions", services.on_cancel)
        ports.on_removal("workflow_actions", services.on_removal)
        ports.on_page("workflow_actions", ports.Beside(snapshots.briefs_of, services.has_action))
