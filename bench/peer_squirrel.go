package main

import (
	"context"
	"time"

	"github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

// builder is the reference with its SQL built by squirrel for each call, and with Scan by hand. Its statements are
// the reference's, and it leaves out what that does.
type builder struct {
	reference
	sql squirrel.StatementBuilderType
}

func newBuilder(ctx context.Context, env environment) (peer, error) {
	pool, err := env.pool(ctx, pgx.QueryExecModeCacheStatement)
	if err != nil {
		return peer{}, err
	}
	b := builder{reference{pool, env.now}, squirrel.StatementBuilder.PlaceholderFormat(squirrel.Dollar)}
	return peer{
		name:       "squirrel",
		account:    newCall(b.account, same[soultribe.Account]),
		slots:      newCall(b.slots, same[[]soultribe.Slot]),
		pending:    newCall(b.pending, same[[]soultribe.PendingMatch]),
		useToken:   newCall(b.useToken, same[soultribe.User]),
		createUser: newCall(b.createUser, same[soultribe.User]),
		addSlot:    newCall(b.addSlot, same[soultribe.Slot]),
		addSlots:   newCall(b.addSlots, same[[]soultribe.Slot]),
		match:      newCall(b.match, same[soultribe.Match]),
		meet:       newCall(b.meet, same[soultribe.Meetup]),
		mutual:     newCall(b.mutual, same[[]soultribe.Window]),
		candidates: newCall(b.candidates, same[[]soultribe.Candidate]),
		close:      pool.Close,
	}, nil
}

// failed is the row of a statement that could not be built.
type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }

func (b builder) queryRow(ctx context.Context, query squirrel.Sqlizer) pgx.Row {
	text, args, err := query.ToSql()
	if err != nil {
		return failed{err}
	}
	return b.pool.QueryRow(ctx, text, args...)
}

func (b builder) query(ctx context.Context, query squirrel.Sqlizer) (pgx.Rows, error) {
	text, args, err := query.ToSql()
	if err != nil {
		return nil, err
	}
	return b.pool.Query(ctx, text, args...)
}

func (b builder) account(ctx context.Context, email string) (soultribe.Account, error) {
	var a soultribe.Account
	u := &a.User
	var owner *int64
	var fullName, displayName, bio, zone *string
	var created, updated *time.Time
	err := b.queryRow(ctx, b.sql.Select("u.id", "u.email", "u.email_verified_at", "u.created_at", "coalesce(u.credentials_changed_at, u.created_at)",
		"p.user_id", "p.full_name", "p.display_name", "p.bio", "p.timezone", "p.created_at", "p.updated_at").
		From(`"user" u`).LeftJoin("profile p ON p.user_id = u.id").
		Where(`lower(u.email COLLATE "C") = lower(?::text COLLATE "C")`, email)).
		Scan((*int64)(&u.ID), &u.Email, &u.EmailVerifiedAt, &u.CreatedAt, &u.CredentialsChangedAt,
			&owner, &fullName, &displayName, &bio, &zone, &created, &updated)
	if err == nil && owner != nil {
		a.Profile = &soultribe.Profile{UserID: soultribe.UserID(*owner), FullName: *fullName, DisplayName: *displayName,
			Bio: deref(bio), Timezone: deref(zone), CreatedAt: *created, UpdatedAt: *updated}
	}
	return a, err
}

func (b builder) slots(ctx context.Context, user soultribe.UserID) ([]soultribe.Slot, error) {
	rows, err := b.query(ctx, b.sql.Select("id", "user_id", "start_dt_utc", "end_dt_utc", "timezone", "created_at", "updated_at").
		From("availabilityslot").Where(squirrel.Eq{"user_id": int64(user)}).Where(squirrel.Gt{"start_dt_utc": b.now}).
		OrderBy("start_dt_utc", "id").Limit(pageSize))
	if err != nil {
		return nil, err
	}
	return scanSlots(rows, pageSize)
}

func (b builder) pending(ctx context.Context, _ struct{}) ([]soultribe.PendingMatch, error) {
	rows, err := b.query(ctx, b.sql.Select("m.id", "m.user1_id", "m.user2_id", "m.status", "m.created_at", "m.updated_at", "u1.email", "u2.email").
		From("match m").Join(`"user" u1 ON u1.id = m.user1_id`).Join(`"user" u2 ON u2.id = m.user2_id`).
		Where("m.status = 'pending'").OrderBy("m.created_at", "m.id").Limit(pageSize))
	if err != nil {
		return nil, err
	}
	return scanPending(rows)
}

