(
    SELECT best.tag_set_id FROM unnest(%(sets)s::int[]) wanted(id) CROSS JOIN LATERAL (
        SELECT tag_set_id, priority, fair_rank, ready_at, id FROM jobs_step
        WHERE status = 'ready' AND tag_set_id = wanted.id
            AND (%(job)s::uuid IS NULL OR job_id = %(job)s)
            AND IS_FREE
        ORDER BY priority DESC, fair_rank, ready_at, id LIMIT 1
    ) best ORDER BY best.priority DESC, best.fair_rank, best.ready_at, best.id LIMIT 1
)
