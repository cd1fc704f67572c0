WITH j AS (
    SELECT id, status, cancel_requested_at IS NOT NULL AS is_cancelling, open_steps, bad_steps,
        blueprint_id,
        generation, has_actions
    FROM jobs_job WHERE id = %(job)s FOR NO KEY UPDATE
),
s AS (
    UPDATE jobs_step t SET status = %(status)s, error = %(error)s,
        output = coalesce(%(output)s, t.output),
        has_output = t.has_output OR %(has_output)s,
            output_sealed = coalesce(%(sealed)s, t.output_sealed),
        input = coalesce(%(input)s, t.input), retry_at = NULL, deadline_at = NULL,
            completed_at = clock_timestamp()
    FROM j WHERE t.job_id = j.id AND t.id = ANY(%(ids)s) AND t.status = ANY(%(sources)s)
        AND (%(fence)s::int IS NULL OR t.fence = %(fence)s)
    RETURNING t.id, t.dependents, t.loop_id, t.fence, t.tolerates, t.owner_kind
),
a AS (
    UPDATE jobs_attempt SET status = %(status)s, ended_at = clock_timestamp(),
        exit_code = %(exit_code)s, error = %(error)s,
        progress = coalesce(%(progress)s::smallint, progress)
    WHERE id = %(attempt)s AND ended_at IS NULL AND EXISTS (SELECT 1 FROM s)
),
e AS (
    INSERT INTO jobs_stepevent (job_id, step_id, fence, kind, detail, actor)
    SELECT %(job)s, s.id, s.fence, %(event)s, left(%(error)s, 500), %(actor)s FROM s
),
n AS (
    SELECT x.id, count(*) AS total, count(*) FILTER (WHERE s.tolerates) AS tolerated
    FROM s, unnest(s.dependents) AS x(id) GROUP BY x.id
),
d AS (
    UPDATE jobs_step t SET deps_left = t.deps_left - n.total,
        deps_completed = t.deps_completed + CASE %(event)s WHEN 'succeeded' THEN n.total
            WHEN 'failed' THEN n.tolerated
            ELSE 0 END,
        deps_failed = t.deps_failed + CASE %(event)s WHEN 'failed' THEN n.total - n.tolerated
            WHEN 'cancelled' THEN n.total ELSE 0 END,
        deps_skipped = t.deps_skipped + CASE %(event)s WHEN 'skipped' THEN n.total ELSE 0 END
    FROM n WHERE t.id = n.id
    RETURNING t.id, t.base, t.status, t.deps_left, t.deps_completed, t.deps_failed, t.deps_skipped,
        t.tolerates,
        t.position
),
l AS (
    UPDATE jobs_step t SET loop_open = t.loop_open - c.total,
        loop_failed = t.loop_failed + CASE WHEN %(event)s IN ('failed', 'cancelled') THEN c.total
            ELSE 0 END
    FROM (SELECT loop_id, count(*) AS total FROM s WHERE loop_id IS NOT NULL GROUP BY loop_id) c
    WHERE t.id = c.loop_id
    RETURNING t.id, t.base, t.loop_open, t.loop_failed, t.loop_next, t.loop_total
),
k AS (
    UPDATE jobs_job t SET open_steps = t.open_steps - c.total, bad_steps = t.bad_steps + c.bad
    FROM (
        SELECT count(*) AS total,
            count(*) FILTER (WHERE %(event)s = 'cancelled'
                OR (%(event)s = 'failed' AND NOT tolerates)) AS bad
        FROM s WHERE loop_id IS NULL AND owner_kind = 'step'
    ) c
    WHERE t.id = %(job)s AND c.total > 0
    RETURNING t.open_steps, t.bad_steps
)
SELECT (SELECT count(*) FROM s),
    (SELECT json_agg(json_build_array(id, base, deps_completed, deps_failed, deps_skipped,
        tolerates) ORDER BY position)
        FROM d WHERE deps_left = 0 AND status = 'pending'),
    (SELECT json_agg(json_build_array(id, base, loop_open, loop_failed, loop_next, loop_total))
        FROM l),
    (SELECT open_steps FROM k), (SELECT bad_steps FROM k),
    (SELECT json_build_array(status, is_cancelling, open_steps, bad_steps, blueprint_id, generation,
        has_actions)
        FROM j)
