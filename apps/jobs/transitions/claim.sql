-- Hand the best ready row of these tag sets to a worker: the row and its attempt, never the job.
--
-- BEST_SET is the tag set to claim in: of several, the one with the best row. Looking at the best
-- row of each first keeps every look an index scan; `tag_set_id IN (...) ORDER BY ...` reads and
-- sorts all that is ready.
--
-- IS_FREE is for units alone, which may be bound to a worker, and for workers that serve some
-- workspaces only. Without the question, the first look needs nothing but the index.
--
-- The lock keeps the chosen row ready. Asking for that once more would let the planner read all
-- that was ready in a table that was small when it planned.
--
-- A claim need not wait for the disk where `started` follows before any process may exist, and
-- waits itself. A claim that a crash of the database takes back is one whose `started` is refused.
WITH chosen AS (
    SELECT id, CASE WHEN %(may_lag)s THEN set_config('synchronous_commit', 'off', true) END
    FROM jobs_step
    WHERE status = 'ready' AND tag_set_id = BEST_SET
        AND (%(job)s::uuid IS NULL OR job_id = %(job)s)
        AND IS_FREE
    ORDER BY priority DESC, fair_rank, ready_at, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
),
held AS (
    UPDATE jobs_step step SET status = 'running', fence = step.fence + 1,
        attempts = step.attempts + 1, worker_id = %(worker)s, started_at = clock_timestamp(),
        error = ''
    FROM chosen, jobs_job job
    WHERE step.id = chosen.id AND job.id = step.job_id
    RETURNING step.id, step.job_id, step.fence, step.attempts, step.name, step.base, step.timeout_s,
        step.tag_set_id, step.owner_kind, step.owner_id, job.task_name, job.blueprint_id,
        job.revision_id, job.scheduled_at, job.generation, job.input::text, job.input_sealed,
        job.deadline_at
),
attempt AS (
    INSERT INTO jobs_attempt (step_id, job_id, fence, worker_id, claimed_at, lease_until,
        deadline_at, started_at)
    SELECT id, job_id, fence, %(worker)s, clock_timestamp(),
        clock_timestamp() + make_interval(secs => %(lease_s)s),
        clock_timestamp() + make_interval(secs => timeout_s),
        CASE WHEN owner_kind <> 'step' OR revision_id = ANY(%(warm)s::bigint[])
            THEN clock_timestamp() END
    FROM held RETURNING id, started_at
),
event AS (
    INSERT INTO jobs_stepevent (job_id, step_id, fence, kind)
    SELECT job_id, id, fence, 'claimed' FROM held
)
SELECT held.id AS step_id, attempt.id AS attempt_id, held.fence, held.job_id,
    held.name AS step_name, held.base, held.attempts AS number, held.timeout_s, held.tag_set_id,
    held.task_name, held.blueprint_id, held.revision_id, held.scheduled_at, held.generation,
    attempt.started_at IS NOT NULL AS is_started,
    %(may_lag)s AND EXISTS (
        SELECT 1 FROM jobs_step more WHERE more.status = 'ready'
            AND more.tag_set_id = ANY(%(covered)s::int[]) AND more.id <> held.id
            AND (%(job)s::uuid IS NULL OR more.job_id = %(job)s)
    ) AS is_more,
    held.input, held.input_sealed, held.owner_kind, held.owner_id,
    extract(epoch FROM held.deadline_at - clock_timestamp())::float AS job_ends_in_s
FROM held, attempt
