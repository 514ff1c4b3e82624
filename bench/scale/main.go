// Scale measures how what the library does grows with the number of people: 10,000, 100,000 and a million, each
// with eight slots in a fortnight. make bench-scale runs it: it prints a table and the plans of the searches, and
// writes them to SCALE.md. It takes minutes, nearly all of them to load.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/internal/pgserver" //nolint:depguard // the benchmark is no part of the library, and runs where its tests do
	"github.com/soultribe-chat/soultribe/schema"
)

func main() {
	people := flag.String("people", "10000,100000,1000000", "how many people, one number after the other")
	runs := flag.Int("runs", 15, "how often each call is made; the median counts")
	out := flag.String("out", "SCALE.md", "the file to write")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stderr, *people, *runs, *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, progress io.Writer, people string, runs int, out string) error {
	var sizes []int
	for part := range strings.SplitSeq(people, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1000 {
			return fmt.Errorf("%q is not a number of people, at least 1000", part)
		}
		sizes = append(sizes, n)
	}
	if runs < 1 {
		return fmt.Errorf("%d is not how often to make a call", runs)
	}
	// What cannot be written is to fail now, and not when everything is measured.
	file, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE, 0o644) //nolint:gosec // for everyone to read
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	server, err := pgserver.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Stop()
	report := newReport(server.Description, sizes, runs)
	for i, n := range sizes {
		if err := measure(ctx, progress, server.URL, n, runs, report, i == len(sizes)-1); err != nil {
			return err
		}
	}
	text := report.String()
	fmt.Print(text)
	return os.WriteFile(out, []byte(text), 0o644) //nolint:gosec // for everyone to read
}

// day is the first of the fortnight, and now the store's clock.
var (
	day = time.Date(2026, time.March, 2, 0, 0, 0, 0, time.UTC)
	now = day.Add(-time.Hour)
)

const (
	slotsEach = 8
	fortnight = 14
	quarter   = 15 * time.Minute
)

// zones are where people live, as many in each.
var zones = []string{
	"Pacific/Honolulu", "America/Anchorage", "America/Los_Angeles", "America/Denver", "America/Chicago", "America/Mexico_City", "America/New_York",
	"America/Bogota", "America/Halifax", "America/Santiago", "America/Sao_Paulo", "America/Argentina/Buenos_Aires", "Atlantic/Azores", "UTC",
	"Europe/London", "Europe/Vienna", "Africa/Lagos", "Africa/Cairo", "Europe/Helsinki", "Africa/Nairobi", "Europe/Istanbul", "Asia/Dubai",
	"Asia/Karachi", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Dhaka", "Asia/Bangkok", "Asia/Shanghai", "Australia/Perth", "Asia/Tokyo",
	"Australia/Adelaide", "Australia/Sydney", "Pacific/Auckland",
}

// measure fills a database with so many people, and measures.
func measure(ctx context.Context, progress io.Writer, serverURL string, people, runs int, r *report, plans bool) (err error) {
	admin, err := pgx.Connect(ctx, serverURL)
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }()
	name := "soultribe_scale_" + strings.ToLower(rand.Text()[:10])
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return err
	}
	defer func() {
		_, dropped := admin.Exec(context.WithoutCancel(ctx), "DROP DATABASE "+name+" WITH (FORCE)")
		err = errors.Join(err, dropped)
	}()
	config, err := pgxpool.ParseConfig(serverURL)
	if err != nil {
		return err
	}
	config.ConnConfig.Database = name
	config.ConnConfig.RuntimeParams["work_mem"] = "4MB"
	config.ConnConfig.RuntimeParams["jit"] = "off"
	statements := &recorder{}
	config.ConnConfig.Tracer = statements
	config.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := load(ctx, progress, pool, people); err != nil {
		return err
	}
	st, err := soultribe.New(pool, soultribe.WithClock(func() time.Time { return now }))
	if err != nil {
		return err
	}
	// The last two are of these connections.
	err = pool.QueryRow(ctx, "SELECT string_agg(format('`%s` is %s', name, current_setting(name)), ', ' ORDER BY place)"+
		` FROM unnest(ARRAY['fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers', 'work_mem', 'jit']) WITH ORDINALITY AS s (name, place)`).Scan(&r.settings)
	if err != nil {
		return err
	}
	b := bench{st: st, pool: pool, runs: runs, people: people, report: r, statements: statements}
	return b.all(ctx, plans)
}

