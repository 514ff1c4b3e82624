package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/bench/sqlc"
)

// sqlcPeer is what sqlc generates for pgx of sqlc/queries.sql. Its statements are the reference's, and it leaves out
// what that does; but it has no batches of different queries, and many slots go by arrays. sqlc does not know the
// multiranges of the search for candidates, which is one query per pair.
type sqlcPeer struct {
	queries *sqlc.Queries
	now     time.Time
}

func newSqlc(ctx context.Context, env environment) (peer, error) {
	pool, err := env.pool(ctx, pgx.QueryExecModeCacheStatement)
	if err != nil {
		return peer{}, err
	}
	c := sqlcPeer{sqlc.New(pool), env.now}
	viewOf := func(m sqlc.Match) soultribe.Match {
		return viewMatch(int64(m.ID), int64(m.User1ID), int64(m.User2ID), m.Status, m.CreatedAt, m.UpdatedAt)
	}
	return peer{
		name: "sqlc",
		account: newCall(c.queries.Account, func(a sqlc.AccountRow) any {
			account := soultribe.Account{User: viewUser(int64(a.ID), a.Email, a.EmailVerifiedAt, a.CreatedAt, &a.CredentialsChangedAt)}
			if a.UserID != nil {
				account.Profile = viewProfile(int64(*a.UserID), *a.FullName, *a.DisplayName, a.Bio, a.Timezone, *a.ProfileCreatedAt, *a.ProfileUpdatedAt)
			}
			return account
		}),
		slots: newCall(c.slots, each(func(s sqlc.UpcomingSlotsRow) soultribe.Slot {
			return viewSlot(int64(s.ID), int64(s.UserID), s.StartDtUtc, s.EndDtUtc, s.Timezone, s.CreatedAt, s.UpdatedAt)
		})),
		pending: newCall(c.pending, each(func(m sqlc.PendingMatchesRow) soultribe.PendingMatch {
			match := viewMatch(int64(m.ID), int64(m.User1ID), int64(m.User2ID), m.Status, m.CreatedAt, m.UpdatedAt)
			return soultribe.PendingMatch{Match: match, User1Email: m.User1Email, User2Email: m.User2Email}
		})),
		useToken: newCall(c.useToken, func(u sqlc.UseTokenRow) any {
			return viewUser(int64(u.ID), u.Email, u.EmailVerifiedAt, u.CreatedAt, &u.CredentialsChangedAt)
		}),
		createUser: newCall(c.createUser, func(u sqlc.CreateUserRow) any {
			return viewUser(int64(u.ID), u.Email, u.EmailVerifiedAt, u.CreatedAt, nil)
		}),
		addSlot: newCall(c.addSlot, func(s sqlc.AddSlotRow) any {
			return viewSlot(int64(s.ID), int64(s.UserID), s.StartDtUtc, s.EndDtUtc, s.Timezone, s.CreatedAt, s.UpdatedAt)
		}),
		addSlots: newCall(c.addSlots, each(func(s sqlc.AddSlotsRow) soultribe.Slot {
			return viewSlot(int64(s.ID), int64(s.UserID), s.StartDtUtc, s.EndDtUtc, s.Timezone, s.CreatedAt, s.UpdatedAt)
		})),
		match: newCall(c.match, func(m sqlc.Match) any { return viewOf(m) }),
		meet: newCall(c.meet, func(m sqlc.ConfirmMeetupRow) any {
			return viewMeetup(int64(m.ID), int64(m.MatchID), int64(m.User1ID), int64(m.User2ID), int64(*m.ProposerID),
				m.ScheduledTime, int64(*m.DurationSeconds), m.Status, m.CreatedAt, m.UpdatedAt)
		}),
		mutual:     newCall(c.mutual, same[[]soultribe.Window]),
		candidates: newCall(c.candidates, same[[]soultribe.Candidate]),
		close:      pool.Close,
	}, nil
}

// key is an id as sqlc has it, by the type of the column.
func key[ID ~int64](id ID) int32 { return int32(id) }

func (c sqlcPeer) slots(ctx context.Context, user soultribe.UserID) ([]sqlc.UpcomingSlotsRow, error) {
	return c.queries.UpcomingSlots(ctx, sqlc.UpcomingSlotsParams{UserID: key(user), StartDtUtc: c.now})
}

func (c sqlcPeer) pending(ctx context.Context, _ struct{}) ([]sqlc.PendingMatchesRow, error) {
	return c.queries.PendingMatches(ctx)
}

func (c sqlcPeer) useToken(ctx context.Context, secret string) (sqlc.UseTokenRow, error) {
	return c.queries.UseToken(ctx, sqlc.UseTokenParams{Now: c.now, Token: hashSecret(secret)})
}

