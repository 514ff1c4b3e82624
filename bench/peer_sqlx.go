package main

import (
	"context"
	"net/url"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/soultribe-chat/soultribe"
)

type (
	sqlxUser struct {
		ID                   int64      `db:"id"`
		Email                string     `db:"email"`
		EmailVerifiedAt      *time.Time `db:"email_verified_at"`
		CreatedAt            time.Time  `db:"created_at"`
		CredentialsChangedAt *time.Time `db:"credentials_changed_at"`
	}

	sqlxAccount struct {
		sqlxUser
		UserID           *int64     `db:"user_id"`
		FullName         *string    `db:"full_name"`
		DisplayName      *string    `db:"display_name"`
		Bio              *string    `db:"bio"`
		Timezone         *string    `db:"timezone"`
		ProfileCreatedAt *time.Time `db:"profile_created_at"`
		ProfileUpdatedAt *time.Time `db:"profile_updated_at"`
	}

	sqlxSlot struct {
		ID        int64     `db:"id"`
		UserID    int64     `db:"user_id"`
		Start     time.Time `db:"start_dt_utc"`
		End       time.Time `db:"end_dt_utc"`
		Timezone  string    `db:"timezone"`
		CreatedAt time.Time `db:"created_at"`
		UpdatedAt time.Time `db:"updated_at"`
	}

	sqlxNewSlot struct {
		UserID       int64     `db:"user_id"`
		StartDtUTC   time.Time `db:"start_dt_utc"`
		EndDtUTC     time.Time `db:"end_dt_utc"`
		StartDtLocal time.Time `db:"start_dt_local"`
		EndDtLocal   time.Time `db:"end_dt_local"`
		Timezone     string    `db:"timezone"`
		CreatedAt    time.Time `db:"created_at"`
		UpdatedAt    time.Time `db:"updated_at"`
	}

	sqlxMatch struct {
		ID         int64     `db:"id"`
		User1ID    int64     `db:"user1_id"`
		User2ID    int64     `db:"user2_id"`
		Status     string    `db:"status"`
		CreatedAt  time.Time `db:"created_at"`
		UpdatedAt  time.Time `db:"updated_at"`
		User1Email string    `db:"user1_email"`
		User2Email string    `db:"user2_email"`
	}

	sqlxMeetup struct {
		ID              int64     `db:"id"`
		MatchID         int64     `db:"match_id"`
		User1ID         int64     `db:"user1_id"`
		User2ID         int64     `db:"user2_id"`
		ProposerID      int64     `db:"proposer_id"`
		ScheduledTime   time.Time `db:"scheduled_time"`
		DurationSeconds int64     `db:"duration_seconds"`
		Status          string    `db:"status"`
		CreatedAt       time.Time `db:"created_at"`
		UpdatedAt       time.Time `db:"updated_at"`
	}

	sqlxWindow struct {
		ID     int64     `db:"id"` // see mutualSlotsSQL
		UserID int64     `db:"user_id"`
		Start  time.Time `db:"starts_at"`
		End    time.Time `db:"ends_at"`
	}

	sqlxStranger struct {
		ID          int64  `db:"id"`
		DisplayName string `db:"display_name"`
		Timezone    string `db:"timezone"`
	}
)

func (u sqlxUser) user() soultribe.User {
	return viewUser(u.ID, u.Email, u.EmailVerifiedAt, u.CreatedAt, u.CredentialsChangedAt)
}

func (s sqlxSlot) slot() soultribe.Slot {
	return viewSlot(s.ID, s.UserID, s.Start, s.End, s.Timezone, s.CreatedAt, s.UpdatedAt)
}

func (m sqlxMatch) match() soultribe.Match {
	return viewMatch(m.ID, m.User1ID, m.User2ID, m.Status, m.CreatedAt, m.UpdatedAt)
}

// sqlxPeer is sqlx on lib/pq: Get and Select into structs by name. Its statements are the reference's, and it leaves
// out what that does; but it has no batches, the round trips of a candidate search are one query per pair, and an
// overlap of a single slot is an error of the driver's, too.
type sqlxPeer struct {
	db  *sqlx.DB
	now time.Time
}

