from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "apps.jobs"
    label = "jobs"
    verbose_name = "Jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from apps.jobs import ports
        from apps.jobs.flow import admission, children, task_retries

        ports.on_step("task", children.start_child)
        ports.on_end("retry", task_retries.on_end)
        ports.on_end("parents", children.on_child_end)
        ports.on_end("next", admission.on_end)
