import django.db.models.deletion
from django.db import migrations, models

# Of each task the folder that its workspace's files gave it last: those in force first.
FILL = """
INSERT INTO workspaces_tasklist (workspace_id, tasks, is_kept)
SELECT w.id, coalesce(found.tasks, '{}') || '{"": [null, {}]}', false
FROM workspaces_workspace w LEFT JOIN (
    SELECT workspace_id, jsonb_object_agg(name, jsonb_build_array(folder, '{}'::jsonb)) AS tasks
    FROM (
        SELECT DISTINCT ON (r.workspace_id, task.key) r.workspace_id, task.key AS name,
            task.value->>'folder' AS folder
        FROM workspaces_revision r JOIN workspaces_workspace o ON o.id = r.workspace_id
        CROSS JOIN LATERAL jsonb_each(r.definition->'tasks') task
        ORDER BY r.workspace_id, task.key, (r.id = o.current_id) DESC NULLS LAST, r.id DESC
    ) newest GROUP BY workspace_id
) found ON found.workspace_id = w.id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('workspaces', '0006_libraries'),
    ]

    operations = [
        migrations.CreateModel(
            name='TaskList',
            fields=[
                ('workspace', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='task_list', serialize=False, to='workspaces.workspace')),
                ('tasks', models.JSONField(default=dict, help_text='By name: [folder, access]; the workspace itself without a name')),
                ('is_kept', models.BooleanField(default=False, help_text='The files keep some rights to some')),
            ],
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
