package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/bench/ent"
	"github.com/soultribe-chat/soultribe/bench/ent/booking"
	"github.com/soultribe-chat/soultribe/bench/ent/match"
	"github.com/soultribe-chat/soultribe/bench/ent/meetup"
	"github.com/soultribe-chat/soultribe/bench/ent/predicate"
	"github.com/soultribe-chat/soultribe/bench/ent/profile"
	"github.com/soultribe-chat/soultribe/bench/ent/slot"
	"github.com/soultribe-chat/soultribe/bench/ent/user"
	"github.com/soultribe-chat/soultribe/bench/ent/verification"
)

// entPeer is ent on pgx by way of database/sql, as its documentation has it, by its generated code alone. It loads a
// profile and the people of matches by queries of their own, which is how ent loads edges. Rules are left to the
// constraints, whose violation is an error of the driver's; it leaves out what the reference does.
type entPeer struct {
	client *ent.Client
	now    time.Time
}

func newEnt(_ context.Context, env environment) (peer, error) {
	db, err := sql.Open("pgx", env.url)
	if err != nil {
		return peer{}, err
	}
	db.SetMaxOpenConns(poolSize)
	db.SetMaxIdleConns(poolSize)
	e := entPeer{ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, db))), env.now}
	return peer{
		name: "ent",
		account: newCall(e.account, func(a entAccount) any {
			account := soultribe.Account{User: entUser(a.user)}
			if p := a.profile; p != nil {
				account.Profile = viewProfile(p.ID, p.FullName, p.DisplayName, p.Bio, p.Timezone, p.CreatedAt, p.UpdatedAt)
			}
			return account
		}),
		slots: newCall(e.slots, each(entSlot)),
		pending: newCall(e.pending, each(func(m *ent.Match) soultribe.PendingMatch {
			return soultribe.PendingMatch{Match: entMatch(m), User1Email: m.Edges.User1.Email, User2Email: m.Edges.User2.Email}
		})),
		useToken:   newCall(e.useToken, func(u *ent.User) any { return entUser(u) }),
		createUser: newCall(e.createUser, func(u *ent.User) any { return entUser(u) }),
		addSlot:    newCall(e.addSlot, func(s *ent.Slot) any { return entSlot(s) }),
		addSlots:   newCall(e.addSlots, each(entSlot)),
		match:      newCall(e.match, func(m *ent.Match) any { return entMatch(m) }),
		meet: newCall(e.meet, func(m *ent.Meetup) any {
			return viewMeetup(m.ID, m.MatchID, m.Edges.Match.User1ID, m.Edges.Match.User2ID, *m.ProposerID, m.ScheduledTime, *m.DurationSeconds, m.Status,
				m.CreatedAt, m.UpdatedAt)
		}),
		mutual:     newCall(e.mutual, same[[]soultribe.Window]),
		candidates: newCall(e.candidates, same[[]soultribe.Candidate]),
		close:      func() { _ = db.Close() },
	}, nil
}

// The driver registers itself by the import.
var _ = stdlib.GetDefaultDriver

type entAccount struct {
	user    *ent.User
	profile *ent.Profile
}

func entUser(u *ent.User) soultribe.User {
	return viewUser(u.ID, u.Email, u.EmailVerifiedAt, u.CreatedAt, u.CredentialsChangedAt)
}

func entSlot(s *ent.Slot) soultribe.Slot {
	return viewSlot(s.ID, s.UserID, s.StartDtUtc, s.EndDtUtc, s.Timezone, s.CreatedAt, s.UpdatedAt)
}

func entMatch(m *ent.Match) soultribe.Match {
	return viewMatch(m.ID, m.User1ID, m.User2ID, m.Status, m.CreatedAt, m.UpdatedAt)
}

// sameAddress compares addresses as their unique index does.
func sameAddress(email string) predicate.User {
	return func(s *entsql.Selector) {
		s.Where(entsql.P(func(b *entsql.Builder) {
			b.WriteString("lower(").Ident(s.C(user.FieldEmail)).WriteString(` COLLATE "C") = lower(`).Arg(email).WriteString(` COLLATE "C")`)
		}))
	}
}

func (e entPeer) account(ctx context.Context, email string) (a entAccount, err error) {
	if a.user, err = e.client.User.Query().Where(sameAddress(email)).Only(ctx); err != nil {
		return a, err
	}
	a.profile, err = e.client.Profile.Query().Where(profile.ID(a.user.ID)).Only(ctx)
	if ent.IsNotFound(err) {
		err = nil
	}
	return a, err
}

func (e entPeer) slots(ctx context.Context, id soultribe.UserID) ([]*ent.Slot, error) {
	return e.client.Slot.Query().Where(slot.UserID(int64(id)), slot.StartDtUtcGT(e.now)).
		Order(slot.ByStartDtUtc(), slot.ByID()).Limit(pageSize).All(ctx)
}

