package main

import (
	"context"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/soultribe-chat/soultribe"
)

type (
	gormUser struct {
		ID                   int64
		Email                string
		PasswordHash         string
		EmailVerifiedAt      *time.Time
		CreatedAt            time.Time
		CredentialsChangedAt *time.Time
		Profile              *gormProfile `gorm:"foreignKey:UserID"`
	}

	gormProfile struct {
		UserID      int64 `gorm:"primaryKey;autoIncrement:false"`
		FullName    string
		DisplayName string
		Bio         *string
		Timezone    *string
		CreatedAt   time.Time
		UpdatedAt   time.Time
	}

	gormSlot struct {
		ID           int64
		UserID       int64
		StartDtUTC   time.Time `gorm:"column:start_dt_utc"`
		EndDtUTC     time.Time `gorm:"column:end_dt_utc"`
		StartDtLocal time.Time
		EndDtLocal   time.Time
		Timezone     string
		CreatedAt    time.Time
		UpdatedAt    time.Time
	}

	gormToken struct {
		ID        int64
		UserID    int64
		Token     string
		ExpiresAt time.Time
		UsedAt    *time.Time
		CreatedAt time.Time
		SentTo    *string
	}

	gormMatch struct {
		ID        int64
		User1ID   int64    `gorm:"column:user1_id"`
		User2ID   int64    `gorm:"column:user2_id"`
		User1     gormUser `gorm:"foreignKey:User1ID"`
		User2     gormUser `gorm:"foreignKey:User2ID"`
		Status    string
		CreatedAt time.Time
		UpdatedAt time.Time
	}

	gormMeetup struct {
		ID              int64
		MatchID         int64
		Match           gormMatch `gorm:"foreignKey:MatchID"`
		ScheduledTime   time.Time
		DurationSeconds int64
		ProposerID      int64
		Status          string
		CreatedAt       time.Time
		UpdatedAt       time.Time
	}

	gormBooking struct {
		UserID   int64
		MeetupID int64
		StartsAt time.Time
		EndsAt   time.Time
	}
)

func (gormUser) TableName() string    { return "user" }
func (gormProfile) TableName() string { return "profile" }
func (gormSlot) TableName() string    { return "availabilityslot" }
func (gormToken) TableName() string   { return "emailverificationtoken" }
func (gormMatch) TableName() string   { return "match" }
func (gormMeetup) TableName() string  { return "meetup" }
func (gormBooking) TableName() string { return "soultribe_booking" }

func (u gormUser) user() soultribe.User {
	return viewUser(u.ID, u.Email, u.EmailVerifiedAt, u.CreatedAt, u.CredentialsChangedAt)
}

func (s gormSlot) slot() soultribe.Slot {
	return viewSlot(s.ID, s.UserID, s.StartDtUTC, s.EndDtUTC, s.Timezone, s.CreatedAt, s.UpdatedAt)
}

func (m gormMatch) match() soultribe.Match {
	return viewMatch(m.ID, m.User1ID, m.User2ID, m.Status, m.CreatedAt, m.UpdatedAt)
}

// gormPeer is GORM on its PostgreSQL driver, by models and associations, with its rows read whole. Rules are left
// to the constraints, whose violation is an error of the driver's; it leaves out what the reference does.
type gormPeer struct {
	db  *gorm.DB
	now time.Time
}

// newGORM is GORM as it comes: each write in a transaction. Its driver, pgx, prepares each statement once a connection.
func newGORM(_ context.Context, env environment) (peer, error) {
	return openGORM("GORM", env, gorm.Config{})
}

// newTunedGORM is GORM with the two settings of its page on performance: it keeps prepared statements itself, too, and a write
// is in no transaction of its own.
func newTunedGORM(_ context.Context, env environment) (peer, error) {
	return openGORM("GORM, tuned", env, gorm.Config{PrepareStmt: true, SkipDefaultTransaction: true})
}

