import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("artifacts", "0004_logs"),
    ]

    operations = [
        migrations.CreateModel(
            name="PodEnd",
            fields=[
                ("attempt_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("exit_code", models.IntegerField()),
                (
                    "told_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now()
                    ),
                ),
            ],
        ),
    ]
