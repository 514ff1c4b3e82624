package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
)

// reference is SQL and Scan written by hand on pgxpool, as a careful engineer would who has the tables and their
// constraints: one statement or one batch an operation, columns listed, slices made to measure. It reads and writes
// what the library does, and leaves the same rules to the database.
//
// What the library does beyond that is said at each operation. Throughout, the library also checks what it is
// given, and tells refusals apart, where this has but pgx.ErrNoRows.
type reference struct {
	pool *pgxpool.Pool
	now  time.Time
}

func newReference(name string) func(context.Context, environment) (peer, error) {
	return func(ctx context.Context, env environment) (peer, error) {
		pool, err := env.pool(ctx, pgx.QueryExecModeCacheStatement)
		if err != nil {
			return peer{}, err
		}
		r := reference{pool, env.now}
		return peer{
			name:       name,
			account:    newCall(r.account, same[soultribe.Account]),
			slots:      newCall(r.slots, same[[]soultribe.Slot]),
			pending:    newCall(r.pending, same[[]soultribe.PendingMatch]),
			useToken:   newCall(r.useToken, same[soultribe.User]),
			createUser: newCall(r.createUser, same[soultribe.User]),
			addSlot:    newCall(r.addSlot, same[soultribe.Slot]),
			addSlots:   newCall(r.addSlots, same[[]soultribe.Slot]),
			match:      newCall(r.match, same[soultribe.Match]),
			meet:       newCall(r.meet, same[soultribe.Meetup]),
			mutual:     newCall(r.mutual, same[[]soultribe.Window]),
			candidates: newCall(r.candidates, same[[]soultribe.Candidate]),
			close:      pool.Close,
		}, nil
	}
}

// newVariants is the reference where there is another way to write it: an account by BEGIN, two INSERTs and COMMIT,
// many slots by way of arrays, and with the rules that the reference leaves out.
func newVariants(ctx context.Context, env environment) (peer, error) {
	pool, err := env.pool(ctx, pgx.QueryExecModeCacheStatement)
	if err != nil {
		return peer{}, err
	}
	r := reference{pool, env.now}
	return peer{
		name:       nameVariant,
		slots:      newCall(r.slotsByTheRules, same[[]soultribe.Slot]),
		useToken:   newCall(r.useTokenByTheRules, same[soultribe.User]),
		createUser: newCall(r.createUserInTransaction, same[soultribe.User]),
		addSlot:    newCall(r.addSlotByTheRules, same[soultribe.Slot]),
		addSlots:   newCall(r.addSlotsByArrays, same[[]soultribe.Slot]),
		match:      newCall(r.matchByTheRules, same[soultribe.Match]),
		meet:       newCall(r.meetByTheRules, same[soultribe.Meetup]),
		close:      pool.Close,
	}, nil
}

const accountSQL = `SELECT u.id, u.email, u.email_verified_at, u.created_at, coalesce(u.credentials_changed_at, u.created_at),
	p.user_id, p.full_name, p.display_name, p.bio, p.timezone, p.created_at, p.updated_at
FROM "user" u LEFT JOIN profile p ON p.user_id = u.id
WHERE lower(u.email COLLATE "C") = lower($1::text COLLATE "C")`

func (r reference) account(ctx context.Context, email string) (soultribe.Account, error) {
	var a soultribe.Account
	u := &a.User
	var owner *int64
	var fullName, displayName, bio, zone *string
	var created, updated *time.Time
	err := r.pool.QueryRow(ctx, accountSQL, email).Scan((*int64)(&u.ID), &u.Email, &u.EmailVerifiedAt, &u.CreatedAt, &u.CredentialsChangedAt,
		&owner, &fullName, &displayName, &bio, &zone, &created, &updated)
	if err == nil && owner != nil {
		a.Profile = &soultribe.Profile{UserID: soultribe.UserID(*owner), FullName: *fullName, DisplayName: *displayName,
			Bio: deref(bio), Timezone: deref(zone), CreatedAt: *created, UpdatedAt: *updated}
	}
	return a, err
}

// deref is "" for NULL.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

const slotsSQL = `SELECT id, user_id, start_dt_utc, end_dt_utc, timezone, created_at, updated_at FROM availabilityslot
WHERE user_id = $1 AND start_dt_utc > $2 ORDER BY start_dt_utc, id LIMIT $3`