func openGORM(name string, env environment, config gorm.Config) (peer, error) {
	config.NowFunc = func() time.Time { return env.now }
	config.Logger = logger.Discard
	db, err := gorm.Open(postgres.Open(env.url), &config)
	if err != nil {
		return peer{}, err
	}
	pool, err := db.DB()
	if err != nil {
		return peer{}, err
	}
	pool.SetMaxOpenConns(poolSize)
	pool.SetMaxIdleConns(poolSize)
	g := gormPeer{db, env.now}
	return peer{
		name: name,
		account: newCall(g.account, func(u *gormUser) any {
			a := soultribe.Account{User: u.user()}
			if p := u.Profile; p != nil {
				a.Profile = viewProfile(p.UserID, p.FullName, p.DisplayName, p.Bio, p.Timezone, p.CreatedAt, p.UpdatedAt)
			}
			return a
		}),
		slots: newCall(g.slots, each(gormSlot.slot)),
		pending: newCall(g.pending, each(func(m gormMatch) soultribe.PendingMatch {
			return soultribe.PendingMatch{Match: m.match(), User1Email: m.User1.Email, User2Email: m.User2.Email}
		})),
		useToken:   newCall(g.useToken, func(u *gormUser) any { return u.user() }),
		createUser: newCall(g.createUser, func(u *gormUser) any { return u.user() }),
		addSlot:    newCall(g.addSlot, func(s *gormSlot) any { return s.slot() }),
		addSlots:   newCall(g.addSlots, each(gormSlot.slot)),
		match:      newCall(g.match, func(m *gormMatch) any { return m.match() }),
		meet: newCall(g.meet, func(m *gormMeetup) any {
			return viewMeetup(m.ID, m.MatchID, m.Match.User1ID, m.Match.User2ID, m.ProposerID, m.ScheduledTime, m.DurationSeconds, m.Status, m.CreatedAt, m.UpdatedAt)
		}),
		mutual:     newCall(g.mutual, same[[]soultribe.Window]),
		candidates: newCall(g.candidates, same[[]soultribe.Candidate]),
		close:      func() { _ = pool.Close() },
	}, nil
}

func (g gormPeer) account(ctx context.Context, email string) (*gormUser, error) {
	var u gormUser
	err := g.db.WithContext(ctx).Joins("Profile").Where(`lower("user".email COLLATE "C") = lower(? COLLATE "C")`, email).Take(&u).Error
	return &u, err
}

func (g gormPeer) slots(ctx context.Context, user soultribe.UserID) ([]gormSlot, error) {
	var list []gormSlot
	err := g.db.WithContext(ctx).Where("user_id = ? AND start_dt_utc > ?", int64(user), g.now).Order("start_dt_utc, id").Limit(pageSize).Find(&list).Error
	return list, err
}

func (g gormPeer) pending(ctx context.Context, _ struct{}) ([]gormMatch, error) {
	var list []gormMatch
	err := g.db.WithContext(ctx).Joins("User1").Joins("User2").Where(`"match".status = ?`, "pending").
		Order(`"match".created_at, "match".id`).Limit(pageSize).Find(&list).Error
	return list, err
}

func (g gormPeer) useToken(ctx context.Context, secret string) (*gormUser, error) {
	var u gormUser
	err := g.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var t gormToken
		used := tx.Model(&t).Clauses(clause.Returning{}).Where("token = ? AND used_at IS NULL AND expires_at > ?", hashSecret(secret), g.now).
			Update("used_at", g.now)
		if used.Error != nil {
			return used.Error
		}
		if used.RowsAffected == 0 {
			return gorm.ErrRecordNotFound
		}
		if err := tx.Model(&gormToken{}).Where("user_id = ? AND used_at IS NULL", t.UserID).Update("used_at", g.now).Error; err != nil {
			return err
		}
		verified := tx.Model(&u).Clauses(clause.Returning{}).Where(`id = ? AND lower(email COLLATE "C") = lower(? COLLATE "C")`, t.UserID, deref(t.SentTo)).
			Update("email_verified_at", gorm.Expr("coalesce(email_verified_at, ?)", g.now))
		if verified.Error == nil && verified.RowsAffected == 0 {
			return gorm.ErrRecordNotFound
		}
		return verified.Error
	})
	return &u, err
}

