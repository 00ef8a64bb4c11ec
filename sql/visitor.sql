-- name: offer_salt
-- Make the day's salt unless another worker has; whoever comes second reads the first one's.
INSERT INTO visitor_salts (used_on, salt)
VALUES (:day, :salt)
ON CONFLICT (used_on) DO NOTHING;

-- name: select_salts
-- The salts from a day on, those made ahead included.
SELECT used_on, salt
FROM visitor_salts
WHERE used_on >= :first
ORDER BY used_on;

-- name: delete_salts
-- Forget the salts before a day: the visitors of those days can't be computed again.
DELETE FROM visitor_salts
WHERE used_on < :first_kept;
