from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("approvals", "0003_name_of_records")]
    operations = [
        migrations.AddField(
            model_name="approvalrequest",
            name="about",
            field=models.CharField(
                choices=[("step", "step"), ("call", "call"), ("question", "question")],
                db_default="step",
                default="step",
                help_text="The step itself, or of an agent: a tool call, or a question",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="approvalrequest",
            name="summary",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Of an agent: what it asks, on one line",
                max_length=300,
            ),
        ),
    ]
