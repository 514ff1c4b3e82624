package main

import (
	"context"
	"fmt"
	"time"

	"github.com/soultribe-chat/soultribe"
)

// maxRuns is how often an operation runs at most between two preparations.
const maxRuns = 2000

// operation is one thing that every peer does.
type operation struct {
	name   string
	tables string                   // what it writes, for VACUUM; "" for an operation that only reads
	clean  func(d *database) string // SQL that removes what it wrote
	state  func(d *database) string // a query for all that it wrote, as one text
	has    func(p peer) bool

	// prepare makes the inputs of n runs, and whatever rows those need.
	prepare func(ctx context.Context, d *database, p peer, n int) (prepared, error)
}

// prepared are the runs of one operation by one peer, by their number.
type prepared struct {
	run  func(ctx context.Context, i int) error
	view func(ctx context.Context, i int) (any, error)
}

// writes says what an operation changes.
type writes struct {
	tables       string
	clean, state func(d *database) string
}

func newOperation[In any](name string, of func(p peer) call[In], inputs func(ctx context.Context, d *database, n int) ([]In, error), w writes) operation {
	return operation{
		name: name, tables: w.tables, clean: w.clean, state: w.state,
		has: func(p peer) bool { return of(p).run != nil },
		prepare: func(ctx context.Context, d *database, p peer, n int) (prepared, error) {
			in, err := inputs(ctx, d, n)
			c := of(p)
			return prepared{
				run:  func(ctx context.Context, i int) error { return c.run(ctx, in[i%len(in)]) },
				view: func(ctx context.Context, i int) (any, error) { return c.view(ctx, in[i%len(in)]) },
			}, err
		},
	}
}

// list makes inputs that need no rows.
func list[In any](input func(d *database, i int) In) func(context.Context, *database, int) ([]In, error) {
	return func(_ context.Context, d *database, n int) ([]In, error) {
		in := make([]In, n)
		for i := range in {
			in[i] = input(d, i)
		}
		return in, nil
	}
}

// The names of the operations of which more is said elsewhere.
const (
	opAccount    = "user + profile by e-mail"
	opSlots      = "50 upcoming slots"
	opPending    = "50 pending matches with e-mails"
	opUseToken   = "use a token"
	opCreateUser = "create user + profile"
	opAddSlot    = "1 slot"
	opAddSlots   = "100 slots"
	opMatch      = "request + accept a match"
	opMeet       = "propose + confirm a meetup"
	opCandidates = "page of candidates"
)

func operations() []operation {
	rows := func(table string) func(d *database) string {
		return func(d *database) string {
			last := map[string]int64{"availabilityslot": d.lastSlot, "match": d.lastMatch}[table]
			return fmt.Sprintf("SELECT coalesce(json_agg(x ORDER BY x.id), '[]')::text FROM %s x WHERE x.id > %d", table, last)
		}
	}
	reset := func(table string) func(d *database) string {
		return func(d *database) string { return d.reset(table) }
	}
	slots := writes{"availabilityslot", reset("availabilityslot"), rows("availabilityslot")}
	return []operation{
		newOperation(opAccount, func(p peer) call[string] { return p.account },
			list(func(d *database, i int) string { return emailOf(1 + i%d.people) }), writes{}),
		newOperation(opSlots, func(p peer) call[soultribe.UserID] { return p.slots },
			list(func(_ *database, i int) soultribe.UserID { return soultribe.UserID(1 + i%readers) }), writes{}),
		newOperation(opPending, func(p peer) call[struct{}] { return p.pending },
			list(func(*database, int) struct{} { return struct{}{} }), writes{}),
		newOperation(opUseToken, func(p peer) call[string] { return p.useToken }, tokens, writes{
			`emailverificationtoken, "user"`,
			func(d *database) string {
				return d.reset("emailverificationtoken") + fmt.Sprintf(`UPDATE "user" SET email_verified_at = NULL WHERE email_verified_at >= '%s'`,
					epoch.Format(time.DateTime))
			},
			func(d *database) string {
				return fmt.Sprintf(`SELECT (SELECT json_agg((t.user_id, t.token, t.used_at) ORDER BY t.token)::text FROM emailverificationtoken t WHERE t.id > %d) ||
					(SELECT json_agg((u.id, u.email_verified_at) ORDER BY u.id)::text FROM "user" u WHERE u.email_verified_at >= '%s')`, d.lastToken, epoch.Format(time.DateTime))
			},
		}),
		newOperation(opCreateUser, func(p peer) call[newUser] { return p.createUser },
			list(func(d *database, i int) newUser {
				return newUser{soultribe.NewUser{Email: fmt.Sprintf("new%d@example.org", i), Hash: d.hash, Profile: &soultribe.NewProfile{
					FullName: "New Person", DisplayName: "new", Bio: []string{"", "Has just come."}[i%2], Timezone: timezones[i%len(timezones)],
				}}, d.stored}
			}), writes{
				`"user", profile`,
				func(d *database) string {
					return fmt.Sprintf("DELETE FROM profile WHERE user_id > %d; ", d.lastUser) + d.reset("user")
				},
				func(d *database) string {
					return fmt.Sprintf(`SELECT coalesce(json_agg(ARRAY[to_json(u), to_json(p)] ORDER BY u.id), '[]')::text FROM "user" u
						LEFT JOIN profile p ON p.user_id = u.id WHERE u.id > %d`, d.lastUser)
				},
			}),
		newOperation(opAddSlot, func(p peer) call[newSlots] { return p.addSlot },
			list(func(d *database, i int) newSlots { return d.newSlots(i, 1) }), slots),
		newOperation(opAddSlots, func(p peer) call[newSlots] { return p.addSlots },
			list(func(d *database, i int) newSlots { return d.newSlots(i, 100) }), slots),
		newOperation(opMatch, func(p peer) call[pair] { return p.match },
			list((*database).writerPair), writes{"match", reset("match"), rows("match")}),
		newOperation(opMeet, func(p peer) call[meeting] { return p.meet }, meetings, writes{
			"match, meetup, soultribe_booking",
			func(d *database) string { return d.reset("meetup") + d.reset("match") },
			func(d *database) string {
				return fmt.Sprintf(`SELECT coalesce(json_agg(ARRAY[to_json(mt), to_json(b)] ORDER BY mt.id, b.user_id), '[]')::text
					FROM meetup mt LEFT JOIN soultribe_booking b ON b.meetup_id = mt.id WHERE mt.id > %d`, d.lastMeetup)
			},
		}),
		newOperation("mutual time of two", func(p peer) call[pair] { return p.mutual },
			list(func(d *database, i int) pair {
				i %= d.people - 1
				return pair{soultribe.UserID(1 + i), soultribe.UserID(2 + i)}
			}), writes{}),
		newOperation(opCandidates, func(p peer) call[soultribe.UserID] { return p.candidates },
			list(func(_ *database, i int) soultribe.UserID { return soultribe.UserID(1 + i%askers) }), writes{}),
	}
}

