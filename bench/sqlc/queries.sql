-- name: Account :one
SELECT u.id, u.email, u.email_verified_at, u.created_at, coalesce(u.credentials_changed_at, u.created_at)::timestamp AS credentials_changed_at,
    p.user_id, p.full_name, p.display_name, p.bio, p.timezone, p.created_at AS profile_created_at, p.updated_at AS profile_updated_at
FROM "user" u LEFT JOIN profile p ON p.user_id = u.id
WHERE lower(u.email COLLATE "C") = lower($1::text COLLATE "C");

-- name: UpcomingSlots :many
SELECT id, user_id, start_dt_utc, end_dt_utc, timezone, created_at, updated_at
FROM availabilityslot
WHERE user_id = $1 AND start_dt_utc > $2
ORDER BY start_dt_utc, id LIMIT 50;

-- name: PendingMatches :many
SELECT m.id, m.user1_id, m.user2_id, m.status, m.created_at, m.updated_at, u1.email AS user1_email, u2.email AS user2_email
FROM match m JOIN "user" u1 ON u1.id = m.user1_id JOIN "user" u2 ON u2.id = m.user2_id
WHERE m.status = 'pending' ORDER BY m.created_at, m.id LIMIT 50;

-- name: UseToken :one
WITH redeemed AS (
    UPDATE emailverificationtoken t SET used_at = @now::timestamp FROM "user" u
    WHERE t.token = @token::text AND t.used_at IS NULL AND t.expires_at > @now::timestamp
        AND u.id = t.user_id AND lower(t.sent_to COLLATE "C") = lower(u.email COLLATE "C")
    RETURNING t.id, t.user_id
), siblings AS (
    UPDATE emailverificationtoken s SET used_at = @now::timestamp FROM redeemed r
    WHERE s.user_id = r.user_id AND s.id <> r.id AND s.used_at IS NULL
)
UPDATE "user" u SET email_verified_at = coalesce(u.email_verified_at, @now::timestamp) FROM redeemed r WHERE u.id = r.user_id
RETURNING u.id, u.email, u.email_verified_at, u.created_at, coalesce(u.credentials_changed_at, u.created_at)::timestamp AS credentials_changed_at;

-- name: CreateUser :one
WITH created AS (
    INSERT INTO "user" (email, password_hash, created_at) VALUES (@email::text, @password_hash::text, @now::timestamp)
    ON CONFLICT DO NOTHING RETURNING id, email, email_verified_at, created_at
), profiled AS (
    INSERT INTO profile (user_id, full_name, display_name, bio, timezone, created_at, updated_at)
    SELECT created.id, @full_name::text, @display_name::text, nullif(@bio::text, ''), nullif(@timezone::text, ''), @now::timestamp, @now::timestamp FROM created
)
SELECT created.id, created.email, created.email_verified_at, created.created_at FROM created;

-- name: AddSlot :one
INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
ON CONFLICT ON CONSTRAINT availabilityslot_no_overlap DO NOTHING
RETURNING id, user_id, start_dt_utc, end_dt_utc, timezone, created_at, updated_at;

-- name: AddSlots :many
INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
SELECT @user_id::integer, unnest(@starts::timestamp[]), unnest(@ends::timestamp[]), unnest(@local_starts::timestamp[]), unnest(@local_ends::timestamp[]),
    unnest(@zones::text[]), @now::timestamp, @now::timestamp
RETURNING id, user_id, start_dt_utc, end_dt_utc, timezone, created_at, updated_at;

-- name: RequestMatch :one
INSERT INTO match (user1_id, user2_id, status, created_at, updated_at)
SELECT a.id, b.id, 'pending', @now::timestamp, @now::timestamp FROM "user" a CROSS JOIN "user" b
WHERE a.id = @actor::integer AND b.id = @other::integer AND a.email_verified_at IS NOT NULL AND b.email_verified_at IS NOT NULL
ON CONFLICT (least(user1_id, user2_id), greatest(user1_id, user2_id)) DO UPDATE SET status = 'accepted', updated_at = excluded.updated_at
WHERE match.status = 'pending' AND match.user2_id = excluded.user1_id
RETURNING id, user1_id, user2_id, status, created_at, updated_at;

-- name: AcceptMatch :one
UPDATE match m SET status = 'accepted', updated_at = @now::timestamp FROM "user" a, "user" b
WHERE m.id = @id AND m.user2_id = @actor AND m.status = 'pending'
    AND a.id = m.user1_id AND b.id = m.user2_id AND a.email_verified_at IS NOT NULL AND b.email_verified_at IS NOT NULL
RETURNING m.id, m.user1_id, m.user2_id, m.status, m.created_at, m.updated_at;

-- name: ProposeMeetup :one
INSERT INTO meetup (match_id, scheduled_time, duration_seconds, proposer_id, status, created_at, updated_at)
SELECT m.id, @starts_at::timestamp, @seconds::integer, @actor::integer, 'proposed', @now::timestamp, @now::timestamp FROM match m
WHERE m.id = @match_id::integer AND m.status = 'accepted' AND @actor::integer IN (m.user1_id, m.user2_id)
ON CONFLICT (match_id) WHERE status IN ('proposed', 'confirmed') DO NOTHING
RETURNING id;

-- name: ConfirmMeetup :one
UPDATE meetup mt SET status = 'confirmed', updated_at = @now::timestamp FROM match m
WHERE mt.id = @id::integer AND m.id = mt.match_id AND m.status = 'accepted' AND @actor::integer IN (m.user1_id, m.user2_id)
    AND mt.status = 'proposed' AND mt.proposer_id <> @actor::integer AND mt.scheduled_time > @now::timestamp
    AND mt.scheduled_time = @starts_at::timestamp AND mt.duration_seconds = @seconds::integer
RETURNING mt.id, mt.match_id, m.user1_id, m.user2_id, mt.proposer_id, mt.scheduled_time, mt.duration_seconds, mt.status, mt.created_at, mt.updated_at;

-- name: SlotsOfTwo :many
SELECT user_id, start_dt_utc, end_dt_utc, id FROM availabilityslot
WHERE user_id IN (@one::integer, @other::integer) AND start_dt_utc < @until::timestamp
    AND start_dt_utc > @earliest::timestamp AND end_dt_utc > @since::timestamp
ORDER BY user_id, start_dt_utc;

-- name: BookingsOfTwo :many
SELECT user_id, starts_at, ends_at FROM soultribe_booking
WHERE user_id IN (@one::integer, @other::integer) AND starts_at < @until::timestamp AND ends_at > @since::timestamp
ORDER BY starts_at;

-- name: Others :many
SELECT u.id, coalesce(p.display_name, '') AS display_name, coalesce(p.timezone, '') AS timezone
FROM "user" u LEFT JOIN profile p ON p.user_id = u.id
WHERE u.id <> @actor::integer AND u.email_verified_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM match m WHERE (m.user1_id = @actor::integer AND m.user2_id = u.id OR m.user2_id = @actor::integer AND m.user1_id = u.id)
        AND NOT (m.status = 'cancelled' AND m.updated_at <= @cancelled::timestamp));
