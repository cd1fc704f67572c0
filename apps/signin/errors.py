"""Why somebody may not come in. The sentence is shown to them."""

from __future__ import annotations

from engine.errors import StroemError


class NotAdmitted(StroemError):
    """Who this is, is known; that they may come in, is not."""


class ProviderWrong(StroemError):
    """What an identity provider answered cannot be trusted, or is an error."""


class ProviderAway(StroemError):
    """An identity provider does not answer, or says that it cannot now."""


class SecondFactorNeeded(StroemError):
    """The password was right; the account wants a code as well."""
