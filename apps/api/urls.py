"""The routes of the API. Unknown addresses under /api/ are answered in JSON as well."""

from collections.abc import Mapping

from django.urls import URLPattern, path, re_path
from django.views.decorators.csrf import csrf_exempt

from apps.api.errors import not_found
from apps.api.views import (
    agents,
    approvals,
    artifacts,
    audit,
    auth,
    connections,
    devices,
    durations,
    health,
    jobs,
    libraries,
    log_search,
    news,
    people,
    public,
    services,
    states,
    steps,
    subscriptions,
    triggers,
    workers,
    workflow_actions,
    workspaces,
)
from apps.api.views.base import ApiView

PLAIN, VERSIONED = "api/", "api/v1/"
WORKSPACE, JOB = "api/workspaces/<str:workspace>", "api/jobs/<str:job>"
Routes = Mapping[str, type[ApiView]]


def _under(start: str, routes: Routes) -> list[URLPattern]:
    return [path(start + rest, view.as_view()) for rest, view in routes.items()]


STATE: Routes = {
    "": states.StateView,
    "/archive": states.StateArchiveView,
    "/history": states.StateHistoryView,
    "/versions/<str:version>": states.StateVersionView,
    "/versions/<str:version>/restore": states.RestoreView,
}
urlpatterns = [
    path("healthz", public.healthz),
    path("healthz/detail", health.HealthView.as_view()),
    path("metrics", health.MetricsView.as_view()),
    path("api/config", public.ConfigView.as_view()),
    path("api/schema", public.SchemaView.as_view()),
    path("api/docs", public.DocsView.as_view()),
    path("api/schema/workflow.json", public.WorkflowSchemaView.as_view()),
    *_under(
        "api/auth/",
        {
            "login": auth.LoginView,
            "refresh": auth.RefreshView,
            "logout": auth.LogoutView,
            "device": devices.DeviceView,
            "device/token": devices.DeviceTokenView,
            "me": auth.MeView,
            "agents": auth.AgentsView,
            "agents/<str:agent>": auth.AgentView,
            "api-keys": auth.KeysView,
            "api-keys/<str:prefix>": auth.KeyView,
            "api-keys/<str:prefix>/rotate": auth.KeyRotateView,
        },
    ),
    path("api/audit", audit.AuditView.as_view()),
    path("api/audit/export", audit.AuditExportView.as_view()),
    *_under(
        "api/service-accounts",
        {
            "": services.ServicesView,
            "/<str:service>": services.OneServiceView,
            "/<str:service>/api-keys": services.ServiceKeysView,
            "/<str:service>/api-keys/<str:prefix>": services.ServiceKeyView,
            "/<str:service>/api-keys/<str:prefix>/rotate": services.ServiceKeyRotateView,
        },
    ),
    path("api/workspaces", workspaces.WorkspacesView.as_view()),
    *_under(
        WORKSPACE,
        {
            "": workspaces.WorkspaceView,
            "/refresh": workspaces.RefreshView,
            "/libraries": libraries.LibrariesView,
            "/libraries/<str:name>/refresh": libraries.RefreshLibraryView,
            "/secrets": workspaces.SecretsView,
            "/secrets/<str:name>": workspaces.SecretView,
            "/connections": connections.ConnectionsView,
            "/connection-types": connections.ConnectionTypesView,
            "/connections/<str:name>": connections.ConnectionView,
            "/connections/<str:name>/check": connections.CheckView,
        },
    ),
    *_under(
        f"{WORKSPACE}/subscriptions",
        {
            "": subscriptions.SubscriptionsView,
            "/<str:subscription>": subscriptions.SubscriptionView,
            "/<str:subscription>/rotate": subscriptions.RotateView,
            "/<str:subscription>/ping": subscriptions.PingView,
            "/<str:subscription>/deliveries": subscriptions.DeliveriesView,
            "/<str:subscription>/deliveries/<str:delivery>/send-again": (
                subscriptions.SendAgainView
            ),
        },
    ),
    *_under(
        f"{WORKSPACE}/tasks",
        {
            "": workspaces.TasksView,
            "/<str:task>": workspaces.TaskView,
            "/<str:task>/execute": workspaces.ExecuteView,
            "/<str:task>/plan": workspaces.PlanView,
            "/<str:task>/stats": durations.TaskStatsView,
        },
    ),
    *_under(f"{WORKSPACE}/state", STATE),
    *_under(f"{WORKSPACE}/tasks/<str:task>/state", STATE),
    *_under(
        f"{WORKSPACE}/triggers",
        {
            "": triggers.TriggersView,
            "/<str:trigger>": triggers.TriggerView,
            "/<str:trigger>/pause": triggers.PauseView,
            "/<str:trigger>/resume": triggers.ResumeView,
            "/<str:trigger>/fire": triggers.FireView,
            "/<str:trigger>/dead-letters/<str:letter>/send-again": triggers.SendAgainView,
            "/<str:trigger>/dead-letters/<str:letter>/discard": triggers.DiscardView,
        },
    ),
    path("api/triggers", triggers.AllTriggersView.as_view()),
    path("api/tasks", workspaces.AllTasksView.as_view()),
    path("api/jobs", jobs.JobsView.as_view()),
    *_under(
        JOB,
        {
            "": jobs.JobView,
            "/cancel": jobs.CancelView,
            "/restart": jobs.RestartView,
            "/artifacts": artifacts.ArtifactsView,
            "/artifacts.zip": artifacts.ArtifactsZipView,
            "/artifacts/<path:name>": artifacts.ArtifactView,
            "/steps": steps.StepsView,
            "/news": news.NewsView,
            "/logs": jobs.LogsView,
            "/logs/search": log_search.LogSearchView,
            "/workflow-actions": workflow_actions.ActionsView,
            "/workflow-actions/<str:action>/logs": workflow_actions.ActionLogsView,
        },
    ),
    *_under(
        f"{JOB}/steps/<str:step>",
        {
            "/logs": jobs.StepLogsView,
            "/transcript": agents.TranscriptView,
            "/approval": approvals.ApprovalView,
            "/approve": approvals.DecideView,
            "/withdraw": approvals.WithdrawView,
            "/delegate": approvals.DelegateView,
            "/link": approvals.LinkView,
        },
    ),
    path("api/approvals", approvals.InboxView.as_view()),
    path("api/agents/costs", agents.CostsView.as_view()),
    path("api/stats", jobs.StatsView.as_view()),
    path("api/workers", workers.WorkersView.as_view()),
    path("api/workers/<str:worker>", workers.WorkerView.as_view()),
    path("api/users", people.PeopleView.as_view()),
    path("api/users/<str:user>", people.PersonView.as_view()),
    path("api/users/<str:user>/admin", people.PersonAdminView.as_view()),
    path("api/users/<str:user>/groups", people.PersonGroupsView.as_view()),
    path("api/groups", people.GroupsView.as_view()),
]
# The same routes under the name of their version.
urlpatterns += [
    path(VERSIONED + route.removeprefix(PLAIN), pattern.callback)
    for pattern in urlpatterns
    if (route := str(pattern.pattern)).startswith(PLAIN)
]
urlpatterns += [re_path(r"^api(?:/.*)?$", csrf_exempt(not_found))]
