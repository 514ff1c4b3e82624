package main

import (
	"context"
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/soultribe-chat/soultribe"
)

type (
	bunUser struct {
		bun.BaseModel `bun:"table:user,alias:u"`

		ID                   int64 `bun:",pk,autoincrement"`
		Email                string
		PasswordHash         string
		EmailVerifiedAt      *time.Time `bun:"type:timestamp"`
		CreatedAt            time.Time  `bun:"type:timestamp"`
		CredentialsChangedAt *time.Time `bun:"type:timestamp"`

		Profile *bunProfile `bun:"rel:has-one,join:id=user_id"`
	}

	bunProfile struct {
		bun.BaseModel `bun:"table:profile,alias:p"`

		UserID      int64 `bun:",pk"`
		FullName    string
		DisplayName string
		Bio         *string
		Timezone    *string
		CreatedAt   time.Time `bun:"type:timestamp"`
		UpdatedAt   time.Time `bun:"type:timestamp"`
	}

	bunSlot struct {
		bun.BaseModel `bun:"table:availabilityslot,alias:s"`

		ID           int64 `bun:",pk,autoincrement"`
		UserID       int64
		StartDtUTC   time.Time `bun:"start_dt_utc,type:timestamp"`
		EndDtUTC     time.Time `bun:"end_dt_utc,type:timestamp"`
		StartDtLocal time.Time `bun:"type:timestamp"`
		EndDtLocal   time.Time `bun:"type:timestamp"`
		Timezone     string
		CreatedAt    time.Time `bun:"type:timestamp"`
		UpdatedAt    time.Time `bun:"type:timestamp"`
	}

	bunToken struct {
		bun.BaseModel `bun:"table:emailverificationtoken,alias:t"`

		ID        int64 `bun:",pk,autoincrement"`
		UserID    int64
		Token     string
		ExpiresAt time.Time
		UsedAt    *time.Time
		CreatedAt time.Time
		SentTo    *string
	}

	bunMatch struct {
		bun.BaseModel `bun:"table:match,alias:m"`

		ID        int64 `bun:",pk,autoincrement"`
		User1ID   int64 `bun:"user1_id"`
		User2ID   int64 `bun:"user2_id"`
		Status    string
		CreatedAt time.Time `bun:"type:timestamp"`
		UpdatedAt time.Time `bun:"type:timestamp"`

		User1 *bunUser `bun:"rel:belongs-to,join:user1_id=id"`
		User2 *bunUser `bun:"rel:belongs-to,join:user2_id=id"`
	}

	bunMeetup struct {
		bun.BaseModel `bun:"table:meetup,alias:mt"`

		ID              int64 `bun:",pk,autoincrement"`
		MatchID         int64
		ScheduledTime   time.Time `bun:"type:timestamp"`
		DurationSeconds int64
		ProposerID      int64
		Status          string
		CreatedAt       time.Time `bun:"type:timestamp"`
		UpdatedAt       time.Time `bun:"type:timestamp"`

		Match *bunMatch `bun:"rel:belongs-to,join:match_id=id"`
	}

	bunBooking struct {
		bun.BaseModel `bun:"table:soultribe_booking,alias:b"`

		UserID   int64
		MeetupID int64
		StartsAt time.Time
		EndsAt   time.Time
	}
)

func (u *bunUser) user() soultribe.User {
	return viewUser(u.ID, u.Email, u.EmailVerifiedAt, u.CreatedAt, u.CredentialsChangedAt)
}

func (s bunSlot) slot() soultribe.Slot {
	return viewSlot(s.ID, s.UserID, s.StartDtUTC, s.EndDtUTC, s.Timezone, s.CreatedAt, s.UpdatedAt)
}

func (m bunMatch) match() soultribe.Match {
	return viewMatch(m.ID, m.User1ID, m.User2ID, m.Status, m.CreatedAt, m.UpdatedAt)
}