func (g gormPeer) createUser(ctx context.Context, n newUser) (*gormUser, error) {
	p := n.Profile
	u := gormUser{Email: n.Email, PasswordHash: n.hash, CreatedAt: g.now,
		Profile: &gormProfile{FullName: p.FullName, DisplayName: p.DisplayName, Bio: orNull(p.Bio), Timezone: orNull(p.Timezone), CreatedAt: g.now, UpdatedAt: g.now}}
	var err error
	if g.db.SkipDefaultTransaction {
		// The two belong together.
		err = g.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return tx.Create(&u).Error })
	} else {
		err = g.db.WithContext(ctx).Create(&u).Error
	}
	return &u, err
}

func (g gormPeer) newSlot(user soultribe.UserID, s soultribe.NewSlot) (gormSlot, error) {
	start, end, err := localTimes(s)
	return gormSlot{UserID: int64(user), StartDtUTC: s.Start.UTC(), EndDtUTC: s.End.UTC(), StartDtLocal: start, EndDtLocal: end,
		Timezone: s.Timezone, CreatedAt: g.now, UpdatedAt: g.now}, err
}

func (g gormPeer) addSlot(ctx context.Context, n newSlots) (*gormSlot, error) {
	s, err := g.newSlot(n.user, n.slots[0])
	if err != nil {
		return nil, err
	}
	err = g.db.WithContext(ctx).Create(&s).Error
	return &s, err
}

func (g gormPeer) addSlots(ctx context.Context, n newSlots) ([]gormSlot, error) {
	list := make([]gormSlot, len(n.slots))
	for i, s := range n.slots {
		var err error
		if list[i], err = g.newSlot(n.user, s); err != nil {
			return nil, err
		}
	}
	err := g.db.WithContext(ctx).Create(&list).Error
	return list, err
}

func (g gormPeer) verified(tx *gorm.DB, users ...int64) error {
	var count int64
	err := tx.Model(&gormUser{}).Where("id IN ? AND email_verified_at IS NOT NULL", users).Count(&count).Error
	if err == nil && count < int64(len(users)) {
		return gorm.ErrRecordNotFound
	}
	return err
}

func (g gormPeer) match(ctx context.Context, p pair) (*gormMatch, error) {
	m := gormMatch{User1ID: int64(p.one), User2ID: int64(p.other), Status: "pending", CreatedAt: g.now, UpdatedAt: g.now}
	err := g.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := g.verified(tx, m.User1ID, m.User2ID); err != nil {
			return err
		}
		return tx.Omit(clause.Associations).Create(&m).Error
	})
	if err != nil {
		return nil, err
	}
	accepted := gormMatch{}
	err = g.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := g.verified(tx, m.User1ID, m.User2ID); err != nil {
			return err
		}
		moved := tx.Model(&accepted).Clauses(clause.Returning{}).Where("id = ? AND user2_id = ? AND status = ?", m.ID, int64(p.other), "pending").
			Update("status", "accepted")
		if moved.Error == nil && moved.RowsAffected == 0 {
			return gorm.ErrRecordNotFound
		}
		return moved.Error
	})
	return &accepted, err
}

func (g gormPeer) acceptedMatch(tx *gorm.DB, id, actor int64) (m gormMatch, err error) {
	err = tx.Where("id = ? AND status = ? AND ? IN (user1_id, user2_id)", id, "accepted", actor).Take(&m).Error
	return m, err
}

