"""Who opens which address outside the API: one row for each route and method.

A right: on the task of the object (`TASK`), or on the whole workspace (`WHOLE`). The API's rows are in
`tests/apps/api/test_access.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.rights import Right


class Needs(NamedTuple):
    right: Right
    on_task: bool = True
    beside: tuple[Right, ...] = ()  # which it takes as well


# Who has signed in; superusers; not even they: there is no such page.
PEOPLE, SUPERUSERS, NOBODY = "people", "superusers", "nobody"
# Asks for more than rights (an approver, a token, a client of OAuth): see the tests of these.
OWN = "own"
Who = str | Needs
SEE, RUN = Needs(Right.SEE), Needs(Right.RUN)
LOGS, INPUTS = Needs(Right.LOGS), Needs(Right.INPUTS)
SECRETS, MANAGE = Needs(Right.SECRETS, on_task=False), Needs(Right.MANAGE, on_task=False)
SUBSCRIBE = Needs(Right.MANAGE, False, (Right.SEE, Right.INPUTS, Right.LOGS))
JOB = "admin/jobs/job/<uuid:job_id>/"


def model(name: str, listed: Who, row: Who, add: Who, delete: Who) -> dict[tuple[str, str], Who]:
    """The pages of one model; `row` is who sees the page of one row."""
    start = f"admin/{name}/"
    return {
        ("get", start): listed,
        ("get", f"{start}add/"): add,
        ("get", f"{start}<path:object_id>/history/"): row,
        ("get", f"{start}<path:object_id>/delete/"): delete,
        ("get", f"{start}<path:object_id>/change/"): row,
        ("get", f"{start}<path:object_id>/"): PEOPLE,  # leads to the page of the row
    }


TABLE: dict[tuple[str, str], Who] = {
    ("get", ""): OWN,  # leads to the dashboard
    ("get", "admin/"): PEOPLE,
    ("get", "admin/login/"): OWN,  # who has signed in is led to the dashboard
    ("get", "admin/login/second/"): OWN,  # whose password was right
    # of whoever wants to sign in
    ("post", "admin/login/passkey/"): OWN,
    ("post", "admin/login/passkey/begin/"): OWN,
    ("get", "admin/login/with/<str:name>/"): OWN,
    ("get", "admin/login/with/<str:name>/callback/"): OWN,
    ("get", "admin/forgotten/"): OWN,
    ("get", "admin/forgotten/sent/"): OWN,
    ("get", "admin/forgotten/<str:uidb64>/<str:token>/"): OWN,
    ("get", "admin/device/"): PEOPLE,
    ("get", "admin/keys/"): PEOPLE,
    ("get", "admin/keys/new/"): OWN,  # takes a sign-in of late
    ("post", "admin/keys/<int:pk>/revoke/"): OWN,  # whose it is
    ("post", "admin/keys/agents/<int:pk>/end/"): OWN,
    ("get", "admin/security/"): PEOPLE,
    # take a sign-in of late
    ("get", "admin/security/app/"): OWN,
    ("get", "admin/security/codes/"): OWN,
    ("post", "admin/security/passkey/"): OWN,
    ("post", "admin/security/passkey/begin/"): OWN,
    ("post", "admin/security/<int:pk>/remove/"): OWN,
    ("get", "admin/password_change/"): PEOPLE,
    ("get", "admin/password_change/done/"): PEOPLE,
    ("get", "admin/search/"): PEOPLE,
    ("get", "admin/autocomplete/"): NOBODY,  # without a field that a form of theirs has
    ("get", "admin/jsi18n/"): PEOPLE,
    ("get", "admin/r/<path:content_type_id>/<path:object_id>/"): NOBODY,
    ("get", "admin/^(?P<app_label>audit|accounts|auth|workspaces|fleet|jobs|approvals|subscriptions|triggers|mfa|socialaccount)/$"): OWN,
    ("get", "admin/(?P<url>.*)$"): NOBODY,
    ("get", "admin/tasks/"): PEOPLE,
    ("get", "admin/tasks/<slug:workspace>/<path:name>/"): SEE,
    ("post", "admin/tasks/<slug:workspace>/<path:name>/"): RUN,
    ("get", "admin/jobs/<uuid:job_id>/live/"): SEE,
    ("get", "admin/jobs/<uuid:job_id>/log/"): LOGS,
    ("get", "admin/jobs/<uuid:job_id>/log/search/"): LOGS,
    ("get", "admin/jobs/<uuid:job_id>/actions/<int:action_id>/"): SEE,
    ("get", f"{JOB}steps/"): SEE,
    ("get", f"{JOB}steps/<int:step_id>/"): SEE,
    ("get", f"{JOB}steps/<int:step_id>/transcript/"): OWN,  # both inputs and logs, of an agent step
    ("get", f"{JOB}details/"): SEE,
    ("get", f"{JOB}timeline/"): SEE,
    ("post", f"{JOB}cancel/"): RUN,
    ("post", f"{JOB}restart/"): RUN,
    ("get", f"{JOB}artifacts/<int:artifact_id>/"): INPUTS,
    ("get", "admin/state/<slug:workspace>/"): Needs(Right.INPUTS, on_task=False),
    ("post", "admin/state/<slug:workspace>/restore/"): MANAGE,
    ("get", "admin/state/<slug:workspace>/tasks/<path:name>/"): INPUTS,
    ("post", "admin/state/<slug:workspace>/tasks/<path:name>/restore/"): RUN,
    # they name tasks: without one of these, there are none
    ("get", "admin/connections/"): PEOPLE,
    ("get", "admin/connections/<slug:workspace>/of/<path:name>/"): SEE,
    ("post", "admin/connections/<slug:workspace>/of/<path:name>/"): SECRETS,
    ("get", "admin/connections/<slug:workspace>/add/<path:kind>/"): SECRETS,
    ("post", "admin/connections/<slug:workspace>/check/<path:name>/"): RUN,
    ("post", "admin/connections/<slug:workspace>/remove/<path:name>/"): SECRETS,
    ("get", "admin/workspaces/<slug:workspace>/remove/"): SUPERUSERS,
    ("get", "admin/rights/"): SUPERUSERS,
    ("get", "admin/rights/matching/"): SUPERUSERS,
    ("get", "admin/workspaces/workspace/matching/"): SUPERUSERS,
    ("post", "admin/workspaces/workspace/<int:pk>/refresh/"): OWN,  # read by another process
    ("get", "admin/accounts/user/<id>/password/"): SUPERUSERS,
    **model("accounts/user", SUPERUSERS, SUPERUSERS, SUPERUSERS, SUPERUSERS),
    **model("auth/group", SUPERUSERS, SUPERUSERS, SUPERUSERS, SUPERUSERS),
    **model("accounts/workspacegrant", SUPERUSERS, SUPERUSERS, SUPERUSERS, SUPERUSERS),
    **model("accounts/apitoken", SUPERUSERS, SUPERUSERS, SUPERUSERS, SUPERUSERS),
    ("post", "admin/accounts/apitoken/<int:pk>/rotate/"): SUPERUSERS,
    **model("accounts/serviceaccount", SUPERUSERS, SUPERUSERS, SUPERUSERS, SUPERUSERS),
    **model("mfa/authenticator", SUPERUSERS, SUPERUSERS, NOBODY, SUPERUSERS),
    **model("socialaccount/socialaccount", SUPERUSERS, SUPERUSERS, NOBODY, SUPERUSERS),
    **model("audit/entry", SUPERUSERS, SUPERUSERS, NOBODY, NOBODY),
    ("get", "admin/audit/entry/export/"): SUPERUSERS,
    **model("accounts/connectedagent", SUPERUSERS, SUPERUSERS, NOBODY, SUPERUSERS),
    **model("fleet/workerlimit", SUPERUSERS, SUPERUSERS, SUPERUSERS, SUPERUSERS),
    **model("fleet/worker", PEOPLE, PEOPLE, NOBODY, NOBODY),
    **model("workspaces/workspace", PEOPLE, SEE, NOBODY, NOBODY),
    **model("workspaces/secret", SECRETS, SECRETS, SECRETS, SECRETS),
    **model("subscriptions/subscription", MANAGE, SUBSCRIBE, SUBSCRIBE, SUBSCRIBE),
    ("get", "admin/subscriptions/subscription/<int:pk>/edit/"): SUBSCRIBE,
    **model("workspaces/library", PEOPLE, SEE, NOBODY, NOBODY),
    ("get", "admin/workspaces/library/<path:object_id>/change/"): PEOPLE,  # leads to the list
    ("post", "admin/subscriptions/subscription/<int:pk>/act/<str:what>/"): SUBSCRIBE,
    **model("triggers/trigger", PEOPLE, SEE, NOBODY, NOBODY),
    ("post", "admin/triggers/trigger/<int:pk>/act/<str:what>/"): RUN,
    **model("jobs/job", PEOPLE, SEE, NOBODY, NOBODY),
    **model("approvals/approvalrequest", PEOPLE, SEE, NOBODY, NOBODY),
    ("post", "admin/approvals/approvalrequest/<int:request_id>/decide/"): Needs(Right.APPROVE),
    ("post", "admin/approvals/approvalrequest/<int:request_id>/withdraw/"): OWN,
    ("post", "admin/approvals/approvalrequest/<int:request_id>/delegate/"): OWN,
    ("post", "admin/approvals/approvalrequest/<int:request_id>/take-back/"): OWN,
    **model("approvals/record", PEOPLE, SEE, NOBODY, NOBODY),
    ("post", "hooks/<str:address>"): OWN,
    ("post", "hooks/<str:workspace>/<str:address>"): OWN,
    ("get", "hooks/<str:address>/jobs/<str:job>"): OWN,
    ("get", "hooks/<str:workspace>/<str:address>/jobs/<str:job>"): OWN,
    ("get", "approvals/link/<str:token>"): OWN,
    ("get", "worker/workspace/<str:workspace>.tar.gz"): OWN,
    ("post", "worker/artifacts"): OWN,
    ("post", "worker/artifacts/ask"): OWN,
    ("get", "worker/artifacts/end"): OWN,
    ("get", ".well-known/oauth-protected-resource"): OWN,
    ("get", ".well-known/oauth-protected-resource/mcp"): OWN,
    ("get", ".well-known/oauth-authorization-server"): OWN,
    ("post", "oauth/register"): OWN,
    ("post", "oauth/token"): OWN,
    ("get", "oauth/authorize"): OWN,
}  # fmt: skip