// bunPeer is bun on a pgx pool by way of database/sql, by models and relations, with its rows read whole. Rules are
// left to the constraints, whose violation is an error of the driver's; it leaves out what the reference does. bun
// writes values into the text of its statements.
type bunPeer struct {
	db  *bun.DB
	now time.Time
}

func newBun(ctx context.Context, env environment) (peer, error) {
	// The texts differ from call to call, so that to prepare them is of no use: bun's documentation has this for pgx.
	pool, err := env.pool(ctx, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return peer{}, err
	}
	db := bun.NewDB(stdlib.OpenDBFromPool(pool), pgdialect.New())
	b := bunPeer{db, env.now}
	return peer{
		name: "bun",
		account: newCall(b.account, func(u *bunUser) any {
			a := soultribe.Account{User: u.user()}
			if p := u.Profile; p != nil {
				a.Profile = viewProfile(p.UserID, p.FullName, p.DisplayName, p.Bio, p.Timezone, p.CreatedAt, p.UpdatedAt)
			}
			return a
		}),
		slots: newCall(b.slots, each(bunSlot.slot)),
		pending: newCall(b.pending, each(func(m bunMatch) soultribe.PendingMatch {
			return soultribe.PendingMatch{Match: m.match(), User1Email: m.User1.Email, User2Email: m.User2.Email}
		})),
		useToken:   newCall(b.useToken, func(u *bunUser) any { return u.user() }),
		createUser: newCall(b.createUser, func(u *bunUser) any { return u.user() }),
		addSlot:    newCall(b.addSlot, func(s *bunSlot) any { return s.slot() }),
		addSlots:   newCall(b.addSlots, each(bunSlot.slot)),
		match:      newCall(b.match, func(m *bunMatch) any { return m.match() }),
		meet: newCall(b.meet, func(m *bunMeetup) any {
			return viewMeetup(m.ID, m.MatchID, m.Match.User1ID, m.Match.User2ID, m.ProposerID, m.ScheduledTime, m.DurationSeconds, m.Status, m.CreatedAt, m.UpdatedAt)
		}),
		mutual:     newCall(b.mutual, same[[]soultribe.Window]),
		candidates: newCall(b.candidates, same[[]soultribe.Candidate]),
		close: func() {
			_ = db.Close()
			pool.Close()
		},
	}, nil
}

func (b bunPeer) account(ctx context.Context, email string) (*bunUser, error) {
	var u bunUser
	err := b.db.NewSelect().Model(&u).Relation("Profile").Where(`lower(u.email COLLATE "C") = lower(? COLLATE "C")`, email).Scan(ctx)
	return &u, err
}

func (b bunPeer) slots(ctx context.Context, user soultribe.UserID) ([]bunSlot, error) {
	var list []bunSlot
	err := b.db.NewSelect().Model(&list).Where("user_id = ?", int64(user)).Where("start_dt_utc > ?", b.now).
		Order("start_dt_utc", "id").Limit(pageSize).Scan(ctx)
	return list, err
}

func (b bunPeer) pending(ctx context.Context, _ struct{}) ([]bunMatch, error) {
	var list []bunMatch
	err := b.db.NewSelect().Model(&list).Relation("User1").Relation("User2").Where("m.status = ?", "pending").
		Order("m.created_at", "m.id").Limit(pageSize).Scan(ctx)
	return list, err
}

func (b bunPeer) useToken(ctx context.Context, secret string) (*bunUser, error) {
	var u bunUser
	err := b.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		var t bunToken
		err := tx.NewUpdate().Model(&t).Set("used_at = ?", b.now).Where("token = ?", hashSecret(secret)).Where("used_at IS NULL").
			Where("expires_at > ?", b.now).Returning("user_id, sent_to").Scan(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.NewUpdate().Model((*bunToken)(nil)).Set("used_at = ?", b.now).Where("user_id = ?", t.UserID).Where("used_at IS NULL").Exec(ctx); err != nil {
			return err
		}
		return tx.NewUpdate().Model(&u).Set("email_verified_at = coalesce(email_verified_at, ?::timestamp)", b.now).Where("id = ?", t.UserID).
			Where(`lower(email COLLATE "C") = lower(? COLLATE "C")`, deref(t.SentTo)).Returning("*").Scan(ctx)
	})
	return &u, err
}