func (b builder) useToken(ctx context.Context, secret string) (soultribe.User, error) {
	redeemed := squirrel.Update("emailverificationtoken t").Set("used_at", b.now).From(`"user" u`).
		Where(squirrel.Eq{"t.token": hashSecret(secret)}).Where("t.used_at IS NULL").Where(squirrel.Gt{"t.expires_at": b.now}).
		Where(`u.id = t.user_id AND lower(t.sent_to COLLATE "C") = lower(u.email COLLATE "C")`).Suffix("RETURNING t.id, t.user_id")
	siblings := squirrel.Update("emailverificationtoken s").Set("used_at", b.now).From("redeemed r").
		Where("s.user_id = r.user_id AND s.id <> r.id AND s.used_at IS NULL")
	return scanUser(b.queryRow(ctx, b.sql.Update(`"user" u`).
		PrefixExpr(squirrel.ConcatExpr("WITH redeemed AS (", redeemed, "), siblings AS (", siblings, ")")).
		Set("email_verified_at", squirrel.Expr("coalesce(u.email_verified_at, ?)", b.now)).From("redeemed r").Where("u.id = r.user_id").
		Suffix("RETURNING u.id, u.email, u.email_verified_at, u.created_at, coalesce(u.credentials_changed_at, u.created_at)")))
}

func (b builder) createUser(ctx context.Context, u newUser) (soultribe.User, error) {
	p := u.Profile
	created := squirrel.Insert(`"user"`).Columns("email", "password_hash", "created_at").Values(u.Email, u.hash, b.now).
		Suffix("ON CONFLICT DO NOTHING RETURNING id, email, email_verified_at, created_at")
	profiled := squirrel.Insert("profile").Columns("user_id", "full_name", "display_name", "bio", "timezone", "created_at", "updated_at").
		Select(squirrel.Select("id").Column("?::text", p.FullName).Column("?::text", p.DisplayName).Column("nullif(?::text, '')", p.Bio).
			Column("nullif(?::text, '')", p.Timezone).Column("?::timestamp", b.now).Column("?::timestamp", b.now).From("created"))
	return scanUser(b.queryRow(ctx, b.sql.Select("id", "email", "email_verified_at", "created_at", "created_at").From("created").
		PrefixExpr(squirrel.ConcatExpr("WITH created AS (", created, "), profiled AS (", profiled, ")"))))
}

func (b builder) insertSlots(onConflict string) squirrel.InsertBuilder {
	return b.sql.Insert("availabilityslot").
		Columns("user_id", "start_dt_utc", "end_dt_utc", "start_dt_local", "end_dt_local", "timezone", "created_at", "updated_at").
		Suffix(onConflict).
		Suffix("RETURNING id, user_id, start_dt_utc, end_dt_utc, timezone, created_at, updated_at")
}

func (b builder) addSlot(ctx context.Context, n newSlots) (soultribe.Slot, error) {
	slot := n.slots[0]
	start, end, err := localTimes(slot)
	if err != nil {
		return soultribe.Slot{}, err
	}
	var s soultribe.Slot
	err = b.queryRow(ctx, b.insertSlots(passOverlapSQL).Values(int64(n.user), slot.Start.UTC(), slot.End.UTC(), start, end, slot.Timezone, b.now, b.now)).
		Scan((*int64)(&s.ID), (*int64)(&s.UserID), &s.Start, &s.End, &s.Timezone, &s.CreatedAt, &s.UpdatedAt)
	return s, err
}

func (b builder) addSlots(ctx context.Context, n newSlots) ([]soultribe.Slot, error) {
	insert := b.insertSlots("")
	for _, s := range n.slots {
		start, end, err := localTimes(s)
		if err != nil {
			return nil, err
		}
		insert = insert.Values(int64(n.user), s.Start.UTC(), s.End.UTC(), start, end, s.Timezone, b.now, b.now)
	}
	text, args, err := insert.ToSql()
	if err != nil {
		return nil, err
	}
	return b.storeSlots(ctx, text, len(n.slots), args)
}

func (b builder) match(ctx context.Context, p pair) (soultribe.Match, error) {
	m, err := scanMatch(b.queryRow(ctx, b.sql.Insert("match").Columns("user1_id", "user2_id", "status", "created_at", "updated_at").
		Select(squirrel.Select("a.id", "b.id", "'pending'").Column("?::timestamp", b.now).Column("?::timestamp", b.now).
			From(`"user" a`).CrossJoin(`"user" b`).Where(squirrel.Eq{"a.id": int64(p.one), "b.id": int64(p.other)}).
			Where("a.email_verified_at IS NOT NULL AND b.email_verified_at IS NOT NULL")).
		Suffix("ON CONFLICT (least(user1_id, user2_id), greatest(user1_id, user2_id)) DO UPDATE SET status = 'accepted', updated_at = excluded.updated_at"+
			" WHERE match.status = 'pending' AND match.user2_id = excluded.user1_id").
		Suffix("RETURNING id, user1_id, user2_id, status, created_at, updated_at")))
	if err != nil {
		return m, err
	}
	return scanMatch(b.queryRow(ctx, b.sql.Update("match m").Set("status", "accepted").Set("updated_at", b.now).From(`"user" a, "user" b`).
		Where(squirrel.Eq{"m.id": int64(m.ID), "m.user2_id": int64(p.other), "m.status": "pending"}).
		Where("a.id = m.user1_id AND b.id = m.user2_id AND a.email_verified_at IS NOT NULL AND b.email_verified_at IS NOT NULL").
		Suffix("RETURNING m.id, m.user1_id, m.user2_id, m.status, m.created_at, m.updated_at")))
}

