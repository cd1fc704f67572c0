from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0002_spending")]

    operations = [
        migrations.AddField(
            model_name="conversation",
            name="offers",
            field=models.JSONField(
                help_text="The tools of MCP servers, as listed at the beginning", null=True
            ),
        ),
    ]
