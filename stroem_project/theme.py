"""The admin's name, colours and side bar. It is here because it refers to every app."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

SUPERUSER = "stroem_project.theme.is_superuser"
KEEPS_SECRETS = "stroem_project.theme.keeps_secrets_somewhere"
MANAGES = "stroem_project.theme.manages_somewhere"
TEAL = {
    "50": "oklch(98.4% .014 200)",
    "100": "oklch(95.2% .035 205)",
    "200": "oklch(90.5% .07 207)",
    "300": "oklch(84% .1 210)",
    "400": "oklch(76% .12 214)",
    "500": "oklch(69% .12 216)",
    "600": "oklch(51% .1 221)",
    "700": "oklch(45.5% .088 223)",
    "800": "oklch(39.5% .073 224)",
    "900": "oklch(35% .061 226)",
    "950": "oklch(26.5% .05 228)",
}


def is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)


def keeps_secrets_somewhere(request: HttpRequest) -> bool:
    """Whether the page of secrets has anything for this person. (Settings are read before the
    models can be.)"""
    from apps.accounts.models import signed_in
    from engine.rights import Right

    return signed_in(request.user).has_somewhere(Right.SECRETS)


def manages_somewhere(request: HttpRequest) -> bool:
    """The same for the page of subscriptions."""
    from apps.accounts.models import signed_in
    from engine.rights import Right

    return signed_in(request.user).has_somewhere(Right.MANAGE)


def item(title: str, icon: str, link: str, **more: Any) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(link), **more}


def _address(model: str) -> str:
    """Of the list of a model, or of a page of its own."""
    return f"admin:{model}_changelist" if "_" in model else model


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Stroem",
    "SITE_HEADER": "Stroem",
    "SITE_SUBHEADER": "Workflows",
    "SITE_SYMBOL": "water",
    "SITE_URL": None,
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("adminkit/icon.svg"),
        }
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "6px",
    "COLORS": {"primary": TEAL},
    "DASHBOARD_CALLBACK": "apps.adminkit.panels.fill_dashboard",
    "STYLES": [lambda request: static("adminkit/admin.css")],
    "SCRIPTS": [
        lambda request: static("adminkit/times.js"),
        lambda request: static("adminkit/dialogs.js"),
        lambda request: static("adminkit/rows.js"),
    ],
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "title": "",
                "items": [
                    item("Dashboard", "dashboard", "admin:index"),
                    item("Tasks", "play_circle", "tasks"),
                    item("Jobs", "account_tree", "admin:jobs_job_changelist"),
                    item(
                        "Approvals",
                        "how_to_reg",
                        "admin:approvals_approvalrequest_changelist",
                        badge="apps.approvals.admin.waiting_for_me",
                        badge_variant="warning",
                    ),
                    item("Decisions", "fact_check", "admin:approvals_record_changelist"),
                    item("Triggers", "alarm", "admin:triggers_trigger_changelist"),
                    item("Connections", "cable", "connections"),
                    item("Workspaces", "folder_data", "admin:workspaces_workspace_changelist"),
                    item("Libraries", "local_library", "admin:workspaces_library_changelist"),
                    item("Workers", "dns", "admin:fleet_worker_changelist"),
                ],
            },
            {
                "title": "Settings",
                "separator": True,
                "items": [
                    item(title, icon, _address(model), permission=permission)
                    for title, icon, model, permission in (
                        ("Secrets", "key", "workspaces_secret", KEEPS_SECRETS),
                        ("Subscriptions", "outgoing_mail", "subscriptions_subscription", MANAGES),
                        ("Users", "person", "accounts_user", SUPERUSER),
                        ("Groups", "group", "auth_group", SUPERUSER),
                        ("Service accounts", "robot", "accounts_serviceaccount", SUPERUSER),
                        ("Grants", "shield_person", "accounts_workspacegrant", SUPERUSER),
                        ("Rights", "policy", "rights", SUPERUSER),
                        ("API keys", "vpn_key", "accounts_apitoken", SUPERUSER),
                        ("Single sign-on", "login", "socialaccount_socialaccount", SUPERUSER),
                        ("Second factors", "passkey", "mfa_authenticator", SUPERUSER),
                        ("Connected agents", "smart_toy", "accounts_connectedagent", SUPERUSER),
                        ("Worker limits", "rule", "fleet_workerlimit", SUPERUSER),
                        ("Audit log", "receipt_long", "audit_entry", SUPERUSER),
                    )
                ],
            },
        ],
    },
}
