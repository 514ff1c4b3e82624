package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

// library is soultribe with its defaults.
type library struct{ store *soultribe.Postgres }

func newLibrary(ctx context.Context, env environment) (peer, error) {
	pool, err := env.pool(ctx, pgx.QueryExecModeCacheStatement)
	if err != nil {
		return peer{}, err
	}
	store, err := soultribe.New(pool, soultribe.WithClock(func() time.Time { return env.now }))
	if err != nil {
		return peer{}, err
	}
	l := library{store}
	return peer{
		name:       nameLibrary,
		account:    newCall(store.AccountByEmail, same[soultribe.Account]),
		slots:      newCall(l.slots, items[soultribe.Slot]),
		pending:    newCall(l.pending, items[soultribe.PendingMatch]),
		useToken:   newCall(store.VerifyEmail, same[soultribe.User]),
		createUser: newCall(l.createUser, same[soultribe.User]),
		addSlot:    newCall(l.addSlot, same[soultribe.Slot]),
		addSlots:   newCall(l.addSlots, same[[]soultribe.Slot]),
		match:      newCall(l.match, func(r soultribe.MatchResult) any { return r.Match }),
		meet:       newCall(l.meet, func(r soultribe.MeetupResult) any { return r.Meetup }),
		mutual:     newCall(l.mutual, same[[]soultribe.Window]),
		candidates: newCall(l.candidates, items[soultribe.Candidate]),
		close:      pool.Close,
	}, nil
}

func items[T any](p soultribe.Page[T]) any { return p.Items }

func (l library) slots(ctx context.Context, user soultribe.UserID) (soultribe.Page[soultribe.Slot], error) {
	return l.store.Slots(ctx, user, soultribe.SlotQuery{})
}

func (l library) pending(ctx context.Context, _ struct{}) (soultribe.Page[soultribe.PendingMatch], error) {
	return l.store.PendingMatches(ctx, soultribe.PageQuery{})
}

func (l library) createUser(ctx context.Context, u newUser) (soultribe.User, error) {
	return l.store.CreateUser(ctx, u.NewUser)
}

func (l library) addSlot(ctx context.Context, n newSlots) (soultribe.Slot, error) {
	return l.store.AddSlot(ctx, n.user, n.slots[0])
}

func (l library) addSlots(ctx context.Context, n newSlots) ([]soultribe.Slot, error) {
	return l.store.AddSlots(ctx, n.user, n.slots)
}

func (l library) match(ctx context.Context, p pair) (soultribe.MatchResult, error) {
	m, err := l.store.RequestMatch(ctx, p.one, p.other)
	if err != nil {
		return m, err
	}
	return l.store.AcceptMatch(ctx, p.other, m.ID)
}

func (l library) meet(ctx context.Context, m meeting) (soultribe.MeetupResult, error) {
	r, err := l.store.ProposeMeetup(ctx, m.one, m.NewMeetup)
	if err != nil {
		return r, err
	}
	return l.store.ConfirmMeetup(ctx, m.other, r.ID, r.Times)
}

func (l library) mutual(ctx context.Context, p pair) ([]soultribe.Window, error) {
	return l.store.MutualAvailability(ctx, p.one, p.other, soultribe.MutualQuery{})
}

func (l library) candidates(ctx context.Context, actor soultribe.UserID) (soultribe.Page[soultribe.Candidate], error) {
	return l.store.Candidates(ctx, actor, soultribe.CandidateQuery{})
}
