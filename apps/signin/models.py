"""Sessions that began at an identity provider."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from apps.accounts.models import User


class SignOn(models.Model):
    """What the provider gave for one session, and when it was last asked whether that still holds.
    Without the row, the session is over."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_ons")
    provider = models.CharField(max_length=200, help_text="Its name under auth.providers")
    tokens = models.BinaryField(help_text="Sealed: the access, refresh and ID token")
    by_refresh = models.BooleanField(
        default=False, help_text="Groups come with new ID tokens only, not with the user's data"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, help_text="Of the access token")
    checked_at = models.DateTimeField()
    claimed_at = models.DateTimeField(null=True, help_text="Somebody is asking since")

    class Meta:
        verbose_name = "single sign-on session"
        indexes: ClassVar = [models.Index(fields=["created_at"], name="signin_signon_created")]

    def __str__(self) -> str:
        return f"{self.user} by {self.provider}"