// slots does not tell a user without slots from no user, nor whether there are more.
func (r reference) slots(ctx context.Context, user soultribe.UserID) ([]soultribe.Slot, error) {
	rows, err := r.pool.Query(ctx, slotsSQL, int64(user), r.now, pageSize)
	if err != nil {
		return nil, err
	}
	return scanSlots(rows, pageSize)
}

func scanSlots(rows pgx.Rows, size int) ([]soultribe.Slot, error) {
	defer rows.Close()
	list := make([]soultribe.Slot, 0, size)
	for rows.Next() {
		var s soultribe.Slot
		if err := rows.Scan((*int64)(&s.ID), (*int64)(&s.UserID), &s.Start, &s.End, &s.Timezone, &s.CreatedAt, &s.UpdatedAt); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

const pendingSQL = `SELECT m.id, m.user1_id, m.user2_id, m.status, m.created_at, m.updated_at, u1.email, u2.email
FROM match m JOIN "user" u1 ON u1.id = m.user1_id JOIN "user" u2 ON u2.id = m.user2_id
WHERE m.status = 'pending' ORDER BY m.created_at, m.id LIMIT $1`

// pending does not tell whether there are more.
func (r reference) pending(ctx context.Context, _ struct{}) ([]soultribe.PendingMatch, error) {
	rows, err := r.pool.Query(ctx, pendingSQL, pageSize)
	if err != nil {
		return nil, err
	}
	return scanPending(rows)
}

func scanPending(rows pgx.Rows) ([]soultribe.PendingMatch, error) {
	defer rows.Close()
	list := make([]soultribe.PendingMatch, 0, pageSize)
	for rows.Next() {
		var m soultribe.PendingMatch
		if err := rows.Scan((*int64)(&m.ID), (*int64)(&m.User1ID), (*int64)(&m.User2ID), (*string)(&m.Status), &m.CreatedAt, &m.UpdatedAt,
			&m.User1Email, &m.User2Email); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, rows.Err()
}

const useTokenSQL = `WITH redeemed AS (
	UPDATE emailverificationtoken t SET used_at = $2 FROM "user" u
	WHERE t.token = $1 AND t.used_at IS NULL AND t.expires_at > $2
		AND u.id = t.user_id AND lower(t.sent_to COLLATE "C") = lower(u.email COLLATE "C")
	RETURNING t.id, t.user_id
), siblings AS (
	UPDATE emailverificationtoken s SET used_at = $2 FROM redeemed r
	WHERE s.user_id = r.user_id AND s.id <> r.id AND s.used_at IS NULL
)
UPDATE "user" u SET email_verified_at = coalesce(u.email_verified_at, $2) FROM redeemed r WHERE u.id = r.user_id
RETURNING u.id, u.email, u.email_verified_at, u.created_at, coalesce(u.credentials_changed_at, u.created_at)`

// useToken leaves out changes of address, rows with secrets in plain text, the order of locks (the user before the
// tokens), and why a token is refused.
func (r reference) useToken(ctx context.Context, secret string) (soultribe.User, error) {
	return scanUser(r.pool.QueryRow(ctx, useTokenSQL, hashSecret(secret), r.now))
}

func scanUser(row pgx.Row) (soultribe.User, error) {
	var u soultribe.User
	err := row.Scan((*int64)(&u.ID), &u.Email, &u.EmailVerifiedAt, &u.CreatedAt, &u.CredentialsChangedAt)
	return u, err
}

const createUserSQL = `WITH created AS (
	INSERT INTO "user" (email, password_hash, created_at) VALUES ($1, $2, $3)
	ON CONFLICT DO NOTHING RETURNING id, email, email_verified_at, created_at
), profiled AS (
	INSERT INTO profile (user_id, full_name, display_name, bio, timezone, created_at, updated_at)
	SELECT id, $4::text, $5::text, nullif($6::text, ''), nullif($7::text, ''), $3, $3 FROM created
)
SELECT id, email, email_verified_at, created_at, created_at FROM created`

// createUser leaves out the look at the address that saves a number of the sequence.
func (r reference) createUser(ctx context.Context, u newUser) (soultribe.User, error) {
	p := u.Profile
	return scanUser(r.pool.QueryRow(ctx, createUserSQL, u.Email, u.hash, r.now, p.FullName, p.DisplayName, p.Bio, p.Timezone))
}

func (r reference) createUserInTransaction(ctx context.Context, u newUser) (user soultribe.User, err error) {
	tx, err := r.pool.Begin(ctx)
	if err != nil {
		return user, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	user, err = scanUser(tx.QueryRow(ctx, `INSERT INTO "user" (email, password_hash, created_at) VALUES ($1, $2, $3)
RETURNING id, email, email_verified_at, created_at, created_at`, u.Email, u.hash, r.now))
	if err != nil {
		return user, err
	}
	p := u.Profile
	_, err = tx.Exec(ctx, `INSERT INTO profile (user_id, full_name, display_name, bio, timezone, created_at, updated_at)
VALUES ($1, $2, $3, nullif($4::text, ''), nullif($5::text, ''), $6, $6)`, int64(user.ID), p.FullName, p.DisplayName, p.Bio, p.Timezone, r.now)
	if err != nil {
		return user, err
	}
	return user, tx.Commit(ctx)
}

const (
	insertSlotsSQL = `INSERT INTO availabilityslot (user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at)
`
	passOverlapSQL = `
ON CONFLICT ON CONSTRAINT availabilityslot_no_overlap DO NOTHING`
	returnSlotsSQL = `
RETURNING id, user_id, start_dt_utc, end_dt_utc, timezone, created_at, updated_at`
)

// addSlot leaves out the look for the user, whose absence is an error of the foreign key, and for an overlap, which
// saves a number of the sequence.
func (r reference) addSlot(ctx context.Context, n newSlots) (soultribe.Slot, error) {
	slot := n.slots[0]
	start, end, err := localTimes(slot)
	if err != nil {
		return soultribe.Slot{}, err
	}
	var s soultribe.Slot
	err = r.pool.QueryRow(ctx, insertSlotsSQL+"VALUES ($1, $2, $3, $4, $5, $6, $7, $7)"+passOverlapSQL+returnSlotsSQL,
		int64(n.user), slot.Start.UTC(), slot.End.UTC(), start, end, slot.Timezone, r.now).
		Scan((*int64)(&s.ID), (*int64)(&s.UserID), &s.Start, &s.End, &s.Timezone, &s.CreatedAt, &s.UpdatedAt)
	return s, err
}

// addSlots leaves out the same, and a lock on the user, without which it may have a deadlock. ON CONFLICT would search the index of
// the constraint twice for each row, and keep the others of a statement of which a row is in the way.
func (r reference) addSlots(ctx context.Context, n newSlots) ([]soultribe.Slot, error) {
	var text strings.Builder
	text.WriteString(insertSlotsSQL)
	args := make([]any, 0, 2+5*len(n.slots))
	args = append(args, int64(n.user), r.now)
	for i, s := range n.slots {
		start, end, err := localTimes(s)
		if err != nil {
			return nil, err
		}
		text.WriteString([]string{"VALUES ", ", "}[min(i, 1)])
		k := len(args)
		fmt.Fprintf(&text, "($1, $%d, $%d, $%d, $%d, $%d, $2, $2)", k+1, k+2, k+3, k+4, k+5)
		args = append(args, s.Start.UTC(), s.End.UTC(), start, end, s.Timezone)
	}
	text.WriteString(returnSlotsSQL)
	return r.storeSlots(ctx, text.String(), len(n.slots), args)
}

func (r reference) addSlotsByArrays(ctx context.Context, n newSlots) ([]soultribe.Slot, error) {
	a, err := newSlotArrays(n.slots)
	if err != nil {
		return nil, err
	}
	return r.storeSlots(ctx, insertSlotsSQL+"SELECT $1, unnest($3::timestamp[]), unnest($4::timestamp[]), unnest($5::timestamp[]), unnest($6::timestamp[]),"+
		" unnest($7::text[]), $2::timestamp, $2::timestamp"+returnSlotsSQL, len(n.slots),
		[]any{int64(n.user), r.now, a.starts, a.ends, a.localStarts, a.localEnds, a.zones})
}

func (r reference) storeSlots(ctx context.Context, text string, count int, args []any) ([]soultribe.Slot, error) {
	rows, err := r.pool.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	return scanSlots(rows, count)
}

// slotArrays are slots as parameters, an array a column.
type slotArrays struct {
	starts, ends, localStarts, localEnds []time.Time
	zones                                []string
}

func newSlotArrays(slots []soultribe.NewSlot) (slotArrays, error) {
	times := func() []time.Time { return make([]time.Time, len(slots)) }
	a := slotArrays{times(), times(), times(), times(), make([]string, len(slots))}
	for i, s := range slots {
		var err error
		if a.localStarts[i], a.localEnds[i], err = localTimes(s); err != nil {
			return a, err
		}
		a.starts[i], a.ends[i], a.zones[i] = s.Start.UTC(), s.End.UTC(), s.Timezone
	}
	return a, nil
}

const (
	requestMatchSQL = `INSERT INTO match (user1_id, user2_id, status, created_at, updated_at)
SELECT a.id, b.id, 'pending', $3::timestamp, $3::timestamp FROM "user" a CROSS JOIN "user" b
WHERE a.id = $1 AND b.id = $2 AND a.email_verified_at IS NOT NULL AND b.email_verified_at IS NOT NULL
ON CONFLICT (least(user1_id, user2_id), greatest(user1_id, user2_id)) DO UPDATE SET status = 'accepted', updated_at = excluded.updated_at
WHERE match.status = 'pending' AND match.user2_id = excluded.user1_id
RETURNING id, user1_id, user2_id, status, created_at, updated_at`

	acceptMatchSQL = `UPDATE match m SET status = 'accepted', updated_at = $3 FROM "user" a, "user" b
WHERE m.id = $1 AND m.user2_id = $2 AND m.status = 'pending'
	AND a.id = m.user1_id AND b.id = m.user2_id AND a.email_verified_at IS NOT NULL AND b.email_verified_at IS NOT NULL
RETURNING m.id, m.user1_id, m.user2_id, m.status, m.created_at, m.updated_at`
)

// match leaves out cool-downs, and asking again after a match that ended.
func (r reference) match(ctx context.Context, p pair) (soultribe.Match, error) {
	m, err := scanMatch(r.pool.QueryRow(ctx, requestMatchSQL, int64(p.one), int64(p.other), r.now))
	if err != nil {
		return m, err
	}
	return scanMatch(r.pool.QueryRow(ctx, acceptMatchSQL, int64(m.ID), int64(p.other), r.now))
}

func scanMatch(row pgx.Row) (soultribe.Match, error) {
	var m soultribe.Match
	err := row.Scan((*int64)(&m.ID), (*int64)(&m.User1ID), (*int64)(&m.User2ID), (*string)(&m.Status), &m.CreatedAt, &m.UpdatedAt)
	return m, err
}

const (
	proposeMeetupSQL = `INSERT INTO meetup (match_id, scheduled_time, duration_seconds, proposer_id, status, created_at, updated_at)
SELECT m.id, $3, $4, $2, 'proposed', $5::timestamp, $5::timestamp FROM match m
WHERE m.id = $1 AND m.status = 'accepted' AND $2 IN (m.user1_id, m.user2_id)
ON CONFLICT (match_id) WHERE status IN ('proposed', 'confirmed') DO NOTHING
RETURNING id`

	confirmMeetupSQL = `UPDATE meetup mt SET status = 'confirmed', updated_at = $5 FROM match m
WHERE mt.id = $1 AND m.id = mt.match_id AND m.status = 'accepted' AND $2 IN (m.user1_id, m.user2_id)
	AND mt.status = 'proposed' AND mt.proposer_id <> $2 AND mt.scheduled_time > $5 AND mt.scheduled_time = $3 AND mt.duration_seconds = $4
RETURNING mt.id, mt.match_id, m.user1_id, m.user2_id, mt.proposer_id, mt.scheduled_time, mt.duration_seconds, mt.status, mt.created_at, mt.updated_at`
)

// meet leaves out to settle a forgotten proposal before the next, all locks, so that confirmations may deadlock,
// and the look for another meetup in that time, which is an error of the constraint.
func (r reference) meet(ctx context.Context, m meeting) (soultribe.Meetup, error) {
	var id int64
	seconds := int64(m.Duration / time.Second)
	if err := r.pool.QueryRow(ctx, proposeMeetupSQL, int64(m.MatchID), int64(m.one), m.Start.UTC(), seconds, r.now).Scan(&id); err != nil {
		return soultribe.Meetup{}, err
	}
	return scanMeetup(r.pool.QueryRow(ctx, confirmMeetupSQL, id, int64(m.other), m.Start.UTC(), seconds, r.now))
}

func scanMeetup(row pgx.Row) (soultribe.Meetup, error) {
	var m soultribe.Meetup
	var seconds int64
	err := row.Scan((*int64)(&m.ID), (*int64)(&m.MatchID), (*int64)(&m.User1ID), (*int64)(&m.User2ID), (*int64)(&m.ProposerID),
		&m.Start, &seconds, (*string)(&m.Status), &m.CreatedAt, &m.UpdatedAt)
	m.Duration = time.Duration(seconds) * time.Second
	return m, err
}

const (
	// mutualSlotsSQL returns the id, which nobody reads: without it the server, once it plans for any values, may read
	// everyone's slots from the index on start, which has all other columns.
	mutualSlotsSQL = `SELECT user_id, start_dt_utc, end_dt_utc, id FROM availabilityslot
WHERE user_id IN ($1, $2) AND start_dt_utc < $4 AND start_dt_utc > $3::timestamp - interval '24 hours' AND end_dt_utc > $3
ORDER BY user_id, start_dt_utc`

	mutualBookingsSQL = `SELECT user_id, starts_at, ends_at, meetup_id FROM soultribe_booking
WHERE user_id IN ($1, $2) AND starts_at < $4 AND ends_at > $3 ORDER BY starts_at`
)

// mutual does not tell people who have no time from no people.
func (r reference) mutual(ctx context.Context, p pair) ([]soultribe.Window, error) {
	until := r.now.Add(horizon)
	var slots, bookings []ownedWindow
	var batch pgx.Batch
	queueWindows(&batch, &slots, mutualSlotsSQL, int64(p.one), int64(p.other), r.now, until)
	queueWindows(&batch, &bookings, mutualBookingsSQL, int64(p.one), int64(p.other), r.now, until)
	if err := r.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, err
	}
	return mutualTime(slots, bookings, r.now, until), nil
}

func queueWindows(b *pgx.Batch, list *[]ownedWindow, text string, args ...any) {
	b.Queue(text, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var w ownedWindow
			if err := rows.Scan((*int64)(&w.UserID), &w.Start, &w.End, nil); err != nil {
				return err
			}
			*list = append(*list, w)
		}
		return rows.Err()
	})
}

const (
	ownSlotsSQL = `SELECT user_id, start_dt_utc, end_dt_utc, id FROM availabilityslot
WHERE user_id = $1 AND start_dt_utc < $3 AND start_dt_utc > $2::timestamp - interval '24 hours' AND end_dt_utc > $2 ORDER BY start_dt_utc`

	ownBookingsSQL = `SELECT user_id, starts_at, ends_at, meetup_id FROM soultribe_booking
WHERE user_id = $1 AND starts_at < $3 AND ends_at > $2 ORDER BY starts_at`

	partnersSQL = `SELECT CASE WHEN user1_id = $1 THEN user2_id ELSE user1_id END FROM match
WHERE (user1_id = $1 OR user2_id = $1) AND NOT (status = 'cancelled' AND updated_at <= $2)`

	// candidatesSQL has the plan of the library's: the slots that meet the actor's windows ($2 to $3) are read in
	// order from the index on start, and the server stops where the page is full.
	candidatesSQL = `WITH free AS (
	SELECT * FROM unnest($2::timestamp[], $3::timestamp[]) WITH ORDINALITY AS f (starts_at, ends_at, place)
), horizon AS (
	SELECT min(starts_at) AS starts_at, max(ends_at) AS ends_at, range_agg(tsrange(starts_at, ends_at)) AS free FROM free
), page AS (
	SELECT f.place, f.half, c.* FROM (SELECT * FROM free CROSS JOIN (VALUES (1), (2)) AS halves (half) ORDER BY place, half OFFSET 0) f CROSS JOIN LATERAL (
		(SELECT f.starts_at - s.start_dt_utc AS key1, f.starts_at - s.end_dt_utc AS key2, -s.user_id AS key3, s.user_id, w.*
		FROM availabilityslot s CROSS JOIN LATERAL (` + sharedSQL + `) w
		WHERE f.half = 1 AND s.start_dt_utc <= f.starts_at AND s.start_dt_utc > f.starts_at - interval '24 hours' AND s.end_dt_utc > f.starts_at
			AND (least(s.end_dt_utc, f.ends_at) - f.starts_at >= interval '1 hour' OR ` + strangerSQL + `
			AND CASE WHEN w.first = f.starts_at THEN true END
		ORDER BY s.start_dt_utc DESC, s.end_dt_utc DESC, s.user_id DESC LIMIT $5)
		UNION ALL
		(SELECT s.start_dt_utc - f.starts_at, s.end_dt_utc - f.starts_at, s.user_id, s.user_id, w.*
		FROM availabilityslot s CROSS JOIN LATERAL (` + sharedSQL + `) w
		WHERE f.half = 2 AND s.start_dt_utc > f.starts_at AND s.start_dt_utc < f.ends_at
			AND (least(s.end_dt_utc, f.ends_at) - s.start_dt_utc >= interval '1 hour' OR ` + strangerSQL + `
			AND CASE WHEN w.first = s.start_dt_utc THEN true END
		ORDER BY s.start_dt_utc, s.end_dt_utc, s.user_id LIMIT $5)
	) c ORDER BY f.place, f.half, c.key1, c.key2, c.key3 LIMIT $5
)
SELECT c.user_id, coalesce(p.display_name, ''), coalesce(p.timezone, ''), c.starts[1:5], c.ends[1:5], c.total
FROM page c LEFT JOIN profile p ON p.user_id = c.user_id
ORDER BY c.place, c.half, c.key1, c.key2, c.key3`

	// sharedSQL is what a person's slots, merged, have of the actor's time. They are sorted, and strangerSQL looks for an
	// id, for the reason that mutualSlotsSQL returns one.
	sharedSQL = `
			SELECT min(lower(r)) AS first, array_agg(lower(r) ORDER BY r) AS starts, array_agg(upper(r) ORDER BY r) AS ends,
				(sum(extract(epoch FROM upper(r) - lower(r))) * 1000000)::bigint AS total
			FROM unnest((
				SELECT range_agg(tsrange(o.start_dt_utc, o.end_dt_utc)) FROM (
					SELECT start_dt_utc, end_dt_utc FROM availabilityslot
					WHERE user_id = s.user_id AND start_dt_utc < (SELECT ends_at FROM horizon)
						AND start_dt_utc > (SELECT starts_at FROM horizon) - interval '24 hours'
					ORDER BY start_dt_utc, id
				) o
			) * (SELECT free FROM horizon)) AS r WHERE upper(r) - lower(r) >= interval '1 hour'
		`

	// strangerSQL ends the condition of a slot of somebody's who may be a candidate.
	strangerSQL = `(
				SELECT o.id FROM availabilityslot o
				WHERE o.user_id = s.user_id AND o.start_dt_utc > s.start_dt_utc AND o.start_dt_utc <= s.end_dt_utc LIMIT 1) IS NOT NULL)
			AND s.user_id <> $1 AND s.user_id <> ALL ($4::bigint[])
			AND (SELECT u.email_verified_at IS NOT NULL FROM "user" u WHERE u.id = s.user_id)`
)

// candidates is the first page only, so that it need not say where the next begins, and has its lengths fixed.
func (r reference) candidates(ctx context.Context, actor soultribe.UserID) ([]soultribe.Candidate, error) {
	until := r.now.Add(horizon)
	var slots, bookings []ownedWindow
	partners := []int64{}
	var batch pgx.Batch
	queueWindows(&batch, &slots, ownSlotsSQL, int64(actor), r.now, until)
	queueWindows(&batch, &bookings, ownBookingsSQL, int64(actor), r.now, until)
	batch.Queue(partnersSQL, int64(actor), r.now.Add(-24*time.Hour)).Query(func(rows pgx.Rows) (err error) {
		partners, err = pgx.AppendRows(partners, rows, pgx.RowTo[int64])
		return err
	})
	if err := r.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, err
	}
	return r.findCandidates(ctx, actor, slots, bookings, partners)
}

