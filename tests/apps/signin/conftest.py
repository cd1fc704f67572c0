"""One provider for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from apps.signin import wire
from apps.signin.providers import IdentityProvider
from tests.apps.signin import provider
from tests.apps.signin.provider import Company


@pytest.fixture(scope="session")
def company_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with provider.company(tmp_path_factory.mktemp("provider")) as found:
        yield found


@pytest.fixture
def company(company_program: Company, offer: Any) -> Company:
    wire.forget()
    offer()
    return company_program


@pytest.fixture
def offer(company_program: Company, settings: Any) -> Any:
    """`offer(**more)`: the settings of the provider `company`."""

    def change(**more: Any) -> None:
        told = {
            "display_name": "Company",
            "issuer_url": company_program.url,
            "client_id": provider.CLIENT,
            "client_secret": provider.SECRET,
            "groups_claim": "groups",
            "allow_sign_up": True,
        }
        one = IdentityProvider(**(told | more))  # type: ignore[arg-type]
        assert one.find_objection() is None
        auth = replace(settings.STROEM.auth, providers={"company": one})
        settings.STROEM = replace(settings.STROEM, auth=auth)

    return change
