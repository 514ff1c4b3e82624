package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

// The operations of this file keep the library's rules as the reference does not: what it leaves out is what they
// also do. How far the library is from them is what it costs; how far they are from the reference is what the rules cost.

const slotsByTheRulesSQL = `SELECT s.id, s.user_id, s.start_dt_utc, s.end_dt_utc, s.timezone, s.created_at, s.updated_at
FROM "user" u LEFT JOIN LATERAL (
	SELECT id, user_id, start_dt_utc, end_dt_utc, timezone, created_at, updated_at FROM availabilityslot
	WHERE user_id = $1 AND start_dt_utc > $2 ORDER BY start_dt_utc, id LIMIT $3
) s ON true WHERE u.id = $1 ORDER BY s.start_dt_utc, s.id`

// slotsByTheRules tells a user without slots from no user, and whether there are more.
func (r reference) slotsByTheRules(ctx context.Context, user soultribe.UserID) ([]soultribe.Slot, error) {
	rows, err := r.pool.Query(ctx, slotsByTheRulesSQL, int64(user), r.now, pageSize+1)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := false
	list := make([]soultribe.Slot, 0, pageSize+1)
	for rows.Next() {
		found = true
		if rows.RawValues()[0] == nil { // the user has none
			break
		}
		var s soultribe.Slot
		if err := rows.Scan((*int64)(&s.ID), (*int64)(&s.UserID), &s.Start, &s.End, &s.Timezone, &s.CreatedAt, &s.UpdatedAt); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	rows.Close()
	if err := rows.Err(); err != nil || found {
		return list[:min(len(list), pageSize)], err
	}
	return nil, pgx.ErrNoRows
}

//nolint:gosec // SQL, without credentials
const useTokenByTheRulesSQL = `WITH found AS (
	SELECT t.id, t.user_id, t.sent_to, coalesce(t.changes_email, false) AS changes, t.used_at, t.expires_at,
		CASE WHEN t.changes_email THEN coalesce(t.created_at < u.credentials_changed_at, false)
			ELSE coalesce(lower(t.sent_to COLLATE "C") <> lower(u.email COLLATE "C"), false) END AS dead,
		coalesce(t.changes_email, false) AND EXISTS (
			SELECT FROM "user" o WHERE o.id <> t.user_id AND lower(o.email COLLATE "C") = lower(t.sent_to COLLATE "C")) AS taken
	FROM emailverificationtoken t JOIN "user" u ON u.id = t.user_id
	WHERE t.token = $1 OR t.token NOT LIKE 'sha256:%'
		AND 'sha256:' || encode(sha256(decode(replace(t.token, '\', '\\'), 'escape')), 'hex') = $1
	FOR NO KEY UPDATE OF u
), redeemed AS (
	UPDATE emailverificationtoken t SET used_at = $2 FROM found f
	WHERE t.id = f.id AND t.used_at IS NULL AND t.expires_at > $2 AND NOT f.dead AND NOT f.taken
	RETURNING t.id, t.user_id, f.sent_to, f.changes
), siblings AS (
	UPDATE emailverificationtoken s SET used_at = $2 FROM redeemed r
	WHERE s.user_id = r.user_id AND s.id <> r.id AND s.used_at IS NULL
), resets AS (
	UPDATE passwordresettoken s SET used_at = $2 FROM redeemed r WHERE r.changes AND s.user_id = r.user_id AND s.used_at IS NULL
), verified AS (
	UPDATE "user" u SET email = CASE WHEN r.changes THEN r.sent_to ELSE u.email END,
		email_verified_at = CASE WHEN r.changes THEN $2 ELSE coalesce(u.email_verified_at, $2) END
	FROM redeemed r WHERE u.id = r.user_id
	RETURNING u.id, u.email, u.email_verified_at, u.created_at, coalesce(u.credentials_changed_at, u.created_at) AS changed_at
)
SELECT f.used_at IS NOT NULL OR f.dead, f.taken, f.expires_at, coalesce(v.id, 0), coalesce(v.email, ''), v.email_verified_at, v.created_at, v.changed_at
FROM found f LEFT JOIN verified v ON true`

var errRefused = errors.New("refused")

// useTokenByTheRules has the user locked before the tokens, changes the address where that was asked for, finds secrets in
// plain text, and tells why it refuses one.
func (r reference) useTokenByTheRules(ctx context.Context, secret string) (soultribe.User, error) {
	var u soultribe.User
	var dead, taken bool
	var expires time.Time
	var created, changed *time.Time
	err := r.pool.QueryRow(ctx, useTokenByTheRulesSQL, hashSecret(secret), r.now).
		Scan(&dead, &taken, &expires, (*int64)(&u.ID), &u.Email, &u.EmailVerifiedAt, &created, &changed)
	switch {
	case err != nil:
		return u, err
	case dead, taken, u.ID == 0, !expires.After(r.now):
		return u, errRefused
	}
	u.CreatedAt, u.CredentialsChangedAt = *created, *changed
	return u, nil
}

const addSlotByTheRulesSQL = `WITH clash AS (
	SELECT id FROM availabilityslot
	WHERE user_id = $1 AND start_dt_utc < $3 AND start_dt_utc > $2::timestamp - interval '24 hours' AND end_dt_utc > $2 LIMIT 1
), owner AS (
	SELECT id FROM "user" WHERE id = $1 AND NOT EXISTS (SELECT FROM clash) FOR KEY SHARE
), added AS (
	INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
	SELECT id, $2, $3, $4, $5, $6, $7::timestamp, $7::timestamp FROM owner
	ON CONFLICT ON CONSTRAINT availabilityslot_no_overlap DO NOTHING
	RETURNING id, user_id, start_dt_utc, end_dt_utc, timezone, created_at, updated_at
)
SELECT EXISTS (SELECT FROM clash) OR EXISTS (SELECT FROM owner), coalesce(a.id, 0), coalesce(a.user_id, 0), a.start_dt_utc, a.end_dt_utc,
	coalesce(a.timezone, ''), a.created_at, a.updated_at FROM (VALUES (1)) AS one LEFT JOIN added a ON true`

var errOverlap = errors.New("a slot overlaps another")

// addSlotByTheRules looks for an overlap before it uses a number of the sequence, and tells an overlap from no user, neither
// of which is an error to the server.
func (r reference) addSlotByTheRules(ctx context.Context, n newSlots) (soultribe.Slot, error) {
	var s soultribe.Slot
	slot := n.slots[0]
	startLocal, endLocal, err := localTimes(slot)
	if err != nil {
		return s, err
	}
	var known bool
	var start, end, created, updated *time.Time
	err = r.pool.QueryRow(ctx, addSlotByTheRulesSQL, int64(n.user), slot.Start.UTC(), slot.End.UTC(), startLocal, endLocal, slot.Timezone, r.now).
		Scan(&known, (*int64)(&s.ID), (*int64)(&s.UserID), &start, &end, &s.Timezone, &created, &updated)
	switch {
	case err != nil:
		return s, err
	case !known:
		return s, pgx.ErrNoRows
	case s.ID == 0:
		return s, errOverlap
	}
	s.Start, s.End, s.CreatedAt, s.UpdatedAt = *start, *end, *created, *updated
	return s, nil
}

const (
	requestMatchByTheRulesSQL = `WITH people AS (
	SELECT id, email_verified_at IS NOT NULL AS verified FROM "user" WHERE id IN ($1, $2) ORDER BY id FOR KEY SHARE
), pair AS (
	SELECT count(*) = 2 AND bool_and(verified) AS verified FROM people
), present AS (
	SELECT m.id, m.user1_id, m.user2_id, m.status, m.created_at, m.updated_at FROM match m CROSS JOIN pair
	WHERE pair.verified AND least(m.user1_id, m.user2_id) = least($1, $2) AND greatest(m.user1_id, m.user2_id) = greatest($1, $2)
	FOR NO KEY UPDATE OF m
), moved AS (
	UPDATE match m SET status = CASE WHEN p.status = 'pending' THEN 'accepted' ELSE 'pending' END,
		user1_id = CASE WHEN p.status = 'pending' THEN p.user1_id ELSE $1 END, user2_id = CASE WHEN p.status = 'pending' THEN p.user2_id ELSE $2 END, updated_at = $3
	FROM present p WHERE m.id = p.id AND (p.status = 'pending' AND p.user2_id = $1
		OR p.status = 'rejected' AND (p.user2_id = $1 OR p.updated_at <= $4) OR p.status = 'cancelled' AND p.updated_at <= $5)
	RETURNING m.id, m.user1_id, m.user2_id, m.status, m.created_at, m.updated_at
), asked AS (
	INSERT INTO match (user1_id, user2_id, status, created_at, updated_at)
	SELECT $1, $2, 'pending', $3::timestamp, $3::timestamp FROM pair WHERE pair.verified AND NOT EXISTS (SELECT FROM present)
	ON CONFLICT DO NOTHING
	RETURNING id, user1_id, user2_id, status, created_at, updated_at
)
SELECT * FROM asked UNION ALL SELECT * FROM moved UNION ALL SELECT * FROM present WHERE NOT EXISTS (SELECT FROM moved)`

	acceptMatchByTheRulesSQL = `WITH present AS (
	SELECT m.id, m.user1_id, m.user2_id, m.status, m.created_at, m.updated_at FROM match m WHERE m.id = $1 AND $2 IN (m.user1_id, m.user2_id) FOR NO KEY UPDATE
), moved AS (
	UPDATE match m SET status = 'accepted', updated_at = $3 FROM present p
	WHERE m.id = p.id AND p.status = 'pending' AND p.user2_id = $2
		AND (SELECT email_verified_at IS NOT NULL FROM "user" WHERE id = p.user1_id) AND (SELECT email_verified_at IS NOT NULL FROM "user" WHERE id = p.user2_id)
	RETURNING m.id, m.user1_id, m.user2_id, m.status, m.created_at, m.updated_at
)
SELECT * FROM moved UNION ALL SELECT * FROM present WHERE NOT EXISTS (SELECT FROM moved)`
)

// matchByTheRules has the people and the match locked, knows the cool-downs, moves a match that was there, and returns one that it did
// not move.
func (r reference) matchByTheRules(ctx context.Context, p pair) (soultribe.Match, error) {
	const rejected, cancelled = 30 * 24 * time.Hour, 24 * time.Hour
	m, err := scanMatch(r.pool.QueryRow(ctx, requestMatchByTheRulesSQL, int64(p.one), int64(p.other), r.now, r.now.Add(-rejected), r.now.Add(-cancelled)))
	if err != nil {
		return m, err
	}
	return scanMatch(r.pool.QueryRow(ctx, acceptMatchByTheRulesSQL, int64(m.ID), int64(p.other), r.now))
}

// meetByTheRules also does what meet leaves out: it settles, it has the match, and the two people in the order of their ids,
// locked by a statement before the one that looks at what else there is, and it looks at their other meetups.
func (r reference) meetByTheRules(ctx context.Context, m meeting) (meetup soultribe.Meetup, err error) {
	var id int64
	match, seconds := int64(m.MatchID), int64(m.Duration/time.Second)
	var propose, confirm pgx.Batch
	propose.Queue(`UPDATE match SET updated_at = updated_at WHERE id = $1 AND $2 IN (user1_id, user2_id)`, match, int64(m.one))
	propose.Queue(`UPDATE meetup SET status = CASE WHEN status = 'proposed' THEN 'cancelled' ELSE 'completed' END, updated_at = $2
WHERE match_id = $1 AND (status = 'proposed' AND scheduled_time <= $2
	OR status = 'confirmed' AND scheduled_time + duration_seconds * interval '1 second' <= $2)`, match, r.now)
	propose.Queue(proposeMeetupSQL, match, int64(m.one), m.Start.UTC(), seconds, r.now).QueryRow(func(row pgx.Row) error { return row.Scan(&id) })
	if err := r.pool.SendBatch(ctx, &propose).Close(); err != nil {
		return meetup, err
	}
	confirm.Queue(`SELECT u.id FROM "user" u WHERE u.id IN (SELECT unnest(ARRAY[m.user1_id, m.user2_id]) FROM meetup mt JOIN match m ON m.id = mt.match_id
	WHERE mt.id = $1 AND $2 IN (m.user1_id, m.user2_id)) ORDER BY u.id FOR NO KEY UPDATE`, id, int64(m.other))
	confirm.Queue(`SELECT m.id FROM match m WHERE m.id = (SELECT mt.match_id FROM meetup mt WHERE mt.id = $1) FOR NO KEY UPDATE`, id)
	where, returning, _ := strings.Cut(confirmMeetupSQL, "\nRETURNING")
	confirm.Queue(where+`
	AND NOT EXISTS (SELECT FROM soultribe_booking b WHERE b.user_id IN (m.user1_id, m.user2_id) AND b.meetup_id <> mt.id
		AND b.starts_at < mt.scheduled_time + mt.duration_seconds * interval '1 second' AND b.ends_at > mt.scheduled_time)
RETURNING`+returning, id, int64(m.other), m.Start.UTC(), seconds, r.now).QueryRow(func(row pgx.Row) error {
		meetup, err = scanMeetup(row)
		return err
	})
	return meetup, r.pool.SendBatch(ctx, &confirm).Close()
}
