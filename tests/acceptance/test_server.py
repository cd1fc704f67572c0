"""`manage.py server`: what it refuses before it listens."""

from __future__ import annotations

from tests.acceptance.house import free_port, manage


def settings_of(process_env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in process_env.items() if name.startswith("STROEM__")}


def test_a_short_password_for_the_first_administrator_is_refused(
    process_env: dict[str, str],
) -> None:
    from apps.accounts.models import User

    finished = manage(
        "server",
        "--port",
        str(free_port()),
        STROEM_ADMIN_EMAIL="boss@example.org",
        STROEM_ADMIN_PASSWORD="admin",
        **settings_of(process_env),
    )
    assert finished.returncode == 2
    assert "STROEM_ADMIN_PASSWORD must have at least 10 characters" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not User.objects.exists()
