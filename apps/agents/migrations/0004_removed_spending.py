from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0003_offers")]

    operations = [
        migrations.CreateModel(
            name="RemovedSpending",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField(help_text="Of the last answer")),
                ("answers", models.BigIntegerField()),
                (
                    "unpriced",
                    models.BigIntegerField(help_text="Answers whose cost is not known"),
                ),
                ("tokens", models.BigIntegerField()),
                (
                    "cost",
                    models.DecimalField(decimal_places=8, help_text="US dollars", max_digits=20),
                ),
            ],
        ),
    ]