func newSqlx(ctx context.Context, env environment) (peer, error) {
	// Where the URL does not say, pgx takes what the server offers, and lib/pq insists on TLS.
	u, err := url.Parse(env.url)
	if err != nil {
		return peer{}, err
	}
	if query := u.Query(); !query.Has("sslmode") {
		query.Set("sslmode", "prefer")
		u.RawQuery = query.Encode()
	}
	db, err := sqlx.ConnectContext(ctx, "postgres", u.String())
	if err != nil {
		return peer{}, err
	}
	db.SetMaxOpenConns(poolSize)
	db.SetMaxIdleConns(poolSize)
	x := sqlxPeer{db, env.now}
	return peer{
		name: "sqlx",
		account: newCall(x.account, func(a sqlxAccount) any {
			account := soultribe.Account{User: a.user()}
			if a.UserID != nil {
				account.Profile = viewProfile(*a.UserID, *a.FullName, *a.DisplayName, a.Bio, a.Timezone, *a.ProfileCreatedAt, *a.ProfileUpdatedAt)
			}
			return account
		}),
		slots: newCall(x.slots, each(sqlxSlot.slot)),
		pending: newCall(x.pending, each(func(m sqlxMatch) soultribe.PendingMatch {
			return soultribe.PendingMatch{Match: m.match(), User1Email: m.User1Email, User2Email: m.User2Email}
		})),
		useToken:   newCall(x.useToken, func(u sqlxUser) any { return u.user() }),
		createUser: newCall(x.createUser, func(u sqlxUser) any { return u.user() }),
		addSlot:    newCall(x.addSlot, func(s sqlxSlot) any { return s.slot() }),
		addSlots:   newCall(x.addSlots, each(sqlxSlot.slot)),
		match:      newCall(x.match, func(m sqlxMatch) any { return m.match() }),
		meet: newCall(x.meet, func(m sqlxMeetup) any {
			return viewMeetup(m.ID, m.MatchID, m.User1ID, m.User2ID, m.ProposerID, m.ScheduledTime, m.DurationSeconds, m.Status, m.CreatedAt, m.UpdatedAt)
		}),
		mutual:     newCall(x.mutual, same[[]soultribe.Window]),
		candidates: newCall(x.candidates, same[[]soultribe.Candidate]),
		close:      func() { _ = db.Close() },
	}, nil
}

// The driver registers itself by the import.
var _ pq.Driver

func (x sqlxPeer) account(ctx context.Context, email string) (a sqlxAccount, err error) {
	err = x.db.GetContext(ctx, &a, `SELECT u.id, u.email, u.email_verified_at, u.created_at, u.credentials_changed_at,
	p.user_id, p.full_name, p.display_name, p.bio, p.timezone, p.created_at AS profile_created_at, p.updated_at AS profile_updated_at
FROM "user" u LEFT JOIN profile p ON p.user_id = u.id
WHERE lower(u.email COLLATE "C") = lower($1::text COLLATE "C")`, email)
	return a, err
}

func (x sqlxPeer) slots(ctx context.Context, user soultribe.UserID) (list []sqlxSlot, err error) {
	err = x.db.SelectContext(ctx, &list, slotsSQL, int64(user), x.now, pageSize)
	return list, err
}

func (x sqlxPeer) pending(ctx context.Context, _ struct{}) (list []sqlxMatch, err error) {
	err = x.db.SelectContext(ctx, &list, `SELECT m.id, m.user1_id, m.user2_id, m.status, m.created_at, m.updated_at, u1.email AS user1_email, u2.email AS user2_email
FROM match m JOIN "user" u1 ON u1.id = m.user1_id JOIN "user" u2 ON u2.id = m.user2_id
WHERE m.status = 'pending' ORDER BY m.created_at, m.id LIMIT $1`, pageSize)
	return list, err
}

func (x sqlxPeer) useToken(ctx context.Context, secret string) (u sqlxUser, err error) {
	err = x.db.GetContext(ctx, &u, `WITH redeemed AS (
	UPDATE emailverificationtoken t SET used_at = $2 FROM "user" u
	WHERE t.token = $1 AND t.used_at IS NULL AND t.expires_at > $2
		AND u.id = t.user_id AND lower(t.sent_to COLLATE "C") = lower(u.email COLLATE "C")
	RETURNING t.id, t.user_id
), siblings AS (
	UPDATE emailverificationtoken s SET used_at = $2 FROM redeemed r
	WHERE s.user_id = r.user_id AND s.id <> r.id AND s.used_at IS NULL
)
UPDATE "user" u SET email_verified_at = coalesce(u.email_verified_at, $2) FROM redeemed r WHERE u.id = r.user_id
RETURNING u.id, u.email, u.email_verified_at, u.created_at, u.credentials_changed_at`, hashSecret(secret), x.now)
	return u, err
}

func (x sqlxPeer) createUser(ctx context.Context, n newUser) (u sqlxUser, err error) {
	p := n.Profile
	err = x.db.GetContext(ctx, &u, `WITH created AS (
	INSERT INTO "user" (email, password_hash, created_at) VALUES ($1, $2, $3)
	ON CONFLICT DO NOTHING RETURNING id, email, email_verified_at, created_at
), profiled AS (
	INSERT INTO profile (user_id, full_name, display_name, bio, timezone, created_at, updated_at)
	SELECT id, $4::text, $5::text, nullif($6::text, ''), nullif($7::text, ''), $3, $3 FROM created
)
SELECT id, email, email_verified_at, created_at FROM created`, n.Email, n.hash, x.now, p.FullName, p.DisplayName, p.Bio, p.Timezone)
	return u, err
}

