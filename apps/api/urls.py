"""The routes of the API. Unknown addresses under /api/ are answered in JSON as well."""

from django.urls import path, re_path
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

PLAIN, VERSIONED = "api/", "api/v1/"
urlpatterns = [
    path("healthz", public.healthz),
    path("healthz/detail", health.HealthView.as_view()),
    path("metrics", health.MetricsView.as_view()),
    path("api/config", public.ConfigView.as_view()),
    path("api/schema", public.SchemaView.as_view()),
    path("api/docs", public.DocsView.as_view()),
    path("api/schema/workflow.json", public.WorkflowSchemaView.as_view()),
    path("api/auth/login", auth.LoginView.as_view()),
    path("api/auth/refresh", auth.RefreshView.as_view()),
    path("api/auth/logout", auth.LogoutView.as_view()),
    path("api/auth/device", devices.DeviceView.as_view()),
    path("api/auth/device/token", devices.DeviceTokenView.as_view()),
    path("api/auth/me", auth.MeView.as_view()),
    path("api/auth/agents", auth.AgentsView.as_view()),
    path("api/auth/agents/<str:agent>", auth.AgentView.as_view()),
    path("api/auth/api-keys", auth.KeysView.as_view()),
    path("api/auth/api-keys/<str:prefix>", auth.KeyView.as_view()),
    path("api/auth/api-keys/<str:prefix>/rotate", auth.KeyRotateView.as_view()),
    path("api/audit", audit.AuditView.as_view()),
    path("api/audit/export", audit.AuditExportView.as_view()),
    path("api/service-accounts", services.ServicesView.as_view()),
    path("api/service-accounts/<str:service>", services.OneServiceView.as_view()),
    path("api/service-accounts/<str:service>/api-keys", services.ServiceKeysView.as_view()),
    path(
        "api/service-accounts/<str:service>/api-keys/<str:prefix>",
        services.ServiceKeyView.as_view(),
    ),
    path(
        "api/service-accounts/<str:service>/api-keys/<str:prefix>/rotate",
        services.ServiceKeyRotateView.as_view(),
    ),
    path("api/workspaces", workspaces.WorkspacesView.as_view()),
    path("api/workspaces/<str:workspace>", workspaces.WorkspaceView.as_view()),
    path("api/workspaces/<str:workspace>/refresh", workspaces.RefreshView.as_view()),
    path("api/workspaces/<str:workspace>/libraries", libraries.LibrariesView.as_view()),
    path(
        "api/workspaces/<str:workspace>/libraries/<str:name>/refresh",
        libraries.RefreshLibraryView.as_view(),
    ),
    path("api/workspaces/<str:workspace>/secrets", workspaces.SecretsView.as_view()),
    path("api/workspaces/<str:workspace>/secrets/<str:name>", workspaces.SecretView.as_view()),
    path("api/workspaces/<str:workspace>/connections", connections.ConnectionsView.as_view()),
    path(
        "api/workspaces/<str:workspace>/connection-types", connections.ConnectionTypesView.as_view()
    ),
    path(
        "api/workspaces/<str:workspace>/connections/<str:name>",
        connections.ConnectionView.as_view(),
    ),
    path(
        "api/workspaces/<str:workspace>/connections/<str:name>/check",
        connections.CheckView.as_view(),
    ),
    path("api/workspaces/<str:workspace>/subscriptions", subscriptions.SubscriptionsView.as_view()),
    path(
        "api/workspaces/<str:workspace>/subscriptions/<str:subscription>",
        subscriptions.SubscriptionView.as_view(),
    ),
    path(
        "api/workspaces/<str:workspace>/subscriptions/<str:subscription>/rotate",
        subscriptions.RotateView.as_view(),
    ),
    path(
        "api/workspaces/<str:workspace>/subscriptions/<str:subscription>/ping",
        subscriptions.PingView.as_view(),
    ),
    path(
        "api/workspaces/<str:workspace>/subscriptions/<str:subscription>/deliveries",
        subscriptions.DeliveriesView.as_view(),
    ),
    path(
        "api/workspaces/<str:workspace>/subscriptions/<str:subscription>/deliveries/<str:delivery>/send-again",
        subscriptions.SendAgainView.as_view(),
    ),
    path("api/workspaces/<str:workspace>/tasks", workspaces.TasksView.as_view()),
    path("api/workspaces/<str:workspace>/tasks/<str:task>", workspaces.TaskView.as_view()),
    path(
        "api/workspaces/<str:workspace>/tasks/<str:task>/execute", workspaces.ExecuteView.as_view()
    ),
    path("api/workspaces/<str:workspace>/tasks/<str:task>/plan", workspaces.PlanView.as_view()),
    *(
        path(f"api/workspaces/<str:workspace>/{owner}state{route}", view.as_view())
        for owner in ("", "tasks/<str:task>/")
        for route, view in (
            ("", states.StateView),
            ("/archive", states.StateArchiveView),
            ("/history", states.StateHistoryView),
            ("/versions/<str:version>", states.StateVersionView),
            ("/versions/<str:version>/restore", states.RestoreView),
        )
    ),
    path("api/workspaces/<str:workspace>/triggers", triggers.TriggersView.as_view()),
    path("api/workspaces/<str:workspace>/triggers/<str:trigger>", triggers.TriggerView.as_view()),
    path(
        "api/workspaces/<str:workspace>/triggers/<str:trigger>/pause", triggers.PauseView.as_view()
    ),
    path(
        "api/workspaces/<str:workspace>/triggers/<str:trigger>/resume",
        triggers.ResumeView.as_view(),
    ),
    path("api/workspaces/<str:workspace>/triggers/<str:trigger>/fire", triggers.FireView.as_view()),
    path(
        "api/workspaces/<str:workspace>/triggers/<str:trigger>/dead-letters/<str:letter>/send-again",
        triggers.SendAgainView.as_view(),
    ),
    path(
        "api/workspaces/<str:workspace>/triggers/<str:trigger>/dead-letters/<str:letter>/discard",
        triggers.DiscardView.as_view(),
    ),
    path("api/triggers", triggers.AllTriggersView.as_view()),
    path(
        "api/workspaces/<str:workspace>/tasks/<str:task>/stats", durations.TaskStatsView.as_view()
    ),
    path("api/tasks", workspaces.AllTasksView.as_view()),
    path("api/jobs", jobs.JobsView.as_view()),
    path("api/jobs/<str:job>", jobs.JobView.as_view()),
    path("api/jobs/<str:job>/cancel", jobs.CancelView.as_view()),
    path("api/jobs/<str:job>/restart", jobs.RestartView.as_view()),
    path("api/jobs/<str:job>/artifacts", artifacts.ArtifactsView.as_view()),
    path("api/jobs/<str:job>/artifacts.zip", artifacts.ArtifactsZipView.as_view()),
    path("api/jobs/<str:job>/artifacts/<path:name>", artifacts.ArtifactView.as_view()),
    path("api/jobs/<str:job>/steps", steps.StepsView.as_view()),
    path("api/jobs/<str:job>/news", news.NewsView.as_view()),
    path("api/jobs/<str:job>/logs", jobs.LogsView.as_view()),
    path("api/jobs/<str:job>/logs/search", log_search.LogSearchView.as_view()),
    path("api/jobs/<str:job>/steps/<str:step>/logs", jobs.StepLogsView.as_view()),
    path("api/jobs/<str:job>/steps/<str:step>/transcript", agents.TranscriptView.as_view()),
    path("api/jobs/<str:job>/workflow-actions", workflow_actions.ActionsView.as_view()),
    path(
        "api/jobs/<str:job>/workflow-actions/<str:action>/logs",
        workflow_actions.ActionLogsView.as_view(),
    ),
    path("api/jobs/<str:job>/steps/<str:step>/approval", approvals.ApprovalView.as_view()),
    path("api/jobs/<str:job>/steps/<str:step>/approve", approvals.DecideView.as_view()),
    path("api/jobs/<str:job>/steps/<str:step>/withdraw", approvals.WithdrawView.as_view()),
    path("api/jobs/<str:job>/steps/<str:step>/delegate", approvals.DelegateView.as_view()),
    path("api/jobs/<str:job>/steps/<str:step>/link", approvals.LinkView.as_view()),
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
