-- Extend the leases of a worker's attempts, of whatever lane, and say which of them must stop. A
-- worker that was given up extends nothing.
WITH renewed AS (
    UPDATE jobs_attempt attempt
    SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s),
        progress = coalesce(named.progress, attempt.progress)
    FROM unnest(%(ids)s::bigint[], %(fences)s::int[], %(progress)s::smallint[])
        named(id, fence, progress), fleet_worker worker
    WHERE attempt.id = named.id AND attempt.fence = named.fence AND attempt.ended_at IS NULL
        AND worker.id = %(worker)s AND worker.stopped_at IS NULL
    RETURNING attempt.id, attempt.job_id, attempt.step_id
)
SELECT (SELECT json_agg(id) FROM renewed) AS ours,
    (SELECT json_agg(renewed.id) FROM renewed JOIN jobs_job job ON job.id = renewed.job_id
        JOIN jobs_step step ON step.id = renewed.step_id
        WHERE job.cancel_requested_at IS NOT NULL AND NOT step.lasts) AS cancelled
