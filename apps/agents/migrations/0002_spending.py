from django.db import migrations, models

# What the conversations that are still there took so far.
FILL = """
INSERT INTO agents_spending (day, workspace, task_name, provider, answers, unpriced, tokens_in,
    tokens_out, cached, cost)
SELECT (t.answered_at AT TIME ZONE 'UTC')::date, v.workspace, v.task_name, v.provider, count(*),
    count(*) FILTER (WHERE t.cost IS NULL), sum(t.tokens_in), sum(t.tokens_out), sum(t.cached),
    coalesce(sum(t.cost), 0)
FROM agents_turn t JOIN agents_conversation v ON v.id = t.conversation_id
WHERE t.answered_at IS NOT NULL GROUP BY 1, 2, 3, 4
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Spending",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField(help_text="In UTC")),
                ("workspace", models.CharField(max_length=100)),
                ("task_name", models.CharField(max_length=300)),
                ("provider", models.CharField(max_length=200)),
                ("answers", models.BigIntegerField()),
                (
                    "unpriced",
                    models.BigIntegerField(help_text="Answers whose cost is not known"),
                ),
                ("tokens_in", models.BigIntegerField()),
                ("tokens_out", models.BigIntegerField()),
                ("cached", models.BigIntegerField()),
                (
                    "cost",
                    models.DecimalField(decimal_places=8, help_text="US dollars", max_digits=20),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("day", "workspace", "task_name", "provider"),
                        name="agents_spending_once",
                    )
                ]
            },
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
