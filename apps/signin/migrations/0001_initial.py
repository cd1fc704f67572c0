import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.CreateModel(
            name="SignOn",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "provider",
                    models.CharField(help_text="Its name under auth.providers", max_length=200),
                ),
                (
                    "tokens",
                    models.BinaryField(help_text="Sealed: the access, refresh and ID token"),
                ),
                (
                    "by_refresh",
                    models.BooleanField(
                        default=False,
                        help_text="Groups come with new ID tokens only, not with the user's data",
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "expires_at",
                    models.DateTimeField(help_text="Of the access token", null=True),
                ),
                ("checked_at", models.DateTimeField()),
                (
                    "claimed_at",
                    models.DateTimeField(help_text="Somebody is asking since", null=True),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="sign_ons",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "single sign-on session",
                "indexes": [models.Index(fields=["created_at"], name="signin_signon_created")],
            },
        )
    ]