// newSlots are count slots of a writer, which overlap none of those of another i.
func (d *database) newSlots(i, count int) newSlots {
	first := epoch.Add(24*time.Hour + time.Duration(i/writers*count)*time.Hour)
	n := newSlots{d.writer(i), make([]soultribe.NewSlot, count)}
	for k := range n.slots {
		start := first.Add(time.Duration(k) * time.Hour)
		n.slots[k] = soultribe.NewSlot{Start: start, End: start.Add(30 * time.Minute), Timezone: timezones[i%len(timezones)]}
	}
	return n
}

// tokens gives each of n newcomers a secret, and another that dies with it.
func tokens(ctx context.Context, d *database, n int) ([]string, error) {
	if n > newcomers {
		return nil, fmt.Errorf("%d tokens for %d newcomers", n, newcomers)
	}
	secrets := make([]string, n)
	var users []int
	var stored []string
	for i := range secrets {
		secrets[i] = secret(2 * i)
		users = append(users, d.people+1+i, d.people+1+i)
		stored = append(stored, hashSecret(secrets[i]), hashSecret(secret(2*i+1)))
	}
	_, err := d.pool.Exec(ctx, `INSERT INTO emailverificationtoken (user_id, token, expires_at, created_at, sent_to)
SELECT u.id, t.token, $3, $4, u.email FROM unnest($1::integer[], $2::text[]) WITH ORDINALITY AS t (user_id, token, place)
JOIN "user" u ON u.id = t.user_id ORDER BY t.place`, users, stored, epoch.Add(time.Hour), epoch)
	return secrets, err
}

// meetings makes n accepted matches.
func meetings(ctx context.Context, d *database, n int) ([]meeting, error) {
	list := make([]meeting, n)
	ones, others := make([]int64, n), make([]int64, n)
	for i := range list {
		list[i].pair = d.writerPair(i)
		list[i].NewMeetup = soultribe.NewMeetup{
			MatchID: soultribe.MatchID(d.lastMatch + int64(i) + 1),
			Times:   soultribe.Times{Start: epoch.Add(time.Duration(1+i) * time.Hour), Duration: time.Hour},
		}
		ones[i], others[i] = int64(list[i].one), int64(list[i].other)
	}
	_, err := d.pool.Exec(ctx, `INSERT INTO match (user1_id, user2_id, status, created_at, updated_at)
SELECT one, other, 'accepted', $3, $3 FROM unnest($1::integer[], $2::integer[]) WITH ORDINALITY AS t (one, other, place) ORDER BY place`, ones, others, epoch)
	return list, err
}