func (c sqlcPeer) createUser(ctx context.Context, n newUser) (sqlc.CreateUserRow, error) {
	p := n.Profile
	return c.queries.CreateUser(ctx, sqlc.CreateUserParams{Email: n.Email, PasswordHash: n.hash, Now: c.now,
		FullName: p.FullName, DisplayName: p.DisplayName, Bio: p.Bio, Timezone: p.Timezone})
}

func (c sqlcPeer) addSlot(ctx context.Context, n newSlots) (sqlc.AddSlotRow, error) {
	s := n.slots[0]
	start, end, err := localTimes(s)
	if err != nil {
		return sqlc.AddSlotRow{}, err
	}
	return c.queries.AddSlot(ctx, sqlc.AddSlotParams{UserID: key(n.user), StartDtUtc: s.Start.UTC(), EndDtUtc: s.End.UTC(),
		StartDtLocal: start, EndDtLocal: end, Timezone: s.Timezone, CreatedAt: c.now})
}

func (c sqlcPeer) addSlots(ctx context.Context, n newSlots) ([]sqlc.AddSlotsRow, error) {
	a, err := newSlotArrays(n.slots)
	if err != nil {
		return nil, err
	}
	return c.queries.AddSlots(ctx, sqlc.AddSlotsParams{UserID: key(n.user), Starts: a.starts, Ends: a.ends,
		LocalStarts: a.localStarts, LocalEnds: a.localEnds, Zones: a.zones, Now: c.now})
}

func (c sqlcPeer) match(ctx context.Context, p pair) (sqlc.Match, error) {
	m, err := c.queries.RequestMatch(ctx, sqlc.RequestMatchParams{Now: c.now, Actor: key(p.one), Other: key(p.other)})
	if err != nil {
		return m, err
	}
	return c.queries.AcceptMatch(ctx, sqlc.AcceptMatchParams{Now: c.now, ID: m.ID, Actor: key(p.other)})
}

func (c sqlcPeer) meet(ctx context.Context, m meeting) (sqlc.ConfirmMeetupRow, error) {
	seconds := key(m.Duration / time.Second)
	id, err := c.queries.ProposeMeetup(ctx, sqlc.ProposeMeetupParams{StartsAt: m.Start.UTC(), Seconds: seconds, Actor: key(m.one), Now: c.now, MatchID: key(m.MatchID)})
	if err != nil {
		return sqlc.ConfirmMeetupRow{}, err
	}
	return c.queries.ConfirmMeetup(ctx, sqlc.ConfirmMeetupParams{Now: c.now, ID: id, Actor: key(m.other), StartsAt: m.Start.UTC(), Seconds: seconds})
}

// slotsOf takes one person or two.
func (c sqlcPeer) slotsOf(ctx context.Context, users ...soultribe.UserID) ([]ownedWindow, error) {
	list, err := c.queries.SlotsOfTwo(ctx, sqlc.SlotsOfTwoParams{One: key(users[0]), Other: key(users[len(users)-1]),
		Until: c.now.Add(horizon), Earliest: c.now.Add(-maxSpan), Since: c.now})
	return convert(list, func(s sqlc.SlotsOfTwoRow) ownedWindow { return newWindow(int64(s.UserID), s.StartDtUtc, s.EndDtUtc) }), err
}

func (c sqlcPeer) bookingsOf(ctx context.Context, users ...soultribe.UserID) ([]ownedWindow, error) {
	list, err := c.queries.BookingsOfTwo(ctx, sqlc.BookingsOfTwoParams{One: key(users[0]), Other: key(users[len(users)-1]),
		Until: c.now.Add(horizon), Since: c.now})
	return convert(list, func(b sqlc.BookingsOfTwoRow) ownedWindow { return newWindow(int64(b.UserID), b.StartsAt, b.EndsAt) }), err
}

func (c sqlcPeer) mutual(ctx context.Context, p pair) ([]soultribe.Window, error) {
	return mutualByQueries(ctx, p, c.now, c.slotsOf, c.bookingsOf)
}

// candidates is one query per pair.
func (c sqlcPeer) candidates(ctx context.Context, actor soultribe.UserID) ([]soultribe.Candidate, error) {
	return pairSearch(ctx, actor, c.now, c.others, c.slotsOf, c.bookingsOf)
}

func (c sqlcPeer) others(ctx context.Context, actor soultribe.UserID) ([]stranger, error) {
	list, err := c.queries.Others(ctx, sqlc.OthersParams{Actor: key(actor), Cancelled: c.now.Add(-24 * time.Hour)})
	return convert(list, func(s sqlc.OthersRow) stranger {
		return stranger{soultribe.UserID(s.ID), s.DisplayName, s.Timezone}
	}), err
}