func (g gormPeer) meet(ctx context.Context, n meeting) (*gormMeetup, error) {
	seconds := int64(n.Duration / time.Second)
	m := gormMeetup{MatchID: int64(n.MatchID), ScheduledTime: n.Start.UTC(), DurationSeconds: seconds, ProposerID: int64(n.one), Status: "proposed",
		CreatedAt: g.now, UpdatedAt: g.now}
	err := g.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if _, err := g.acceptedMatch(tx, m.MatchID, int64(n.one)); err != nil {
			return err
		}
		return tx.Omit(clause.Associations).Create(&m).Error
	})
	if err != nil {
		return nil, err
	}
	var confirmed gormMeetup
	err = g.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		match, err := g.acceptedMatch(tx, m.MatchID, int64(n.other))
		if err != nil {
			return err
		}
		moved := tx.Model(&confirmed).Clauses(clause.Returning{}).
			Where("id = ? AND status = ? AND proposer_id <> ? AND scheduled_time > ? AND scheduled_time = ? AND duration_seconds = ?",
				m.ID, "proposed", int64(n.other), g.now, n.Start.UTC(), seconds).
			Update("status", "confirmed")
		if moved.Error == nil && moved.RowsAffected == 0 {
			return gorm.ErrRecordNotFound
		}
		confirmed.Match = match
		return moved.Error
	})
	return &confirmed, err
}

func (g gormPeer) slotsOf(ctx context.Context, users ...soultribe.UserID) ([]ownedWindow, error) {
	var list []gormSlot
	err := g.db.WithContext(ctx).Where("user_id IN ? AND start_dt_utc < ? AND start_dt_utc > ? AND end_dt_utc > ?",
		users, g.now.Add(horizon), g.now.Add(-maxSpan), g.now).Order("user_id, start_dt_utc").Find(&list).Error
	return convert(list, func(s gormSlot) ownedWindow { return newWindow(s.UserID, s.StartDtUTC, s.EndDtUTC) }), err
}

func (g gormPeer) bookingsOf(ctx context.Context, users ...soultribe.UserID) ([]ownedWindow, error) {
	var list []gormBooking
	err := g.db.WithContext(ctx).Where("user_id IN ? AND starts_at < ? AND ends_at > ?", users, g.now.Add(horizon), g.now).Order("starts_at").Find(&list).Error
	return convert(list, func(b gormBooking) ownedWindow { return newWindow(b.UserID, b.StartsAt, b.EndsAt) }), err
}

func (g gormPeer) mutual(ctx context.Context, p pair) ([]soultribe.Window, error) {
	return mutualByQueries(ctx, p, g.now, g.slotsOf, g.bookingsOf)
}

// candidates is one query per pair.
func (g gormPeer) candidates(ctx context.Context, actor soultribe.UserID) ([]soultribe.Candidate, error) {
	return pairSearch(ctx, actor, g.now, g.others, g.slotsOf, g.bookingsOf)
}

func (g gormPeer) others(ctx context.Context, actor soultribe.UserID) ([]stranger, error) {
	var list []gormUser
	err := g.db.WithContext(ctx).Joins("Profile").
		Where(`"user".id <> ? AND "user".email_verified_at IS NOT NULL`, int64(actor)).
		Where(`NOT EXISTS (?)`, g.db.Model(&gormMatch{}).Select("1").
			Where(`user1_id = ? AND user2_id = "user".id OR user2_id = ? AND user1_id = "user".id`, int64(actor), int64(actor)).
			Where("NOT (status = ? AND updated_at <= ?)", "cancelled", g.now.Add(-24*time.Hour))).
		Find(&list).Error
	return convert(list, func(u gormUser) stranger {
		s := stranger{ID: soultribe.UserID(u.ID)}
		if u.Profile != nil {
			s.DisplayName, s.Timezone = u.Profile.DisplayName, deref(u.Profile.Timezone)
		}
		return s
	}), err
}
