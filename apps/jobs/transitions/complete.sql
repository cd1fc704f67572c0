-- The common end of a step: it succeeded, and what hangs on it needs no thought. Changes nothing
-- where the job has trouble or the fence says that the report is late.
WITH sound_job AS (
    SELECT id FROM jobs_job
    WHERE id = %(job)s AND status = 'running' AND bad_steps = 0 AND cancel_requested_at IS NULL
    FOR NO KEY UPDATE
),
ended AS (
    UPDATE jobs_step step SET status = 'completed', error = '',
        output = coalesce(%(output)s, step.output),
        has_output = step.has_output OR %(has_output)s,
        output_sealed = coalesce(%(sealed)s, step.output_sealed),
        input = coalesce(%(input)s, step.input), deadline_at = NULL,
        completed_at = clock_timestamp()
    FROM sound_job WHERE step.id = %(step)s AND step.job_id = sound_job.id
        AND step.status = 'running' AND step.fence = %(fence)s
    RETURNING step.id, step.dependents, step.fence
),
ended_attempt AS (
    UPDATE jobs_attempt SET status = 'completed', ended_at = clock_timestamp(),
        exit_code = %(exit_code)s
    WHERE id = %(attempt)s AND ended_at IS NULL AND EXISTS (SELECT 1 FROM ended)
),
dependent AS (
    UPDATE jobs_step step SET deps_left = step.deps_left - 1,
        deps_completed = step.deps_completed + 1,
        status = CASE WHEN step.deps_left = 1 AND step.status = 'pending' THEN 'ready'
            ELSE step.status END,
        ready_at = CASE WHEN step.deps_left = 1 AND step.status = 'pending' THEN clock_timestamp()
            ELSE step.ready_at END,
        fair_rank = CASE WHEN step.deps_left = 1 AND step.status = 'pending' THEN named.rank
            ELSE step.fair_rank END
    FROM ended, unnest(ended.dependents) WITH ORDINALITY named(id, rank) WHERE step.id = named.id
    RETURNING step.id, step.fence, step.tag_set_id,
        step.deps_left = 0 AND step.status = 'ready' AS is_free
),
counted AS (
    UPDATE jobs_job SET open_steps = open_steps - 1
    WHERE id = %(job)s AND EXISTS (SELECT 1 FROM ended)
),
event AS (
    INSERT INTO jobs_stepevent (job_id, step_id, fence, kind)
    SELECT %(job)s, ended.id, ended.fence, 'succeeded' FROM ended
    UNION ALL SELECT %(job)s, dependent.id, dependent.fence, 'unblocked' FROM dependent
        WHERE dependent.is_free
)
SELECT (SELECT count(*) FROM ended),
    (SELECT string_agg(free.tag_set_id || ' ' || free.total, ' ')
        FROM (SELECT tag_set_id, count(*) AS total FROM dependent WHERE is_free
            GROUP BY tag_set_id) free)
