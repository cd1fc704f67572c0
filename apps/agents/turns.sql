-- Turns of a conversation, their texts cut.
SELECT seq, is_last, asked, asked_at, answered_at, finish, tokens_in, tokens_out, cached,
    cost::float AS cost, latency_s,
    left(note, %(long)s) AS note, length(note) AS note_size,
    left(coalesce(answer->>'text', ''), %(long)s) AS text,
    length(coalesce(answer->>'text', '')) AS text_size,
    left(output, %(long)s) AS output, length(output) AS output_size
FROM (
    SELECT *, CASE WHEN answer ? 'output' THEN jsonb_pretty(answer->'output') ELSE '' END AS output
    FROM agents_turn WHERE conversation_id = %(id)s AND seq > %(after)s ORDER BY seq LIMIT %(limit)s
) t
ORDER BY seq