func (e entPeer) pending(ctx context.Context, _ struct{}) ([]*ent.Match, error) {
	return e.client.Match.Query().Where(match.Status("pending")).WithUser1().WithUser2().
		Order(match.ByCreatedAt(), match.ByID()).Limit(pageSize).All(ctx)
}

// inTransaction is the helper of ent's documentation.
func (e entPeer) inTransaction(ctx context.Context, fn func(tx *ent.Tx) error) error {
	tx, err := e.client.Tx(ctx)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

var errNoRow = errors.New("no row")

// changed is an error unless an update found its one row.
func changed(n int, err error) error {
	if err == nil && n != 1 {
		err = errNoRow
	}
	return err
}

func (e entPeer) useToken(ctx context.Context, secret string) (u *ent.User, err error) {
	err = e.inTransaction(ctx, func(tx *ent.Tx) error {
		t, err := tx.Verification.Query().Where(verification.Token(hashSecret(secret))).Only(ctx)
		if err != nil {
			return err
		}
		if err := changed(tx.Verification.Update().Where(verification.ID(t.ID), verification.UsedAtIsNil(), verification.ExpiresAtGT(e.now)).
			SetUsedAt(e.now).Save(ctx)); err != nil {
			return err
		}
		if err := tx.Verification.Update().Where(verification.UserID(t.UserID), verification.UsedAtIsNil()).SetUsedAt(e.now).Exec(ctx); err != nil {
			return err
		}
		if u, err = tx.User.Query().Where(user.ID(t.UserID), sameAddress(deref(t.SentTo))).Only(ctx); err != nil || u.EmailVerifiedAt != nil {
			return err
		}
		u, err = u.Update().SetEmailVerifiedAt(e.now).Save(ctx)
		return err
	})
	return u, err
}

func (e entPeer) createUser(ctx context.Context, n newUser) (u *ent.User, err error) {
	p := n.Profile
	err = e.inTransaction(ctx, func(tx *ent.Tx) error {
		if u, err = tx.User.Create().SetEmail(n.Email).SetPasswordHash(n.hash).SetCreatedAt(e.now).Save(ctx); err != nil {
			return err
		}
		return tx.Profile.Create().SetID(u.ID).SetFullName(p.FullName).SetDisplayName(p.DisplayName).
			SetNillableBio(orNull(p.Bio)).SetNillableTimezone(orNull(p.Timezone)).SetCreatedAt(e.now).SetUpdatedAt(e.now).Exec(ctx)
	})
	return u, err
}

func (e entPeer) newSlot(id soultribe.UserID, s soultribe.NewSlot) (*ent.SlotCreate, error) {
	start, end, err := localTimes(s)
	return e.client.Slot.Create().SetUserID(int64(id)).SetStartDtUtc(s.Start.UTC()).SetEndDtUtc(s.End.UTC()).SetStartDtLocal(start).SetEndDtLocal(end).
		SetTimezone(s.Timezone).SetCreatedAt(e.now).SetUpdatedAt(e.now), err
}

func (e entPeer) addSlot(ctx context.Context, n newSlots) (*ent.Slot, error) {
	s, err := e.newSlot(n.user, n.slots[0])
	if err != nil {
		return nil, err
	}
	return s.Save(ctx)
}

func (e entPeer) addSlots(ctx context.Context, n newSlots) ([]*ent.Slot, error) {
	list := make([]*ent.SlotCreate, len(n.slots))
	for i, s := range n.slots {
		var err error
		if list[i], err = e.newSlot(n.user, s); err != nil {
			return nil, err
		}
	}
	return e.client.Slot.CreateBulk(list...).Save(ctx)
}

func (e entPeer) verified(ctx context.Context, tx *ent.Tx, users ...int64) error {
	n, err := tx.User.Query().Where(user.IDIn(users...), user.EmailVerifiedAtNotNil()).Count(ctx)
	if err == nil && n < len(users) {
		err = errNoRow
	}
	return err
}

func (e entPeer) match(ctx context.Context, p pair) (m *ent.Match, err error) {
	one, other := int64(p.one), int64(p.other)
	err = e.inTransaction(ctx, func(tx *ent.Tx) error {
		if err := e.verified(ctx, tx, one, other); err != nil {
			return err
		}
		m, err = tx.Match.Create().SetUser1ID(one).SetUser2ID(other).SetStatus("pending").SetCreatedAt(e.now).SetUpdatedAt(e.now).Save(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = e.inTransaction(ctx, func(tx *ent.Tx) error {
		if err := e.verified(ctx, tx, one, other); err != nil {
			return err
		}
		m, err = tx.Match.UpdateOneID(m.ID).Where(match.User2ID(other), match.Status("pending")).SetStatus("accepted").SetUpdatedAt(e.now).Save(ctx)
		return err
	})
	return m, err
}

func (e entPeer) acceptedMatch(ctx context.Context, tx *ent.Tx, id, actor int64) (*ent.Match, error) {
	return tx.Match.Query().Where(match.ID(id), match.Status("accepted"), match.Or(match.User1ID(actor), match.User2ID(actor))).Only(ctx)
}

func (e entPeer) meet(ctx context.Context, n meeting) (m *ent.Meetup, err error) {
	id, seconds := int64(n.MatchID), int64(n.Duration/time.Second)
	err = e.inTransaction(ctx, func(tx *ent.Tx) error {
		if _, err := e.acceptedMatch(ctx, tx, id, int64(n.one)); err != nil {
			return err
		}
		m, err = tx.Meetup.Create().SetMatchID(id).SetScheduledTime(n.Start.UTC()).SetDurationSeconds(seconds).SetProposerID(int64(n.one)).
			SetStatus("proposed").SetCreatedAt(e.now).SetUpdatedAt(e.now).Save(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = e.inTransaction(ctx, func(tx *ent.Tx) error {
		accepted, err := e.acceptedMatch(ctx, tx, id, int64(n.other))
		if err != nil {
			return err
		}
		m, err = tx.Meetup.UpdateOneID(m.ID).Where(meetup.Status("proposed"), meetup.ProposerIDNEQ(int64(n.other)), meetup.ScheduledTimeGT(e.now),
			meetup.ScheduledTime(n.Start.UTC()), meetup.DurationSeconds(seconds)).SetStatus("confirmed").SetUpdatedAt(e.now).Save(ctx)
		if err == nil {
			m.Edges.Match = accepted
		}
		return err
	})
	return m, err
}

func (e entPeer) slotsOf(ctx context.Context, users ...soultribe.UserID) ([]ownedWindow, error) {
	list, err := e.client.Slot.Query().Where(slot.UserIDIn(convert(users, userID)...), slot.StartDtUtcLT(e.now.Add(horizon)),
		slot.StartDtUtcGT(e.now.Add(-maxSpan)), slot.EndDtUtcGT(e.now)).Order(slot.ByUserID(), slot.ByStartDtUtc()).All(ctx)
	return convert(list, func(s *ent.Slot) ownedWindow { return newWindow(s.UserID, s.StartDtUtc, s.EndDtUtc) }), err
}

func userID(id soultribe.UserID) int64 { return int64(id) }

func (e entPeer) bookingsOf(ctx context.Context, users ...soultribe.UserID) ([]ownedWindow, error) {
	list, err := e.client.Booking.Query().Where(booking.UserIDIn(convert(users, userID)...), booking.StartsAtLT(e.now.Add(horizon)), booking.EndsAtGT(e.now)).
		Order(booking.ByStartsAt()).All(ctx)
	return convert(list, func(b *ent.Booking) ownedWindow { return newWindow(b.UserID, b.StartsAt, b.EndsAt) }), err
}

func (e entPeer) mutual(ctx context.Context, p pair) ([]soultribe.Window, error) {
	return mutualByQueries(ctx, p, e.now, e.slotsOf, e.bookingsOf)
}

// candidates is one query per pair.
func (e entPeer) candidates(ctx context.Context, actor soultribe.UserID) ([]soultribe.Candidate, error) {
	return pairSearch(ctx, actor, e.now, e.others, e.slotsOf, e.bookingsOf)
}

func (e entPeer) others(ctx context.Context, actor soultribe.UserID) ([]stranger, error) {
	id := int64(actor)
	matches, err := e.client.Match.Query().Where(match.Or(match.User1ID(id), match.User2ID(id)),
		match.Not(match.And(match.Status("cancelled"), match.UpdatedAtLTE(e.now.Add(-24*time.Hour))))).All(ctx)
	if err != nil {
		return nil, err
	}
	left := []int64{id}
	for _, m := range matches {
		left = append(left, m.User1ID, m.User2ID)
	}
	users, err := e.client.User.Query().Where(user.EmailVerifiedAtNotNil(), user.IDNotIn(left...)).All(ctx)
	if err != nil {
		return nil, err
	}
	profiles, err := e.client.Profile.Query().Where(profile.IDIn(convert(users, func(u *ent.User) int64 { return u.ID })...)).All(ctx)
	if err != nil {
		return nil, err
	}
	byUser := make(map[int64]*ent.Profile, len(profiles))
	for _, p := range profiles {
		byUser[p.ID] = p
	}
	return convert(users, func(u *ent.User) stranger {
		s := stranger{ID: soultribe.UserID(u.ID)}
		if p := byUser[u.ID]; p != nil {
			s.DisplayName, s.Timezone = p.DisplayName, deref(p.Timezone)
		}
		return s
	}), nil
}
