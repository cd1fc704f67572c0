from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fleet", "0003_why_allocations_wait")]

    operations = [
        migrations.AddField(
            model_name="worker",
            name="workspaces",
            field=ArrayField(
                base_field=models.CharField(max_length=100),
                null=True,
                help_text="Names or patterns of the workspaces it serves; empty: all",
                size=None,
            ),
        ),
    ]
