from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("approvals", "0002_record_is_append_only")]
    operations = [migrations.AlterModelOptions(name="record", options={"verbose_name": "decision"})]
