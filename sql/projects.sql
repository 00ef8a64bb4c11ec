-- name: list_projects
-- All projects, oldest first.
SELECT id, name, domain, timezone, created_at, updated_at FROM projects ORDER BY id;

-- name: get_project
-- One project.
SELECT id, name, domain, timezone, created_at, updated_at FROM projects WHERE id = :id;

-- name: get_projects
-- Several projects.
SELECT id, name, domain, timezone, created_at, updated_at FROM projects WHERE id = ANY (:ids);

-- name: create_project
-- A new project.
INSERT INTO projects (name, domain, timezone) VALUES (:name, :domain, :timezone)
RETURNING id, name, domain, timezone, created_at, updated_at;

-- name: create_first_project
-- The development project under its fixed number, and the sequence moved past it.
INSERT INTO projects (id, name, timezone) VALUES (1, :name, 'UTC') ON CONFLICT DO NOTHING;

-- name: move_project_sequence
-- After an explicit id, the next generated one must not collide.
SELECT setval(pg_get_serial_sequence('projects', 'id'), greatest((SELECT max(id) FROM projects), 1));

-- name: update_project
-- Change what is given, keep the rest.
UPDATE projects
SET name = coalesce(:name, name), domain = CASE WHEN :set_domain THEN :domain ELSE domain END,
    timezone = coalesce(:timezone, timezone), updated_at = now()
WHERE id = :id
RETURNING id, name, domain, timezone, created_at, updated_at;

-- name: request_rebuild
-- A new time zone moves every day: the background worker counts the kept events anew.
INSERT INTO rebuilds (project_id, first_day, last_day)
SELECT :id, CAST(min(day) AS date), CAST(max(day) AS date) + 1 FROM summary_daily
WHERE project_id = :id AND dimension = 'total' HAVING count(*) > 0;

-- name: delete_project
-- The project and its keys; the background worker removes its events and summaries.
WITH gone AS (DELETE FROM projects WHERE id = :id RETURNING id)
INSERT INTO removals (project_id) SELECT id FROM gone;

-- name: list_keys
-- The keys of a project, revoked ones included, newest last.
SELECT id, project_id, name, scopes, key_prefix, created_at, revoked_at
FROM api_keys WHERE project_id IS NOT DISTINCT FROM CAST(:project_id AS integer) ORDER BY id;

-- name: create_key
-- Only the hash is stored.
INSERT INTO api_keys (project_id, name, scopes, key_hash, key_prefix)
VALUES (:project_id, :name, :scopes, :key_hash, :key_prefix)
ON CONFLICT (key_hash) DO NOTHING
RETURNING id, project_id, name, scopes, key_prefix, created_at, revoked_at;

-- name: revoke_key
-- Revoked keys stay listed.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
WHERE id = :id AND project_id IS NOT DISTINCT FROM CAST(:project_id AS integer)
RETURNING id;

-- name: find_key
-- The key of a hash while it is valid.
SELECT k.id, k.project_id, k.name, k.scopes, k.key_prefix, k.created_at, k.revoked_at
FROM api_keys k WHERE k.key_hash = :key_hash AND k.revoked_at IS NULL;

-- name: find_keys
-- The same of several hashes.
SELECT k.key_hash, k.id, k.project_id, k.name, k.scopes, k.key_prefix, k.created_at, k.revoked_at
FROM api_keys k WHERE k.key_hash = ANY (CAST(:key_hashes AS bytea[])) AND k.revoked_at IS NULL;

-- name: list_valid_keys
-- Every valid key with its hash.
SELECT k.key_hash, k.id, k.project_id, k.name, k.scopes, k.key_prefix, k.created_at, k.revoked_at
FROM api_keys k WHERE k.revoked_at IS NULL ORDER BY k.id;

-- name: create_user
-- A dashboard login; a second call for the same address sets the new password.
INSERT INTO users (email, password_hash) VALUES (:email, :password_hash)
ON CONFLICT (email) DO UPDATE SET password_hash = excluded.password_hash, logins = users.logins + 1
RETURNING id, email, password_hash, logins, created_at;

-- name: find_user
-- The login of an address.
SELECT id, email, password_hash, logins, created_at FROM users WHERE email = :email;

-- name: find_logins_of
-- The generations of several users' cookies.
SELECT email, logins FROM users WHERE email = ANY (:emails);

-- name: end_logins
-- Void every cookie of a user.
UPDATE users SET logins = logins + 1 WHERE email = :email;

-- name: count_administrators
-- Logins and administrator keys: production needs one.
SELECT (SELECT count(*) FROM users)
     + (SELECT count(*) FROM api_keys WHERE revoked_at IS NULL AND 'admin' = ANY (scopes));

-- name: offer_secret
-- Keep the first secret of a name that any worker offers.
INSERT INTO service_secrets (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING;

-- name: get_secret
-- A secret by name.
SELECT value FROM service_secrets WHERE name = :name;
