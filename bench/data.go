package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

// epoch is what everything takes for now: a Monday morning.
var epoch = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// How many there are of each kind of people besides those with slots, who come before them in order of ids.
const (
	newcomers = 2000 // whose address is not verified
	writers   = 101  // who have nothing but an account
	readers   = 8    // of those with slots, who have many of them
	askers    = 50   // of those with slots, who look for candidates

	edges = 3 * compared // who are free when the first askers are, and come last
)

// timezones are where people live.
var timezones = []string{"Europe/Vienna", "America/New_York", "Asia/Tokyo", "Australia/Sydney", "UTC"}

// database is what the operations run on.
type database struct {
	pool   *pgxpool.Pool // for what is not measured
	people int           // with slots
	hash   soultribe.PasswordHash
	stored string // the same

	postmaster int // the server's process

	// The last ids of what is not made by an operation.
	lastUser, lastSlot, lastToken, lastMatch, lastMeetup int64
}

// createDatabase makes a migrated database on a server. The caller calls drop at the end.
func createDatabase(ctx context.Context, serverURL string) (databaseURL string, drop func() error, err error) {
	admin, err := pgx.Connect(ctx, serverURL)
	if err != nil {
		return "", nil, err
	}
	name := "soultribe_bench_" + strings.ToLower(rand.Text()[:10])
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		_ = admin.Close(ctx)
		return "", nil, err
	}
	drop = func() error {
		// Also when ctx is over.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		defer func() { _ = admin.Close(ctx) }()
		_, err := admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		return err
	}
	u, err := url.Parse(serverURL)
	if err != nil {
		return "", drop, err
	}
	u.Path = "/" + name
	pool, err := pgxpool.New(ctx, u.String())
	if err != nil {
		return "", drop, err
	}
	defer pool.Close()
	return u.String(), drop, schema.Migrate(ctx, pool)
}

// fill makes the data: always the same. Vacuum is ours from now on, so that it does not run while something is
// measured.
func fill(ctx context.Context, pool *pgxpool.Pool, people int) (*database, error) {
	d := &database{pool: pool, people: people}
	r := mathrand.New(mathrand.NewPCG(1, 2)) //nolint:gosec // the same data each time
	total := people + newcomers + writers + edges
	d.lastUser = int64(total)
	if err := pool.QueryRow(ctx, `SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::integer`).Scan(&d.postmaster); err != nil {
		return nil, err
	}

	users := make([][]any, 0, total)
	var profiles, slots, tokens [][]any
	next := make([]time.Time, people+1) // of each, the start of the next slot
	var ofAskers []ownedWindow          // the slots of those whose candidates are compared
	slot := func(user int, start time.Time, length time.Duration, zone string) error {
		s := soultribe.NewSlot{Start: start, End: start.Add(length), Timezone: zone}
		localStart, localEnd, err := localTimes(s)
		slots = append(slots, []any{user, s.Start, s.End, localStart, localEnd, zone, epoch, epoch})
		return err
	}
	for id := 1; id <= total; id++ {
		var verified any
		if id <= people || id > people+newcomers {
			verified = epoch.Add(-time.Hour)
		}
		users = append(users, []any{id, emailOf(id), "not a hash", verified, epoch.Add(-time.Duration(id) * time.Hour)})
		if id > people {
			continue
		}
		zone := timezones[r.IntN(len(timezones))]
		// A plan for an empty table would be kept, as PostgreSQL is not told that the table has grown.
		tokens = append(tokens, []any{id, hashSecret(fmt.Sprint("old ", id)), epoch.Add(-time.Hour), epoch.Add(-2 * time.Hour), epoch.Add(-time.Hour), emailOf(id)})
		if id%10 != 0 {
			var bio any
			if id%3 != 0 {
				bio = fmt.Sprintf("Person %d likes to talk of mountains, music and mathematics.", id)
			}
			profiles = append(profiles, []any{id, fmt.Sprintf("Full Name %d", id), fmt.Sprintf("person%d", id), bio, zone, epoch, epoch})
		}
		day := epoch.Truncate(24 * time.Hour)
		for _, n := range r.Perm(14)[:8] {
			start := day.AddDate(0, 0, n).Add(time.Duration(r.IntN(20*4)) * 15 * time.Minute)
			if start.After(epoch) && (next[id].IsZero() || start.Before(next[id])) {
				next[id] = start
			}
			length := time.Duration(2+r.IntN(15)) * 15 * time.Minute
			pieces := []time.Duration{length}
			if id <= compared {
				// The same time, which is to be merged.
				pieces = []time.Duration{length / 2, length / 2}
				ofAskers = append(ofAskers, newWindow(int64(id), start, start.Add(length)))
			}
			for _, piece := range pieces {
				if err := slot(id, start, piece, zone); err != nil {
					return nil, err
				}
				start = start.Add(piece)
			}
		}
		for n := range 60 {
			if id > readers {
				break
			}
			if err := slot(id, day.AddDate(0, 0, 20).Add(time.Duration(n)*time.Hour), 30*time.Minute, zone); err != nil {
				return nil, err
			}
		}
	}

	var matches, meetups [][]any
	for i := range 200 {
		asked := epoch.Add(-time.Duration(1000-i) * time.Minute)
		matches = append(matches, []any{people + 1 + 2*i, people + 2 + 2*i, "pending", asked, asked})
	}
	for i := 1; i < people/2; i++ {
		matches = append(matches, []any{i, people/2 + i, "accepted", epoch, epoch})
		// In time that the asker would else be free, and somebody's candidate.
		meetups = append(meetups, []any{len(matches), next[i], 3600, i, "confirmed", epoch, epoch})
	}
	// What a peer finds that forgets a rule: in the first time that an asker has for others, somebody unverified is free, somebody in
	// two pieces, and two with a match that was cancelled, as long ago as it takes to ask again, and less.
	for asker := 1; asker <= compared; asker++ {
		own := slices.DeleteFunc(slices.Clone(ofAskers), func(w ownedWindow) bool { return w.UserID != soultribe.UserID(asker) })
		slices.SortFunc(own, func(a, b ownedWindow) int { return a.Start.Compare(b.Start) })
		starts, _ := freeTime(own, []ownedWindow{newWindow(int64(asker), next[asker], next[asker].Add(time.Hour))}, epoch, epoch.Add(horizon))
		edge := people + newcomers + writers + 3*asker
		for _, free := range []struct {
			user         int
			from, length time.Duration
		}{
			{people + asker, 0, time.Hour},
			{edge - 2, 0, 30 * time.Minute}, {edge - 2, 30 * time.Minute, 30 * time.Minute},
			{edge - 1, 0, time.Hour},
			{edge, 0, time.Hour},
		} {
			if err := slot(free.user, starts[0].Add(free.from), free.length, "UTC"); err != nil {
				return nil, err
			}
		}
		cancelled := func(other int, ago time.Duration) {
			pair := []int{asker, other}
			asked := asker % 2 // either of them
			matches = append(matches, []any{pair[asked], pair[1-asked], "cancelled", epoch.AddDate(0, 0, -7), epoch.Add(-ago)})
		}
		cancelled(edge-1, 24*time.Hour)
		cancelled(edge, 24*time.Hour-time.Minute)
	}
	d.lastSlot, d.lastToken, d.lastMatch, d.lastMeetup = int64(len(slots)), int64(len(tokens)), int64(len(matches)), int64(len(meetups))

	for _, c := range []struct {
		table   string
		columns []string
		rows    [][]any
	}{
		{"user", []string{"id", "email", "password_hash", "email_verified_at", "created_at"}, users},
		{"profile", []string{"user_id", "full_name", "display_name", "bio", "timezone", "created_at", "updated_at"}, profiles},
		{"availabilityslot", []string{"user_id", "start_dt_utc", "end_dt_utc", "start_dt_local", "end_dt_local", "timezone", "created_at", "updated_at"}, slots},
		{"emailverificationtoken", []string{"user_id", "token", "expires_at", "created_at", "used_at", "sent_to"}, tokens},
		{"match", []string{"user1_id", "user2_id", "status", "created_at", "updated_at"}, matches},
		{"meetup", []string{"match_id", "scheduled_time", "duration_seconds", "proposer_id", "status", "created_at", "updated_at"}, meetups},
	} {
		if _, err := pool.CopyFrom(ctx, pgx.Identifier{c.table}, c.columns, pgx.CopyFromRows(c.rows)); err != nil {
			return nil, err
		}
	}
	for _, table := range []string{`"user"`, "profile", "availabilityslot", "emailverificationtoken", "match", "meetup", "soultribe_booking"} {
		for _, text := range []string{"ALTER TABLE " + table + " SET (autovacuum_enabled = false)", "VACUUM (ANALYZE) " + table} {
			if _, err := pool.Exec(ctx, text); err != nil {
				return nil, err
			}
		}
	}
	err := d.makeHash(ctx)
	return d, err
}

