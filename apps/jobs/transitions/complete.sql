-- The common end of a step: it succeeded, and what hangs on it needs no thought. Changes nothing
-- where the job has trouble, where this was its last open step (after a restart, all that hangs on
-- it may be done), or where the fence says that the report is late. One row for each tag set
-- in which steps became ready, one of nulls where none did, and no row where nothing changed.
--
-- Its transaction already holds the lock of the job. Most of its time goes into setting up the
-- parts of the plan, so each join, aggregate and function counts, however few rows it sees.
--
-- NAMED has the ids of what hangs on the step and their ranks: of one, without unpacking.
WITH ended AS (
    UPDATE jobs_step step SET status = 'completed', error = '',
        output = coalesce(%(output)s, step.output),
        has_output = step.has_output OR %(has_output)s,
        output_sealed = coalesce(%(sealed)s, step.output_sealed),
        input = coalesce(%(input)s, step.input), deadline_at = NULL,
        completed_at = clock_timestamp()
    FROM jobs_job job
    WHERE job.id = %(job)s AND job.status = 'running' AND job.bad_steps = 0
        AND job.cancel_requested_at IS NULL AND job.open_steps > 1
        AND step.id = %(step)s AND step.job_id = %(job)s
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
    FROM ended, NAMED named(id, rank) WHERE step.id = named.id
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
SELECT free.tag_set_id, count(free.id)
FROM ended LEFT JOIN dependent free ON free.is_free GROUP BY free.tag_set_id
