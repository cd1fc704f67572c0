-- Hand the best ready row of these tag sets to a worker: the row and its attempt, never the job.
--
-- Looking at the best row of each tag set first and then claiming within the best one keeps every
-- look an index scan; `tag_set_id IN (...) ORDER BY ...` reads and sorts all that is ready.
--
-- One condition is for units alone: whether one is bound to a worker. A step never is, and without
-- the question the first look needs nothing but the index.
--
-- A claim need not wait for the disk where `started` follows before any process may exist, and
-- waits itself. A claim that a crash of the database takes back is one whose `started` is refused.
WITH best_set AS (
    SELECT best.tag_set_id FROM unnest(%(sets)s::int[]) wanted(id) CROSS JOIN LATERAL (
        SELECT tag_set_id, priority, fair_rank, ready_at, id FROM jobs_step
        WHERE status = 'ready' AND tag_set_id = wanted.id
            AND (%(job)s::uuid IS NULL OR job_id = %(job)s)
            AND IS_FREE
        ORDER BY priority DESC, fair_rank, ready_at, id LIMIT 1
    ) best ORDER BY best.priority DESC, best.fair_rank, best.ready_at, best.id LIMIT 1
),
chosen AS (
    SELECT id, CASE WHEN %(may_lag)s THEN set_config('synchronous_commit', 'off', true) END
    FROM jobs_step
    WHERE status = 'ready' AND tag_set_id = (SELECT tag_set_id FROM best_set)
        AND (%(job)s::uuid IS NULL OR job_id = %(job)s)
        AND IS_FREE
    ORDER BY priority DESC, fair_rank, ready_at, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
),
held AS (
    UPDATE jobs_step step SET status = 'running', fence = step.fence + 1,
        attempts = step.attempts + 1, worker_id = %(worker)s, started_at = clock_timestamp(),
        error = ''
    FROM chosen WHERE step.id = chosen.id AND step.status = 'ready'
    RETURNING step.id, step.job_id, step.fence, step.attempts, step.name, step.base, step.timeout_s,
        step.tag_set_id, step.owner_kind, step.owner_id
),
attempt AS (
    INSERT INTO jobs_attempt (step_id, job_id, fence, worker_id, claimed_at, lease_until,
        deadline_at, started_at)
    SELECT held.id, held.job_id, held.fence, %(worker)s, clock_timestamp(),
        clock_timestamp() + make_interval(secs => %(lease_s)s),
        clock_timestamp() + make_interval(secs => held.timeout_s),
        CASE WHEN held.owner_kind <> 'step' OR job.revision_id = ANY(%(warm)s::bigint[])
            THEN clock_timestamp() END
    FROM held JOIN jobs_job job ON job.id = held.job_id RETURNING id, started_at
),
event AS (
    INSERT INTO jobs_stepevent (job_id, step_id, fence, kind)
    SELECT job_id, id, fence, 'claimed' FROM held
)
SELECT held.id AS step_id, attempt.id AS attempt_id, held.fence, held.job_id,
    held.name AS step_name, held.base, held.attempts AS number, held.timeout_s, held.tag_set_id,
    job.task_name, job.blueprint_id, job.revision_id, job.scheduled_at, attempt.started_at IS NOT NULL AS is_started,
    %(may_lag)s AND EXISTS (
        SELECT 1 FROM jobs_step more WHERE more.status = 'ready'
            AND more.tag_set_id = ANY(%(covered)s::int[]) AND more.id <> held.id
            AND (%(job)s::uuid IS NULL OR more.job_id = %(job)s)
    ) AS is_more,
    job.input::text AS input, job.input_sealed, held.owner_kind, held.owner_id,
    extract(epoch FROM job.deadline_at - clock_timestamp())::float AS job_ends_in_s
FROM held, attempt, jobs_job job WHERE job.id = held.job_id
