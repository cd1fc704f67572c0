from django.apps import AppConfig


class WorkflowActionsConfig(AppConfig):
    name = "apps.workflow_actions"
    label = "workflow_actions"
    verbose_name = "Workflow actions"
    default_auto_field = "django.db.models.BigAutoField"
