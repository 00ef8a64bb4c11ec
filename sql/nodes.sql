-- name: others
-- The other nodes that wrote lately, with what they said.
SELECT id, name, leads, generation, figures, standing
FROM performance_nodes
WHERE id <> :id AND seen_at > clock_timestamp() - make_interval(secs => :silent_s);

-- name: note
-- Write what this node says.
INSERT INTO performance_nodes (id, name, seen_at, leads, generation, figures, standing)
VALUES (:id, :name, clock_timestamp(), :leads, :generation, :figures, :standing)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, seen_at = excluded.seen_at, leads = excluded.leads, generation = excluded.generation,
    figures = excluded.figures, standing = excluded.standing;

-- name: forget_silent
-- Delete the nodes that have said nothing for a day.
DELETE FROM performance_nodes WHERE seen_at < clock_timestamp() - interval '1 day';