// makeHash hashes a password, and reads what is stored of it.
func (d *database) makeHash(ctx context.Context) error {
	store, err := soultribe.New(d.pool, soultribe.WithPasswordParams(soultribe.PasswordParams{MemoryKiB: 64, Iterations: 1, Parallelism: 1}))
	if err != nil {
		return err
	}
	if d.hash, err = store.HashPassword(ctx, rand.Text()); err != nil {
		return err
	}
	if _, err := d.pool.Exec(ctx, d.reset("user")); err != nil {
		return err
	}
	u, err := store.CreateUser(ctx, soultribe.NewUser{Email: "hash@example.org", Hash: d.hash})
	if err != nil {
		return err
	}
	if err := d.pool.QueryRow(ctx, `SELECT password_hash FROM "user" WHERE id = $1`, int64(u.ID)).Scan(&d.stored); err != nil {
		return err
	}
	_, err = d.pool.Exec(ctx, d.reset("user"))
	return err
}

// reset is SQL that removes what an operation made in a table, and has the sequence begin as before.
func (d *database) reset(table string) string {
	last := map[string]int64{"user": d.lastUser, "availabilityslot": d.lastSlot, "emailverificationtoken": d.lastToken, "match": d.lastMatch, "meetup": d.lastMeetup}[table]
	name := pgx.Identifier{table}.Sanitize()
	return fmt.Sprintf("DELETE FROM %s WHERE id > %d; SELECT setval(pg_get_serial_sequence('%[1]s', 'id'), %[2]d);", name, max(last, 1))
}

func emailOf(id int) string { return fmt.Sprintf("person%d@example.org", id) }

// secret is the secret of a number, in the form of the library's.
func secret(n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "secret %d", n))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (d *database) writer(i int) soultribe.UserID {
	return soultribe.UserID(d.people + newcomers + 1 + i%writers)
}

// writerPair returns pairs of writers, none twice. Those of neighbouring i have nobody in common.
func (d *database) writerPair(i int) pair {
	const distance = 2 * poolSize
	if i >= writers*(writers/2-distance) {
		panic("more pairs than there are")
	}
	return pair{d.writer(i), d.writer(i%writers + distance + i/writers)}
}