func (b bunPeer) createUser(ctx context.Context, n newUser) (*bunUser, error) {
	p := n.Profile
	u := bunUser{Email: n.Email, PasswordHash: n.hash, CreatedAt: b.now}
	err := b.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(&u).Exec(ctx); err != nil {
			return err
		}
		profile := bunProfile{UserID: u.ID, FullName: p.FullName, DisplayName: p.DisplayName, Bio: orNull(p.Bio), Timezone: orNull(p.Timezone),
			CreatedAt: b.now, UpdatedAt: b.now}
		_, err := tx.NewInsert().Model(&profile).Exec(ctx)
		return err
	})
	return &u, err
}

func (b bunPeer) newSlot(user soultribe.UserID, s soultribe.NewSlot) (bunSlot, error) {
	start, end, err := localTimes(s)
	return bunSlot{UserID: int64(user), StartDtUTC: s.Start.UTC(), EndDtUTC: s.End.UTC(), StartDtLocal: start, EndDtLocal: end,
		Timezone: s.Timezone, CreatedAt: b.now, UpdatedAt: b.now}, err
}

func (b bunPeer) addSlot(ctx context.Context, n newSlots) (*bunSlot, error) {
	s, err := b.newSlot(n.user, n.slots[0])
	if err != nil {
		return nil, err
	}
	_, err = b.db.NewInsert().Model(&s).Exec(ctx)
	return &s, err
}

func (b bunPeer) addSlots(ctx context.Context, n newSlots) ([]bunSlot, error) {
	list := make([]bunSlot, len(n.slots))
	for i, s := range n.slots {
		var err error
		if list[i], err = b.newSlot(n.user, s); err != nil {
			return nil, err
		}
	}
	_, err := b.db.NewInsert().Model(&list).Exec(ctx)
	return list, err
}

func (b bunPeer) verified(ctx context.Context, tx bun.Tx, p pair) error {
	n, err := tx.NewSelect().Model((*bunUser)(nil)).Where("id IN (?, ?)", int64(p.one), int64(p.other)).Where("email_verified_at IS NOT NULL").Count(ctx)
	if err == nil && n < 2 {
		err = sql.ErrNoRows
	}
	return err
}

func (b bunPeer) match(ctx context.Context, p pair) (*bunMatch, error) {
	m := bunMatch{User1ID: int64(p.one), User2ID: int64(p.other), Status: "pending", CreatedAt: b.now, UpdatedAt: b.now}
	err := b.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if err := b.verified(ctx, tx, p); err != nil {
			return err
		}
		_, err := tx.NewInsert().Model(&m).Exec(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var accepted bunMatch
	err = b.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if err := b.verified(ctx, tx, p); err != nil {
			return err
		}
		return tx.NewUpdate().Model(&accepted).Set("status = ?", "accepted").Set("updated_at = ?", b.now).
			Where("id = ?", m.ID).Where("user2_id = ?", int64(p.other)).Where("status = ?", "pending").Returning("*").Scan(ctx)
	})
	return &accepted, err
}

func (b bunPeer) acceptedMatch(ctx context.Context, tx bun.Tx, id soultribe.MatchID, actor soultribe.UserID) (*bunMatch, error) {
	var m bunMatch
	err := tx.NewSelect().Model(&m).Where("id = ?", int64(id)).Where("status = ?", "accepted").Where("? IN (user1_id, user2_id)", int64(actor)).Scan(ctx)
	return &m, err
}