func (x sqlxPeer) newSlot(user soultribe.UserID, s soultribe.NewSlot) (sqlxNewSlot, error) {
	start, end, err := localTimes(s)
	return sqlxNewSlot{int64(user), s.Start.UTC(), s.End.UTC(), start, end, s.Timezone, x.now, x.now}, err
}

const namedSlotSQL = insertSlotsSQL +
	"VALUES (:user_id, :start_dt_utc, :end_dt_utc, :start_dt_local, :end_dt_local, :timezone, :created_at, :updated_at)" + returnSlotsSQL

func (x sqlxPeer) addSlot(ctx context.Context, n newSlots) (sqlxSlot, error) {
	list, err := x.addSlots(ctx, newSlots{n.user, n.slots[:1]})
	if err != nil {
		return sqlxSlot{}, err
	}
	return list[0], nil
}

func (x sqlxPeer) addSlots(ctx context.Context, n newSlots) ([]sqlxSlot, error) {
	values := make([]sqlxNewSlot, len(n.slots))
	for i, s := range n.slots {
		var err error
		if values[i], err = x.newSlot(n.user, s); err != nil {
			return nil, err
		}
	}
	rows, err := x.db.NamedQueryContext(ctx, namedSlotSQL, values)
	if err != nil {
		return nil, err
	}
	var list []sqlxSlot
	if err := sqlx.StructScan(rows, &list); err != nil {
		return nil, err
	}
	return list, nil
}

func (x sqlxPeer) match(ctx context.Context, p pair) (m sqlxMatch, err error) {
	if err := x.db.GetContext(ctx, &m, requestMatchSQL, int64(p.one), int64(p.other), x.now); err != nil {
		return m, err
	}
	err = x.db.GetContext(ctx, &m, acceptMatchSQL, m.ID, int64(p.other), x.now)
	return m, err
}

func (x sqlxPeer) meet(ctx context.Context, n meeting) (m sqlxMeetup, err error) {
	seconds := int64(n.Duration / time.Second)
	if err := x.db.GetContext(ctx, &m.ID, proposeMeetupSQL, int64(n.MatchID), int64(n.one), n.Start.UTC(), seconds, x.now); err != nil {
		return m, err
	}
	err = x.db.GetContext(ctx, &m, confirmMeetupSQL, m.ID, int64(n.other), n.Start.UTC(), seconds, x.now)
	return m, err
}

func (x sqlxPeer) windows(ctx context.Context, query string, users []soultribe.UserID) ([]ownedWindow, error) {
	var list []sqlxWindow
	err := x.db.SelectContext(ctx, &list, query, pq.Array(convert(users, userID)), x.now, x.now.Add(horizon))
	return convert(list, func(w sqlxWindow) ownedWindow { return newWindow(w.UserID, w.Start, w.End) }), err
}

func (x sqlxPeer) slotsOf(ctx context.Context, users ...soultribe.UserID) ([]ownedWindow, error) {
	return x.windows(ctx, `SELECT user_id, start_dt_utc AS starts_at, end_dt_utc AS ends_at, id FROM availabilityslot
WHERE user_id = ANY ($1) AND start_dt_utc < $3 AND start_dt_utc > $2::timestamp - interval '24 hours' AND end_dt_utc > $2
ORDER BY user_id, start_dt_utc`, users)
}

func (x sqlxPeer) bookingsOf(ctx context.Context, users ...soultribe.UserID) ([]ownedWindow, error) {
	return x.windows(ctx, `SELECT user_id, starts_at, ends_at FROM soultribe_booking
WHERE user_id = ANY ($1) AND starts_at < $3 AND ends_at > $2 ORDER BY starts_at`, users)
}

func (x sqlxPeer) mutual(ctx context.Context, p pair) ([]soultribe.Window, error) {
	return mutualByQueries(ctx, p, x.now, x.slotsOf, x.bookingsOf)
}

// candidates is one query per pair.
func (x sqlxPeer) candidates(ctx context.Context, actor soultribe.UserID) ([]soultribe.Candidate, error) {
	return pairSearch(ctx, actor, x.now, x.others, x.slotsOf, x.bookingsOf)
}

func (x sqlxPeer) others(ctx context.Context, actor soultribe.UserID) ([]stranger, error) {
	var list []sqlxStranger
	err := x.db.SelectContext(ctx, &list, `SELECT u.id, coalesce(p.display_name, '') AS display_name, coalesce(p.timezone, '') AS timezone
FROM "user" u LEFT JOIN profile p ON p.user_id = u.id
WHERE u.id <> $1 AND u.email_verified_at IS NOT NULL AND NOT EXISTS (
	SELECT FROM match m WHERE (m.user1_id = $1 AND m.user2_id = u.id OR m.user2_id = $1 AND m.user1_id = u.id)
		AND NOT (m.status = 'cancelled' AND m.updated_at <= $2))`, int64(actor), x.now.Add(-24*time.Hour))
	return convert(list, func(s sqlxStranger) stranger { return stranger{soultribe.UserID(s.ID), s.DisplayName, s.Timezone} }), err
}
