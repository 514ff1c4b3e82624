package soultribe

import (
	"context"
	"errors"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/Masterminds/squirrel"
)

// UserQuery selects accounts, in the order of their ids.
type UserQuery struct {
	EmailPrefix string // in any ASCII case; "" means all
	Verified    *bool  // nil means both
	Limit       int    // see [PageQuery]
	After       Cursor
}

// PendingMatch is a pending match with the addresses of both people.
type PendingMatch struct {
	Match
	User1Email string `json:"user1_email"`
	User2Email string `json:"user2_email"`
}

// AdminStore crosses people: it is for operators and jobs, not for handlers.
type AdminStore interface {
	// Users returns accounts in the order of their ids.
	Users(ctx context.Context, q UserQuery) (Page[User], error)
	// Accounts returns those of the accounts that exist, with their profiles. It takes 1,000 ids at
	// most; more is ErrInvalid.
	Accounts(ctx context.Context, ids []UserID) (map[UserID]Account, error)
	// PendingMatches returns all pending matches with both people's addresses, the oldest first.
	PendingMatches(ctx context.Context, q PageQuery) (Page[PendingMatch], error)
	// ScanMatches returns the matches of all people, newest first. Role has no meaning in it.
	ScanMatches(ctx context.Context, q MatchQuery) (Page[Match], error)
	// ScanMeetups returns the meetups of all people.
	ScanMeetups(ctx context.Context, q MeetupQuery) (Page[Meetup], error)
	// SetPassword sets a password without asking for the present one, kills every password reset and
	// change of address under way, and moves CredentialsChangedAt. It returns ErrInvalid for a password that breaks the rules of
	// NewUser, and ErrNotFound.
	SetPassword(ctx context.Context, id UserID, password string) error
	// MarkVerified says that the user's address is verified. One that is keeps its EmailVerifiedAt. It
	// returns ErrNotFound where there is no such user.
	MarkVerified(ctx context.Context, id UserID) error
}

type adminStatements struct {
	accounts, pendingMatches, markVerified statement
}

func newAdminStatements(t tables) adminStatements {
	return adminStatements{
		accounts: compile("Accounts", squirrel.Select(userColumns, profileColumns).From(t.user+" u").
			LeftJoin(t.profile+" p ON p.user_id = u.id").Where("u.id = ANY($1::bigint[])")),
		pendingMatches: compile("PendingMatches", squirrel.Select(columns("m", matchColumns), "u1.email", "u2.email").From(t.match+" m").
			Join(t.user+" u1 ON u1.id = m.user1_id").Join(t.user+" u2 ON u2.id = m.user2_id").
			Where("m.status = 'pending' AND (m.created_at, m.id) > ($1::timestamp, $2::bigint)").
			OrderBy("m.created_at", "m.id").Suffix("LIMIT $3::bigint")),
		markVerified: compile("MarkVerified", squirrel.Update(t.user).
			Set("email_verified_at", squirrel.Expr("coalesce(email_verified_at, $2::timestamp)")).
			Where("id = $1::bigint").Suffix("RETURNING id")),
	}
}

func scanPendingMatch(r *rowReader) (PendingMatch, place) {
	m, at := scanListedMatch(r)
	return PendingMatch{Match: m, User1Email: r.text(), User2Email: r.text()}, at
}

// likePrefix escapes what has a meaning in a LIKE pattern.
var likePrefix = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// prefixRange is where the index on addresses has those with a prefix: from first on, and before beyond. A plan for any
// values does not know the prefix of LIKE, and would look at everybody. It goes as far as the prefix is ASCII, the
// letters of which alone the index folds.
func prefixRange(prefix string) (first, beyond string, ok bool) {
	if end := strings.IndexFunc(prefix, func(r rune) bool { return r >= utf8.RuneSelf }); end >= 0 {
		prefix = prefix[:end]
	}
	if prefix == "" {
		return "", "", false
	}
	first = strings.ToLower(prefix)
	last := len(first) - 1
	return first, first[:last] + string(rune(first[last]+1)), true
}