func (r reference) findCandidates(ctx context.Context, actor soultribe.UserID, slots, bookings []ownedWindow, partners []int64) ([]soultribe.Candidate, error) {
	starts, ends := freeTime(slots, bookings, r.now, r.now.Add(horizon))
	rows, err := r.pool.Query(ctx, candidatesSQL, int64(actor), starts, ends, partners, pageSize)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := make([]soultribe.Candidate, 0, pageSize)
	for rows.Next() {
		var c soultribe.Candidate
		var starts, ends []time.Time
		var micros int64
		if err := rows.Scan((*int64)(&c.UserID), &c.DisplayName, &c.Timezone, &starts, &ends, &micros); err != nil {
			return nil, err
		}
		c.Total = time.Duration(micros) * time.Microsecond
		c.Windows = make([]soultribe.Window, len(starts))
		for i := range starts {
			c.Windows[i] = soultribe.Window{Start: starts[i], End: ends[i]}
		}
		list = append(list, c)
	}
	return list, rows.Err()
}

// freeTime is a person's time that is long enough, as arrays.
func freeTime(slots, bookings []ownedWindow, from, to time.Time) (starts, ends []time.Time) {
	own := merge(slots)
	for _, w := range subtract(intersect(own, own, from, to), bookings) {
		if w.End.Sub(w.Start) >= atLeast {
			starts, ends = append(starts, w.Start), append(ends, w.End)
		}
	}
	return starts, ends
}
