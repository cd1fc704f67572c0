"""Runs of actions become units and attempts: all runs of an action, or of a session's share of it, are
one unit; each that was begun is an attempt of it, and takes its log along."""

from django.db import migrations

COPY = """
CREATE TEMPORARY TABLE run_map ON COMMIT DROP AS
SELECT r.*, first_value(r.id) OVER same AS unit_key,
    last_value(r.id) OVER (same ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) = r.id AS is_last,
    count(*) FILTER (WHERE r.started_at IS NOT NULL) OVER same AS fence_before
FROM workflow_actions_actionrun r
WINDOW same AS (PARTITION BY r.action_id, r.session_id ORDER BY r.id);

CREATE TEMPORARY TABLE unit_map ON COMMIT DROP AS
SELECT unit_key, nextval(pg_get_serial_sequence('jobs_step', 'id')) AS unit_id
FROM (SELECT DISTINCT unit_key FROM run_map ORDER BY unit_key) keys;

INSERT INTO fleet_tagset (key, tags)
SELECT '@actions+' || t.key, array_prepend('@actions', t.tags) FROM fleet_tagset t
WHERE t.id IN (SELECT tag_set_id FROM run_map) ON CONFLICT DO NOTHING;

INSERT INTO jobs_step (id, job_id, name, base, position, kind, status, tag_set_id, dependents, fence,
    attempts, losses, retry_at, ready_at, started_at, completed_at, error, worker_id, owner_kind,
    owner_id, bound_to, lasts)
SELECT u.unit_id, r.job_id, n.name, n.name, 0, CASE WHEN t.key = 'slurm' THEN 'nodes' ELSE 'commands' END,
    CASE WHEN r.status = 'ready' AND r.due_at > clock_timestamp() THEN 'pending'
        WHEN r.status = 'succeeded' THEN 'completed' WHEN r.status = 'lost' THEN 'failed' ELSE r.status END,
    s.id, '{}', r.fence_before, r.number - CASE WHEN r.started_at IS NULL THEN 1 ELSE 0 END, r.losses,
    CASE WHEN r.status = 'ready' AND r.due_at > clock_timestamp() THEN r.due_at END, r.due_at, r.started_at,
    r.ended_at, r.error, r.worker_id, 'action', r.action_id, r.bound_to,
    a.trigger_type IN ('on_workflow_complete', 'on_worker_complete', 'on_jobs_complete')
FROM run_map r JOIN unit_map u ON u.unit_key = r.unit_key JOIN workflow_actions_jobaction a ON a.id = r.action_id
JOIN fleet_tagset t ON t.id = r.tag_set_id JOIN fleet_tagset s ON s.key = '@actions+' || t.key
CROSS JOIN LATERAL (SELECT 'action/' || r.action_id || coalesce('/' || r.session_id, '') AS name) n
WHERE r.is_last;

INSERT INTO workflow_actions_share (unit_id, action_id, session_id)
SELECT u.unit_id, r.action_id, r.session_id FROM run_map r JOIN unit_map u ON u.unit_key = r.unit_key
WHERE r.is_last AND r.session_id IS NOT NULL;

CREATE TEMPORARY TABLE attempt_map ON COMMIT DROP AS
SELECT r.id AS run_id, u.unit_id, nextval(pg_get_serial_sequence('jobs_attempt', 'id')) AS attempt_id
FROM (SELECT * FROM run_map WHERE started_at IS NOT NULL ORDER BY id) r
JOIN unit_map u ON u.unit_key = r.unit_key ORDER BY r.id;

INSERT INTO jobs_attempt (id, step_id, job_id, fence, worker_id, status, lease_until, claimed_at, started_at,
    ended_at, exit_code, error, progress)
SELECT m.attempt_id, m.unit_id, r.job_id, r.fence_before,
    coalesce(r.worker_id, '00000000-0000-0000-0000-000000000000'),
    CASE r.status WHEN 'succeeded' THEN 'completed' ELSE r.status END,
    coalesce(r.lease_until, r.started_at), r.started_at, r.started_at, r.ended_at, r.exit_code, r.error, r.command
FROM run_map r JOIN attempt_map m ON m.run_id = r.id;

UPDATE jobs_logchunk c SET attempt_id = m.attempt_id, step_id = m.unit_id
FROM attempt_map m WHERE c.attempt_id = -m.run_id;
"""


class Migration(migrations.Migration):
    dependencies = [("workflow_actions", "0002_share"), ("fleet", "0002_sessions_and_allocations")]

    operations = [migrations.RunSQL(COPY, migrations.RunSQL.noop)]