// load copies people and their slots into new tables. The exclusion constraint is one of no row: no search reads its
// index, and it takes by far the longest to build.
func load(ctx context.Context, progress io.Writer, pool *pgxpool.Pool, people int) error {
	if err := schema.Migrate(ctx, pool); err != nil {
		return err
	}
	var indexes []string
	rows, err := pool.Query(ctx, `SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = 'availabilityslot'
		AND indexname NOT IN ('availabilityslot_pkey', 'availabilityslot_no_overlap')`)
	if err == nil {
		indexes, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return err
	}
	// Of two vacuums at a time one leaves pages that the other may still need, and then no index is read alone.
	for _, table := range []string{`"user"`, "profile", "availabilityslot"} {
		if _, err := pool.Exec(ctx, "ALTER TABLE "+table+" SET (autovacuum_enabled = false)"); err != nil {
			return err
		}
	}
	_, err = pool.Exec(ctx, `ALTER TABLE availabilityslot DROP CONSTRAINT availabilityslot_no_overlap,
			ADD CONSTRAINT availabilityslot_no_overlap EXCLUDE USING gist (int8range(id, id, '[]') WITH &&) WHERE (false);
		DROP INDEX availabilityslot_user_start_idx, availabilityslot_start_end_user_idx, availabilityslot_group_start_idx, ix_availabilityslot_user_id`)
	if err != nil {
		return err
	}
	say := func(what string) { _, _ = fmt.Fprintf(progress, "%9d people: %s\n", people, what) }
	created := day.AddDate(0, -2, 0)
	say("copying users")
	_, err = pool.CopyFrom(ctx, pgx.Identifier{"user"}, []string{"id", "email", "password_hash", "email_verified_at", "created_at"},
		pgx.CopyFromSlice(people, func(i int) ([]any, error) {
			return []any{i + 1, fmt.Sprintf("person%d@example.org", i+1), "none", created, created}, nil
		}))
	if err != nil {
		return err
	}
	say("copying profiles")
	_, err = pool.CopyFrom(ctx, pgx.Identifier{"profile"}, []string{"user_id", "full_name", "display_name", "timezone", "created_at", "updated_at"},
		pgx.CopyFromSlice(people, func(i int) ([]any, error) {
			return []any{i + 1, "A Person", fmt.Sprintf("Person %d", i+1), zones[i%len(zones)], created, created}, nil
		}))
	if err != nil {
		return err
	}
	places := make([]*time.Location, len(zones))
	for i, name := range zones {
		if places[i], err = time.LoadLocation(name); err != nil {
			return err
		}
	}
	random := mathrand.New(mathrand.NewPCG(1, uint64(people))) //nolint:gosec // the same people in each run
	const step = 100_000                                       // people a COPY
	for first := 0; first < people; first += step {
		n := min(step, people-first)
		say(fmt.Sprintf("copying slots, %d%% done", 100*first/people))
		var days []int
		_, err = pool.CopyFrom(ctx, pgx.Identifier{"availabilityslot"},
			[]string{"user_id", "start_dt_utc", "end_dt_utc", "start_dt_local", "end_dt_local", "timezone", "created_at", "updated_at"},
			pgx.CopyFromSlice(n*slotsEach, func(i int) ([]any, error) {
				if i%slotsEach == 0 {
					days = random.Perm(fortnight)
				}
				// One a day, from between 6 and 18 o'clock there on, for one to four hours.
				person := first + i/slotsEach
				zone := places[person%len(places)]
				start := time.Date(day.Year(), day.Month(), day.Day()+days[i%slotsEach], 6, 15*random.IntN(48), 0, 0, zone)
				end := start.Add(time.Duration(4+random.IntN(13)) * quarter)
				return []any{person + 1, start.UTC(), end.UTC(), wall(start), wall(end), zone.String(), created, created}, nil
			}))
		if err != nil {
			return err
		}
	}
	for _, index := range indexes {
		name := strings.Fields(index)[2]
		say("building " + name)
		if _, err := pool.Exec(ctx, index); err != nil {
			return err
		}
	}
	say("vacuum")
	// Those who ask come behind these, and accounts that are made behind them.
	if _, err = pool.Exec(ctx, `SELECT setval(pg_get_serial_sequence('"user"', 'id'), $1)`, people+1000); err != nil {
		return err
	}
	_, err = pool.Exec(ctx, "VACUUM ANALYZE")
	return err
}

// wall is what a clock in t's zone shows, as what a timestamp without time zone takes.
func wall(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}