// Users implements [AdminStore].
func (p *Postgres) Users(ctx context.Context, q UserQuery) (Page[User], error) {
	const op = "Users"
	limit, errLimit := pageLimit(q.Limit)
	verified := "any"
	if q.Verified != nil {
		verified = map[bool]string{true: "yes", false: "no"}[*q.Verified]
	}
	key := newListKey(op, q.EmailPrefix, verified)
	var id int64
	later, errCursor := key.decode(q.After, &id)
	var errPrefix error
	if len(q.EmailPrefix) > maxEmailBytes || !storable(q.EmailPrefix) {
		errPrefix = invalid("email_prefix", "cannot begin an address")
	}
	if err := errors.Join(errLimit, errCursor, errPrefix); err != nil {
		return Page[User]{}, opError(op, err)
	}
	list := squirrel.Select(userColumns).From(p.sql.lists.user + " u")
	if q.EmailPrefix != "" {
		list = list.Where(`lower(u.email COLLATE "C") LIKE lower(?::text COLLATE "C")`, likePrefix.Replace(q.EmailPrefix)+"%")
		if first, beyond, ok := prefixRange(q.EmailPrefix); ok {
			list = list.Where(`lower(u.email COLLATE "C") >= ?::text AND lower(u.email COLLATE "C") < ?::text`, first, beyond)
		}
	}
	if q.Verified != nil {
		list = list.Where("(u.email_verified_at IS NOT NULL) = ?::boolean", *q.Verified)
	}
	if later {
		list = list.Where("u.id > ?::bigint", id)
	}
	rows, err := queryList(ctx, p, op, list.OrderBy("u.id").Suffix("LIMIT ?::bigint", limit+1), limit+1, scanUser)
	return newPage(rows, limit, func(u User) Cursor { return key.encode(int64(u.ID)) }), err
}

// Accounts implements [AdminStore].
func (p *Postgres) Accounts(ctx context.Context, ids []UserID) (map[UserID]Account, error) {
	list, err := idList(ids)
	if err != nil {
		return nil, opError("Accounts", err)
	}
	accounts, err := queryAll(ctx, p, "Accounts", p.sql.accounts, scanAccount, list)
	if err != nil {
		return nil, err
	}
	byID := make(map[UserID]Account, len(accounts))
	for _, a := range accounts {
		byID[a.User.ID] = a
	}
	return byID, nil
}

// PendingMatches implements [AdminStore].
func (p *Postgres) PendingMatches(ctx context.Context, q PageQuery) (Page[PendingMatch], error) {
	const op = "PendingMatches"
	limit, err := pageLimit(q.Limit)
	key := newListKey(op)
	created, id := int64(math.MinInt64), int64(0)
	_, errCursor := key.decode(q.After, &created, &id)
	after, errTime := listedTime(created)
	if err := errors.Join(err, errCursor, errTime); err != nil {
		return Page[PendingMatch]{}, opError(op, err)
	}
	var last place
	rows, err := queryUpTo(ctx, p, op, p.sql.pendingMatches, limit+1, untilLast(limit, &last, scanPendingMatch), after, id, limit+1)
	return newListedPage(rows, limit, last, key), err
}

// ScanMatches implements [AdminStore].
func (p *Postgres) ScanMatches(ctx context.Context, q MatchQuery) (Page[Match], error) {
	q.Role = EitherSide
	return p.matches(ctx, "ScanMatches", everyone, q)
}

// ScanMeetups implements [AdminStore].
func (p *Postgres) ScanMeetups(ctx context.Context, q MeetupQuery) (Page[Meetup], error) {
	return p.meetups(ctx, "ScanMeetups", everyone, q)
}

// SetPassword implements [AdminStore].
func (p *Postgres) SetPassword(ctx context.Context, id UserID, password string) error {
	const op = "SetPassword"
	if err := errors.Join(checkID("user_id", id), checkNewPassword(password)); err != nil {
		return opError(op, err)
	}
	hash, err := p.hasher.hash(ctx, password)
	if err != nil {
		return opError(op, err)
	}
	return p.setPassword(ctx, op, id, hash, nil)
}

// MarkVerified implements [AdminStore].
func (p *Postgres) MarkVerified(ctx context.Context, id UserID) error {
	const op = "MarkVerified"
	if err := checkID("user_id", id); err != nil {
		return opError(op, err)
	}
	_, err := queryOne(ctx, p, op, p.sql.markVerified, (*rowReader).integer, int64(id), timestamp(p.now()))
	return err
}