func (b bunPeer) meet(ctx context.Context, n meeting) (*bunMeetup, error) {
	m := bunMeetup{MatchID: int64(n.MatchID), ScheduledTime: n.Start.UTC(), DurationSeconds: int64(n.Duration / time.Second), ProposerID: int64(n.one),
		Status: "proposed", CreatedAt: b.now, UpdatedAt: b.now}
	err := b.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if _, err := b.acceptedMatch(ctx, tx, n.MatchID, n.one); err != nil {
			return err
		}
		_, err := tx.NewInsert().Model(&m).Exec(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	var confirmed bunMeetup
	err = b.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		match, err := b.acceptedMatch(ctx, tx, n.MatchID, n.other)
		if err != nil {
			return err
		}
		err = tx.NewUpdate().Model(&confirmed).Set("status = ?", "confirmed").Set("updated_at = ?", b.now).
			Where("id = ?", m.ID).Where("status = ?", "proposed").Where("proposer_id <> ?", int64(n.other)).Where("scheduled_time > ?", b.now).
			Where("scheduled_time = ?", m.ScheduledTime).Where("duration_seconds = ?", m.DurationSeconds).Returning("*").Scan(ctx)
		confirmed.Match = match
		return err
	})
	return &confirmed, err
}

func (b bunPeer) slotsOf(ctx context.Context, users ...soultribe.UserID) ([]ownedWindow, error) {
	var list []bunSlot
	err := b.db.NewSelect().Model(&list).Where("user_id IN (?)", bun.List(users)).Where("start_dt_utc < ?", b.now.Add(horizon)).
		Where("start_dt_utc > ?", b.now.Add(-maxSpan)).Where("end_dt_utc > ?", b.now).Order("user_id", "start_dt_utc").Scan(ctx)
	return convert(list, func(s bunSlot) ownedWindow { return newWindow(s.UserID, s.StartDtUTC, s.EndDtUTC) }), err
}

func (b bunPeer) bookingsOf(ctx context.Context, users ...soultribe.UserID) ([]ownedWindow, error) {
	var list []bunBooking
	err := b.db.NewSelect().Model(&list).Where("user_id IN (?)", bun.List(users)).Where("starts_at < ?", b.now.Add(horizon)).Where("ends_at > ?", b.now).
		Order("starts_at").Scan(ctx)
	return convert(list, func(b bunBooking) ownedWindow { return newWindow(b.UserID, b.StartsAt, b.EndsAt) }), err
}

func (b bunPeer) mutual(ctx context.Context, p pair) ([]soultribe.Window, error) {
	return mutualByQueries(ctx, p, b.now, b.slotsOf, b.bookingsOf)
}

// candidates is one query per pair.
func (b bunPeer) candidates(ctx context.Context, actor soultribe.UserID) ([]soultribe.Candidate, error) {
	return pairSearch(ctx, actor, b.now, b.others, b.slotsOf, b.bookingsOf)
}

func (b bunPeer) others(ctx context.Context, actor soultribe.UserID) ([]stranger, error) {
	var list []bunUser
	partner := b.db.NewSelect().Model((*bunMatch)(nil)).ColumnExpr("1").
		Where("user1_id = ? AND user2_id = u.id OR user2_id = ? AND user1_id = u.id", int64(actor), int64(actor)).
		Where("NOT (status = ? AND updated_at <= ?)", "cancelled", b.now.Add(-24*time.Hour))
	err := b.db.NewSelect().Model(&list).Relation("Profile").Where("u.id <> ?", int64(actor)).Where("u.email_verified_at IS NOT NULL").
		Where("NOT EXISTS (?)", partner).Scan(ctx)
	return convert(list, func(u bunUser) stranger {
		s := stranger{ID: soultribe.UserID(u.ID)}
		if u.Profile != nil {
			s.DisplayName, s.Timezone = u.Profile.DisplayName, deref(u.Profile.Timezone)
		}
		return s
	}), err
}