func (b builder) meet(ctx context.Context, m meeting) (soultribe.Meetup, error) {
	var id int64
	seconds := int64(m.Duration / time.Second)
	err := b.queryRow(ctx, b.sql.Insert("meetup").
		Columns("match_id", "scheduled_time", "duration_seconds", "proposer_id", "status", "created_at", "updated_at").
		Select(squirrel.Select("m.id").Column("?::timestamp", m.Start.UTC()).Column("?::integer", seconds).Column("?::integer", int64(m.one)).
			Column("'proposed'").Column("?::timestamp", b.now).Column("?::timestamp", b.now).
			From("match m").Where(squirrel.Eq{"m.id": int64(m.MatchID)}).Where("m.status = 'accepted' AND ? IN (m.user1_id, m.user2_id)", int64(m.one))).
		Suffix("ON CONFLICT (match_id) WHERE status IN ('proposed', 'confirmed') DO NOTHING RETURNING id")).Scan(&id)
	if err != nil {
		return soultribe.Meetup{}, err
	}
	return scanMeetup(b.queryRow(ctx, b.sql.Update("meetup mt").Set("status", "confirmed").Set("updated_at", b.now).From("match m").
		Where(squirrel.Eq{"mt.id": id, "mt.status": "proposed", "mt.scheduled_time": m.Start.UTC(), "mt.duration_seconds": seconds}).
		Where("m.id = mt.match_id AND m.status = 'accepted' AND ? IN (m.user1_id, m.user2_id)", int64(m.other)).
		Where(squirrel.NotEq{"mt.proposer_id": int64(m.other)}).Where(squirrel.Gt{"mt.scheduled_time": b.now}).
		Suffix("RETURNING mt.id, mt.match_id, m.user1_id, m.user2_id, mt.proposer_id, mt.scheduled_time, mt.duration_seconds, mt.status, mt.created_at, mt.updated_at")))
}

// queue adds a query for windows that overlap those from now on.
func (b builder) queue(batch *pgx.Batch, list *[]ownedWindow, query squirrel.SelectBuilder) error {
	text, args, err := query.ToSql()
	if err == nil {
		queueWindows(batch, list, text, args...)
	}
	return err
}

// timeOf are the queries for the slots and for the bookings of people.
func (b builder) timeOf(users squirrel.Sqlizer) (slots, bookings squirrel.SelectBuilder) {
	until := b.now.Add(horizon)
	slots = b.sql.Select("user_id", "start_dt_utc", "end_dt_utc", "id").From("availabilityslot").Where(users).
		Where(squirrel.Lt{"start_dt_utc": until}).Where(squirrel.Gt{"start_dt_utc": b.now.Add(-maxSpan)}).Where(squirrel.Gt{"end_dt_utc": b.now}).
		OrderBy("user_id", "start_dt_utc")
	bookings = b.sql.Select("user_id", "starts_at", "ends_at", "meetup_id").From("soultribe_booking").Where(users).
		Where(squirrel.Lt{"starts_at": until}).Where(squirrel.Gt{"ends_at": b.now}).OrderBy("starts_at")
	return slots, bookings
}

func (b builder) mutual(ctx context.Context, p pair) ([]soultribe.Window, error) {
	var slots, bookings []ownedWindow
	var batch pgx.Batch
	ofSlots, ofBookings := b.timeOf(squirrel.Expr("user_id IN (?, ?)", int64(p.one), int64(p.other)))
	if err := b.queue(&batch, &slots, ofSlots); err != nil {
		return nil, err
	}
	if err := b.queue(&batch, &bookings, ofBookings); err != nil {
		return nil, err
	}
	if err := b.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, err
	}
	return mutualTime(slots, bookings, b.now, b.now.Add(horizon)), nil
}

// candidates has its first round trip built. The second is the reference's text: squirrel has nothing for it but
// to pass text through.
func (b builder) candidates(ctx context.Context, actor soultribe.UserID) ([]soultribe.Candidate, error) {
	var slots, bookings []ownedWindow
	var batch pgx.Batch
	ofSlots, ofBookings := b.timeOf(squirrel.Eq{"user_id": int64(actor)})
	if err := b.queue(&batch, &slots, ofSlots); err != nil {
		return nil, err
	}
	if err := b.queue(&batch, &bookings, ofBookings); err != nil {
		return nil, err
	}
	partners := []int64{}
	text, args, err := b.sql.Select().Column("CASE WHEN user1_id = ? THEN user2_id ELSE user1_id END", int64(actor)).From("match").
		Where(squirrel.Or{squirrel.Eq{"user1_id": int64(actor)}, squirrel.Eq{"user2_id": int64(actor)}}).
		Where("NOT (status = 'cancelled' AND updated_at <= ?)", b.now.Add(-24*time.Hour)).ToSql()
	if err != nil {
		return nil, err
	}
	batch.Queue(text, args...).Query(func(rows pgx.Rows) (err error) {
		partners, err = pgx.AppendRows(partners, rows, pgx.RowTo[int64])
		return err
	})
	if err := b.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return nil, err
	}
	return b.findCandidates(ctx, actor, slots, bookings, partners)
}
