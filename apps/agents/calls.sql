-- The first tool calls of each of these turns, their texts cut; how many there are, and open ones.
SELECT seq, index, tool, status, child_job_id, approved_by, begun_at, ended_at, total, still_open,
    left(written, %(long)s) AS arguments, length(written) AS arguments_size,
    left(result, %(long)s) AS result, length(result) AS result_size
FROM (
    SELECT *, row_number() OVER (PARTITION BY seq ORDER BY index) AS number,
        count(*) OVER (PARTITION BY seq) AS total,
        count(*) FILTER (WHERE ended_at IS NULL) OVER (PARTITION BY seq) AS still_open
    FROM agents_call
    WHERE conversation_id = %(id)s AND seq > %(after)s AND seq <= %(until)s
) c CROSS JOIN LATERAL (
    SELECT CASE jsonb_typeof(arguments) WHEN 'string' THEN arguments #>> '{}'
        ELSE coalesce(jsonb_pretty(arguments), '') END
) p(written)
WHERE number <= %(calls)s
ORDER BY seq, index
