package soultribe_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// The examples run on a database of their own, whose clock begins at [soultribetest.Epoch], a Monday at
// 09:00 UTC. A service has its own pool, the real clock, and [soultribe.New].

// member registers somebody whose address is verified.
func member(store soultribe.Store, name string) soultribe.UserID {
	ctx := context.Background()
	user := must(store.CreateUser(ctx, soultribe.NewUser{
		Email:    strings.ToLower(name) + "@example.org",
		Password: "correct horse battery",
		Profile:  &soultribe.NewProfile{DisplayName: name, Timezone: "Europe/Vienna"},
	}))
	if err := store.MarkVerified(ctx, user.ID); err != nil {
		panic(err)
	}
	return user.ID
}

// free stores a slot of so many hours.
func free(store soultribe.Store, user soultribe.UserID, start time.Time, hours int) {
	end := start.Add(time.Duration(hours) * time.Hour)
	must(store.AddSlot(context.Background(), user, soultribe.NewSlot{Start: start, End: end, Timezone: "Europe/Vienna"}))
}

// matched makes an accepted match.
func matched(store soultribe.Store, a, b soultribe.UserID) soultribe.MatchID {
	ctx := context.Background()
	asked := must(store.RequestMatch(ctx, a, b))
	return must(store.AcceptMatch(ctx, b, asked.ID)).ID
}

// must is for what an example takes for granted.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Two people register and verify, say when they are free, find each other, match, and meet.
func Example() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	store := db.Store // in a service: soultribe.New(pool)

	register := func(name, timezone string) soultribe.UserID {
		user := must(store.CreateUser(ctx, soultribe.NewUser{
			Email:    strings.ToLower(name) + "@example.org",
			Password: "correct horse battery",
			Profile:  &soultribe.NewProfile{DisplayName: name, Timezone: timezone},
		}))
		token := must(store.IssueEmailVerification(ctx, user.ID))
		// The service mails token.Secret() to token.Email. The link in the mail leads to:
		return must(store.VerifyEmail(ctx, token.Secret())).ID
	}
	ann, ben := register("Ann", "Europe/Vienna"), register("Ben", "America/New_York")

	saturday := time.Date(2026, time.March, 7, 16, 0, 0, 0, time.UTC)
	must(store.AddSlot(ctx, ann, soultribe.NewSlot{Start: saturday, End: saturday.Add(4 * time.Hour), Timezone: "Europe/Vienna"}))
	must(store.AddSlot(ctx, ben, soultribe.NewSlot{Start: saturday.Add(time.Hour), End: saturday.Add(6 * time.Hour), Timezone: "America/New_York"}))

	found := must(store.Candidates(ctx, ann, soultribe.CandidateQuery{}))
	candidate := found.Items[0]
	window := candidate.Windows[0]
	fmt.Println("found:", candidate.DisplayName, window.Start.Format("Mon 15:04"), "to", window.End.Format("15:04"))

	asked := must(store.RequestMatch(ctx, ann, candidate.UserID))
	match := must(store.AcceptMatch(ctx, ben, asked.ID))
	fmt.Println("match:", match.Status)

	proposed := must(store.ProposeMeetup(ctx, ann, soultribe.NewMeetup{MatchID: match.ID, Times: soultribe.Times{Start: window.Start}}))
	meetup := must(store.ConfirmMeetup(ctx, ben, proposed.ID, proposed.Times))
	fmt.Println("meetup:", meetup.Status, meetup.Start.Format("Mon 15:04"), "for", meetup.Duration)
	// Output:
	// found: Ben Sat 17:00 to 20:00
	// match: accepted
	// meetup: confirmed Sat 17:00 for 1h0m0s
}

// A service that has a pool gives it to New, once, when it starts. Migrate may run in every process: they
// wait for each other.
func ExampleNew() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	databaseURL := db.URL // in a service: os.Getenv("DATABASE_URL")

	config := must(soultribe.PoolConfig(databaseURL))
	config.MaxConns = 4
	pool := must(pgxpool.NewWithConfig(ctx, config))
	defer pool.Close() // New does not take it over

	fmt.Println("migrate:", schema.Migrate(ctx, pool))
	store, err := soultribe.New(pool, soultribe.WithCooldowns(soultribe.Cooldowns{Token: 5 * time.Minute}))
	if err != nil {
		panic(err)
	}
	fmt.Println("ready:", store.Ready(ctx))
	// Output:
	// migrate: <nil>
	// ready: <nil>
}

// Open takes the URL in SQLAlchemy's form too, and owns its pool. It does not connect: Ready does, and is
// what a readiness probe asks.
func ExampleOpen() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	_, address, _ := strings.Cut(db.URL, "://")
	databaseURL := "postgresql+psycopg2://" + address // in a service: os.Getenv("DATABASE_URL")

	store, err := soultribe.Open(ctx, databaseURL)
	if err != nil {
		panic(err)
	}
	defer store.Close()
	fmt.Println("ready:", store.Ready(ctx))

	elsewhere, err := soultribe.Open(ctx, databaseURL, soultribe.WithSchema("tribe"))
	if err != nil {
		panic(err)
	}
	defer elsewhere.Close()
	err = elsewhere.Ready(ctx)
	if mismatch, ok := errors.AsType[*soultribe.SchemaError](err); ok {
		fmt.Println(soultribe.Code(err), "- have version", mismatch.Have)
	}
	// Output:
	// ready: <nil>
	// schema - have version 0
}

// Visitors are told the same whether their address is new or taken: else anyone could learn who has an
// account. What differs is the mail.
func ExamplePostgres_CreateUser() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()

	enqueue := func(job string, argument any) { fmt.Println("job:", job, argument) }
	register := func(store soultribe.UserStore, email, password string) int {
		user, err := store.CreateUser(ctx, soultribe.NewUser{Email: email, Password: password})
		switch {
		case errors.Is(err, soultribe.ErrEmailTaken):
			enqueue("warn the owner of", email) // at the stored address: see UserByEmail
		case errors.Is(err, soultribe.ErrInvalid):
			return http.StatusUnprocessableEntity
		case err != nil:
			return http.StatusInternalServerError
		default:
			enqueue("mail a secret to user", user.ID) // see IssueEmailVerification
		}
		return http.StatusAccepted
	}

	fmt.Println(register(db.Store, "ann@example.org", "correct horse battery"))
	fmt.Println(register(db.Store, "Ann@Example.org", "a stranger's guess"))
	fmt.Println(register(db.Store, "ben@example.org", "short"))
	// Output:
	// job: mail a secret to user 1
	// 202
	// job: warn the owner of Ann@Example.org
	// 202
	// 422
}

// An unknown address and a wrong password are one error, and take the same time. Authenticate leaves it to
// the service what people may do before they have verified.
func ExamplePostgres_Authenticate() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	must(db.Store.CreateUser(ctx, soultribe.NewUser{Email: "ann@example.org", Password: "correct horse battery"}))
	member(db.Store, "Ben")

	login := func(store soultribe.UserStore, email, password string) string {
		user, err := store.Authenticate(ctx, email, password)
		switch {
		case errors.Is(err, soultribe.ErrInvalidCredentials):
			return "401 the address or the password is wrong"
		case err != nil:
			return "500 please try again"
		case user.EmailVerifiedAt == nil:
			return "403 please open the link in your mail"
		}
		return "200 welcome"
	}

	fmt.Println(login(db.Store, "nobody@example.org", "correct horse battery"))
	fmt.Println(login(db.Store, "ann@example.org", "correct horse"))
	fmt.Println(login(db.Store, "ann@example.org", "correct horse battery"))
	fmt.Println(login(db.Store, "BEN@example.org", "correct horse battery"))
	// Output:
	// 401 the address or the password is wrong
	// 401 the address or the password is wrong
	// 403 please open the link in your mail
	// 200 welcome
}

// A session is worth nothing once the password has changed, by whatever way.
func ExamplePostgres_ChangePassword() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann := member(db.Store, "Ann")

	type session struct {
		user  soultribe.UserID
		since time.Time
	}
	check := func(s session) int {
		user, err := db.Store.User(ctx, s.user)
		switch {
		case errors.Is(err, soultribe.ErrNotFound): // the account was deleted
			return http.StatusUnauthorized
		case err != nil:
			return http.StatusInternalServerError
		case s.since.Before(user.CredentialsChangedAt):
			return http.StatusUnauthorized
		}
		return http.StatusOK
	}

	phone := session{ann, db.Clock.Now()}
	fmt.Println(check(phone))
	db.Clock.Advance(time.Hour)
	fmt.Println(db.Store.ChangePassword(ctx, ann, "correct horse battery", "a new passphrase"))
	laptop := session{ann, db.Clock.Now()}
	fmt.Println(check(phone), check(laptop))
	// Output:
	// 200
	// <nil>
	// 401 200
}

// Mail from a job: a handler that mails tells by its slowness who has an account. The job's argument is the
// user, so that the secret is nowhere but in the mail.
func ExamplePostgres_IssueEmailVerification() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann := must(db.Store.CreateUser(ctx, soultribe.NewUser{Email: "ann@example.org", Password: "correct horse battery"}))

	send := func(to, link string) error {
		fmt.Println("mail to", to, "with a link of", len(link), "characters")
		return nil
	}
	snooze := func(until time.Time) error { return fmt.Errorf("run again at %s", until.Format("15:04")) }
	job := func(store soultribe.TokenStore, user soultribe.UserID) error {
		token, err := store.IssueEmailVerification(ctx, user)
		if cooldown, ok := errors.AsType[*soultribe.CooldownError](err); ok {
			return snooze(cooldown.Until)
		}
		switch {
		case errors.Is(err, soultribe.ErrAlreadyVerified), errors.Is(err, soultribe.ErrNotFound):
			return nil // there is nothing left to do
		case err != nil:
			return err
		}
		// Where this fails, the next run is snoozed, and the one after it mails another secret.
		return send(token.Email, "https://example.org/verify#"+token.Secret())
	}

	fmt.Println(job(db.Store, ann.ID))
	fmt.Println(job(db.Store, ann.ID))
	db.Clock.Advance(time.Minute)
	fmt.Println(job(db.Store, ann.ID))
	// Output:
	// mail to ann@example.org with a link of 70 characters
	// <nil>
	// run again at 09:01
	// mail to ann@example.org with a link of 70 characters
	// <nil>
}

// Mail programs open links to scan them. So the link leads to a page that only looks at the secret; the
// button on the page redeems it.
func ExamplePostgres_VerifyEmail() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann := must(db.Store.CreateUser(ctx, soultribe.NewUser{Email: "ann@example.org", Password: "correct horse battery"}))
	secret := must(db.Store.IssueEmailVerification(ctx, ann.ID)).Secret()

	get := func() error { return db.Store.CheckEmailVerification(ctx, secret) }
	post := func() error { _, err := db.Store.VerifyEmail(ctx, secret); return err }

	fmt.Println("GET:", get())
	fmt.Println("GET:", get())
	fmt.Println("POST:", post())
	err := post()
	fmt.Println("POST:", errors.Is(err, soultribe.ErrTokenInvalid), soultribe.Code(err))
	// Output:
	// GET: <nil>
	// GET: <nil>
	// POST: <nil>
	// POST: true token_used
}

// The page where people say that they forgot their password answers 202 to everyone, and queues a job.
// Only the owner of the mailbox learns whether there is an account.
func ExamplePostgres_ResetPassword() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	member(db.Store, "Ann")

	mailbox := make(map[string]string)
	job := func(store soultribe.TokenStore, email string) error {
		token, ok, err := store.IssuePasswordReset(ctx, email)
		switch {
		case errors.Is(err, soultribe.ErrInvalid):
			return nil // it is no address
		case err != nil:
			return err
		case ok: // else nobody has the address, or a mail is under way
			// To the stored address, not to the one that was typed. A mail that fails is tried again by the
			// whole job, after the cool-down: ok is false before.
			mailbox[token.Email] = token.Secret()
		}
		return nil
	}
	reset := func(store soultribe.TokenStore, secret, password string) int {
		_, err := store.ResetPassword(ctx, secret, password)
		switch {
		case errors.Is(err, soultribe.ErrTokenInvalid): // unknown, used or expired: offer another mail
			return http.StatusGone
		case errors.Is(err, soultribe.ErrInvalid): // the secret still works
			return http.StatusUnprocessableEntity
		case err != nil:
			return http.StatusInternalServerError
		}
		return http.StatusNoContent // and the sessions end: see CredentialsChangedAt
	}

	fmt.Println(job(db.Store, "nobody@example.org"), job(db.Store, "ANN@example.org"), len(mailbox))
	secret := mailbox["ann@example.org"]
	fmt.Println(reset(db.Store, secret, "short"))
	fmt.Println(reset(db.Store, secret, "a new passphrase"))
	fmt.Println(reset(db.Store, secret, "another passphrase"))
	// Output:
	// <nil> <nil> 1
	// 422
	// 204
	// 410
}

// A form has wall times and the zone of whoever filled it in.
func ExamplePostgres_AddSlot() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann := member(db.Store, "Ann")

	add := func(start, end, timezone string) {
		from, errFrom := soultribe.ParseWall(start)
		to, errTo := soultribe.ParseWall(end)
		slot, errSlot := soultribe.LocalSlot(from, to, timezone, soultribe.DSTCompatible)
		if err := errors.Join(errFrom, errTo, errSlot); err != nil {
			fmt.Println("422", err)
			return
		}
		stored, err := db.Store.AddSlot(ctx, ann, slot)
		switch {
		case errors.Is(err, soultribe.ErrSlotOverlap):
			fmt.Println("409 you have a slot in that time")
		case errors.Is(err, soultribe.ErrPast):
			fmt.Println("409 that time is over")
		case err != nil:
			fmt.Println("500", soultribe.Code(err))
		default:
			fmt.Println("201", stored.LocalStart().Format("Mon 15:04 MST"), "is", stored.Start.Format("15:04 MST"))
		}
	}

	add("2026-03-07T18:00", "2026-03-07T20:00", "Europe/Vienna")
	add("2026-03-07T20:00", "2026-03-07T21:00", "Europe/Vienna") // adjacent is fine
	add("2026-03-07T13:30", "2026-03-07T14:30", "America/New_York")
	add("2026-03-01T18:00", "2026-03-01T20:00", "Europe/Vienna")
	add("2026-03-07T22:00", "2026-03-07T23:00", "Europe/Atlantis")
	// Output:
	// 201 Sat 18:00 CET is 17:00 UTC
	// 201 Sat 20:00 CET is 19:00 UTC
	// 409 you have a slot in that time
	// 409 that time is over
	// 422 timezone must be the name of an IANA time zone, like Europe/Vienna
}

// An editor of the week saves the plan as it now is: the slots of the window make way for it. Saving twice
// is saving once.
func ExamplePostgres_ReplaceSlots() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann := member(db.Store, "Ann")

	save := func(week ...soultribe.Weekly) {
		window := soultribe.Window{Start: db.Clock.Now(), End: db.Clock.Now().AddDate(0, 0, 14)}
		slots := must(soultribe.WeeklySlots(week, "Europe/Vienna", window.Start, window.End, soultribe.DSTCompatible))
		var saved []string
		for _, s := range must(db.Store.ReplaceSlots(ctx, ann, window, slots)) {
			saved = append(saved, s.LocalStart().Format("Mon 02 15:04")+s.LocalEnd().Format("–15:04"))
		}
		fmt.Println(strings.Join(saved, ", "))
	}

	tuesday := soultribe.Weekly{Day: time.Tuesday, From: 18 * time.Hour, To: 20 * time.Hour}
	friday := soultribe.Weekly{Day: time.Friday, From: 9 * time.Hour, To: 12 * time.Hour}
	save(tuesday)
	save(tuesday, friday)
	save(friday)
	// Output:
	// Tue 03 18:00–20:00, Tue 10 18:00–20:00
	// Tue 03 18:00–20:00, Fri 06 09:00–12:00, Tue 10 18:00–20:00, Fri 13 09:00–12:00
	// Fri 06 09:00–12:00, Fri 13 09:00–12:00
}

// A page shows some of the list, and its cursor leads on. A job walks the whole list with All.
func ExamplePostgres_Candidates() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann := member(db.Store, "Ann")
	free(db.Store, ann, soultribetest.Epoch.AddDate(0, 0, 1), 8)
	for i, name := range []string{"Ben", "Cleo", "Dan"} {
		free(db.Store, member(db.Store, name), soultribetest.Epoch.AddDate(0, 0, 1).Add(time.Duration(i)*time.Hour), 4+i)
	}

	query := soultribe.CandidateQuery{AtLeast: 90 * time.Minute, Order: soultribe.MostTimeFirst, Limit: 2}
	page := must(db.Store.Candidates(ctx, ann, query))
	for _, c := range page.Items {
		fmt.Println(c.DisplayName, c.Total)
	}
	fmt.Println("more:", page.Next != "") // in a handler, a link with ?after=

	query.Order = soultribe.SoonestFirst
	for c, err := range soultribe.All(func(after soultribe.Cursor) (soultribe.Page[soultribe.Candidate], error) {
		query.After = after
		return db.Store.Candidates(ctx, ann, query)
	}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(c.DisplayName, c.Windows[0].Start.Format("Mon 15:04"))
	}
	// Output:
	// Dan 6h0m0s
	// Cleo 5h0m0s
	// more: true
	// Ben Tue 09:00
	// Cleo Tue 10:00
	// Dan Tue 11:00
}

// What two people have in common: slots that touch are one window, and what either has agreed to is cut
// out. The method does not ask who may see whose time, so the handler does.
func ExamplePostgres_MutualAvailability() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann, ben := member(db.Store, "Ann"), member(db.Store, "Ben")
	tuesday := soultribetest.Epoch.AddDate(0, 0, 1)
	free(db.Store, ann, tuesday, 6)
	free(db.Store, ben, tuesday.Add(time.Hour), 2)
	free(db.Store, ben, tuesday.Add(3*time.Hour), 5)

	show := func() {
		match, err := db.Store.MatchBetween(ctx, ann, ben)
		switch {
		case errors.Is(err, soultribe.ErrNotFound), err == nil && match.Status != soultribe.MatchAccepted:
			fmt.Println("404")
			return
		case err != nil:
			fmt.Println("500", soultribe.Code(err))
			return
		}
		var windows []string
		for _, w := range must(db.Store.MutualAvailability(ctx, ann, ben, soultribe.MutualQuery{AtLeast: time.Hour})) {
			windows = append(windows, w.Start.Format("Mon 15:04")+w.End.Format("–15:04"))
		}
		fmt.Println("200", strings.Join(windows, ", "))
	}

	show()
	match := matched(db.Store, ann, ben)
	show()
	lunch := soultribe.Times{Start: tuesday.Add(3 * time.Hour), Duration: time.Hour}
	proposed := must(db.Store.ProposeMeetup(ctx, ben, soultribe.NewMeetup{MatchID: match, Times: lunch}))
	must(db.Store.ConfirmMeetup(ctx, ann, proposed.ID, lunch))
	show()
	// Output:
	// 404
	// 200 Tue 10:00–15:00
	// 200 Tue 10:00–12:00, Tue 13:00–15:00
}

// Two requests that meet are a match. Repeating one does no harm: notify people when Changed says so.
func ExamplePostgres_RequestMatch() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann, ben := member(db.Store, "Ann"), member(db.Store, "Ben")
	guest := must(db.Store.CreateUser(ctx, soultribe.NewUser{Email: "guest@example.org", Password: "correct horse battery"})).ID

	ask := func(actor, to soultribe.UserID) {
		match, err := db.Store.RequestMatch(ctx, actor, to)
		cooldown, soon := errors.AsType[*soultribe.CooldownError](err)
		switch {
		case soon:
			fmt.Println("429 again from", cooldown.Until.Format(time.RFC3339))
		case errors.Is(err, soultribe.ErrUnverified):
			fmt.Println("403 please verify your address first")
		case errors.Is(err, soultribe.ErrNotFound): // also who has not verified
			fmt.Println("404")
		case err != nil:
			fmt.Println("500", soultribe.Code(err))
		default:
			fmt.Println("200", match.Status, "- notify:", match.Changed)
		}
	}

	ask(ann, ben)
	ask(ann, ben)
	ask(ben, ann)
	ask(guest, ann)
	ask(ann, guest)
	match := must(db.Store.MatchBetween(ctx, ann, ben))
	must(db.Store.CancelMatch(ctx, ben, match.ID))
	ask(ann, ben)
	// Output:
	// 200 pending - notify: true
	// 200 pending - notify: false
	// 200 accepted - notify: true
	// 403 please verify your address first
	// 404
	// 429 again from 2026-03-03T09:00:00Z
}

// Who agrees, agrees to the times on the screen. When these have moved meanwhile, the answer is 409 and
// the new times, not a meetup at a time that nobody has seen.
func ExamplePostgres_ProposeMeetup() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann, ben := member(db.Store, "Ann"), member(db.Store, "Ben")
	match := matched(db.Store, ann, ben)

	noon := soultribe.Times{Start: soultribetest.Epoch.Add(27 * time.Hour), Duration: 45 * time.Minute}
	proposed := must(db.Store.ProposeMeetup(ctx, ann, soultribe.NewMeetup{MatchID: match, Times: noon}))
	onScreen := proposed.Meetup // what Ben looks at

	later := soultribe.Times{Start: noon.Start.Add(2 * time.Hour), Duration: noon.Duration}
	must(db.Store.RescheduleMeetup(ctx, ann, proposed.ID, soultribe.Reschedule{Seen: noon, To: later}))

	confirmed, err := db.Store.ConfirmMeetup(ctx, ben, onScreen.ID, onScreen.Times)
	if errors.Is(err, soultribe.ErrMeetupChanged) {
		onScreen = must(db.Store.Meetup(ctx, ben, onScreen.ID))
		fmt.Println("409 it is now", onScreen.Start.Format("Mon 15:04"))
		confirmed, err = db.Store.ConfirmMeetup(ctx, ben, onScreen.ID, onScreen.Times)
	}
	fmt.Println(confirmed.Status, confirmed.Start.Format("Mon 15:04"), confirmed.Changed, err)

	// A meetup that is confirmed and moves is a proposal again, which the other one is to confirm.
	moved := must(db.Store.RescheduleMeetup(ctx, ben, onScreen.ID, soultribe.Reschedule{Seen: later, To: noon}))
	fmt.Println(moved.Status, "by Ben:", moved.ProposerID == ben)
	_, err = db.Store.ConfirmMeetup(ctx, ben, moved.ID, moved.Times)
	fmt.Println(errors.Is(err, soultribe.ErrForbidden), soultribe.Code(err))
	// Output:
	// 409 it is now Tue 14:00
	// confirmed Tue 14:00 true <nil>
	// proposed by Ben: true
	// true wrong_side
}

// The partners of somebody who leaves must hear of it.
func ExamplePostgres_DeleteUser() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann, ben, cleo := member(db.Store, "Ann"), member(db.Store, "Ben"), member(db.Store, "Cleo")
	matched(db.Store, ann, ben)
	must(db.Store.RequestMatch(ctx, cleo, ann))

	deleted := must(db.Store.DeleteUser(ctx, ann))
	for _, m := range deleted.Matches {
		partner := must(db.Store.Account(ctx, m.Partner(deleted.UserID)))
		fmt.Println("mail to", partner.User.Email, "- the match was", m.Status)
	}
	// Output:
	// mail to ben@example.org - the match was accepted
	// mail to cleo@example.org - the match was pending
}

// A user and a row of the service's own are stored together or not at all. A conflict that was to be
// expected, such as an address that is taken, leaves the transaction usable.
func ExamplePostgres_InTx() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	must(db.Pool.Exec(ctx, `CREATE TABLE guest (team text CHECK (team IN ('red', 'blue')), user_id integer REFERENCES "user" ON DELETE CASCADE)`))

	invite := func(team, email string) error {
		// Hashing takes a while. Outside the transaction it holds no connection.
		hash, err := db.Store.HashPassword(ctx, "correct horse battery")
		if err != nil {
			return err
		}
		return db.Store.InTx(ctx, func(ctx context.Context, tx pgx.Tx, st soultribe.Store) error {
			user, err := st.CreateUser(ctx, soultribe.NewUser{Email: email, Hash: hash})
			if errors.Is(err, soultribe.ErrEmailTaken) {
				user, err = st.UserByEmail(ctx, email) // who is here already
			}
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, "INSERT INTO guest (team, user_id) VALUES ($1, $2)", team, user.ID)
			return err
		})
	}

	fmt.Println(invite("red", "ann@example.org"))
	fmt.Println(invite("blue", "Ann@example.org"))
	fmt.Println(invite("green", "ben@example.org") != nil)
	_, err := db.Store.UserByEmail(ctx, "ben@example.org")
	fmt.Println(soultribe.Code(err))
	// Output:
	// <nil>
	// <nil>
	// true
	// not_found
}

// A queue in the same database, such as River, takes jobs in the transaction of what they are about: no
// account without its mail, and no mail without an account.
func ExamplePostgres_WithTx() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	must(db.Pool.Exec(ctx, "CREATE TABLE job (kind text, user_id integer)"))

	register := func(email, password string) error {
		hash, err := db.Store.HashPassword(ctx, password) // before the transaction: see InTx
		if err != nil {
			return err
		}
		return pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error {
			user, err := db.Store.WithTx(tx).CreateUser(ctx, soultribe.NewUser{Email: email, Hash: hash})
			if err != nil {
				return err
			}
			// With River: client.InsertTx(ctx, tx, VerificationArgs{UserID: user.ID}, nil)
			_, err = tx.Exec(ctx, "INSERT INTO job (kind, user_id) VALUES ('verification', $1)", user.ID)
			return err
		})
	}

	fmt.Println(register("ann@example.org", "correct horse battery"))
	fmt.Println(soultribe.Code(register("ann@example.org", "correct horse battery")))
	var jobs int
	err := db.Pool.QueryRow(ctx, "SELECT count(*) FROM job").Scan(&jobs)
	fmt.Println(jobs, err)
	// Output:
	// <nil>
	// email_taken
	// 1 <nil>
}

// staffOnly is a Store with a rule of the service's own. It has the methods that it changes, and embeds a
// Store for all others, also those that later versions add.
type staffOnly struct{ soultribe.Store }

func (s staffOnly) CreateUser(ctx context.Context, u soultribe.NewUser) (soultribe.User, error) {
	if !strings.HasSuffix(strings.TrimSpace(u.Email), "@example.org") {
		return soultribe.User{}, &soultribe.ValidationError{Field: "email", Reason: "must be of example.org"}
	}
	return s.Store.CreateUser(ctx, u)
}

// Decorate keeps the rule inside transactions.
func ExampleDecorate() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	store := soultribe.Decorate(db.Store, func(s soultribe.Store) soultribe.Store { return staffOnly{s} })

	err := store.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		_, err := st.CreateUser(ctx, soultribe.NewUser{Email: "ann@example.com", Password: "correct horse battery"})
		return err
	})
	fmt.Println(errors.Is(err, soultribe.ErrInvalid), err)
	// Output:
	// true email must be of example.org
}

// All walks any list, a page at a time. A break ends it, and no further page is asked for.
func ExampleAll() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann := member(db.Store, "Ann")
	for day := range 5 {
		free(db.Store, ann, soultribetest.Epoch.AddDate(0, 0, 1+day), 2)
	}

	// The zero query is those that start after now.
	for slot, err := range soultribe.All(func(after soultribe.Cursor) (soultribe.Page[soultribe.Slot], error) {
		return db.Store.Slots(ctx, ann, soultribe.SlotQuery{Limit: 2, After: after})
	}) {
		if err != nil {
			fmt.Println(err) // the last round
			return
		}
		if slot.LocalStart().Weekday() == time.Saturday {
			break
		}
		fmt.Println(slot.LocalStart().Format("Mon 15:04 MST"))
	}
	// Output:
	// Tue 10:00 CET
	// Wed 10:00 CET
	// Thu 10:00 CET
	// Fri 10:00 CET
}

// An API answers by the base errors, which are all there are, and tells its clients the Code. The text of
// an error is for the log.
func ExampleCode() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann := member(db.Store, "Ann")

	status := func(err error) int {
		switch {
		case err == nil:
			return http.StatusOK
		case errors.Is(err, soultribe.ErrInvalid):
			return http.StatusUnprocessableEntity
		case errors.Is(err, soultribe.ErrNotFound):
			return http.StatusNotFound
		case errors.Is(err, soultribe.ErrInvalidCredentials):
			return http.StatusUnauthorized
		case errors.Is(err, soultribe.ErrForbidden):
			return http.StatusForbidden
		case errors.Is(err, soultribe.ErrTokenInvalid):
			return http.StatusGone
		case errors.Is(err, soultribe.ErrConflict):
			return http.StatusConflict
		case errors.Is(err, soultribe.ErrCooldown):
			return http.StatusTooManyRequests
		case errors.Is(err, soultribe.ErrSchema):
			return http.StatusServiceUnavailable
		}
		return http.StatusInternalServerError
	}
	answer := func(err error) { fmt.Println(status(err), soultribe.Code(err)) }

	_, err := db.Store.Profile(ctx, 42)
	answer(err)
	_, err = db.Store.RequestMatch(ctx, ann, ann)
	answer(err)
	_, err = db.Store.IssueEmailVerification(ctx, ann)
	answer(err)
	_, err = db.Store.VerifyEmail(ctx, "made up")
	answer(err)
	_, err = db.Store.Authenticate(ctx, "ann@example.org", "wrong")
	answer(err)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = db.Store.User(cancelled, ann)
	answer(err)
	// Output:
	// 404 not_found
	// 422 invalid
	// 409 already_verified
	// 410 token_invalid
	// 401 invalid_credentials
	// 500 canceled
}

// A form shows everything that is wrong with it at once, each beside its field.
func ExampleValidationErrors() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()

	_, err := db.Store.CreateUser(ctx, soultribe.NewUser{
		Email:    "ann.example.org",
		Password: "secret",
		Profile:  &soultribe.NewProfile{Timezone: "Vienna"},
	})
	for _, invalid := range soultribe.ValidationErrors(err) {
		fmt.Printf("%s: %s\n", invalid.Field, invalid.Reason)
	}
	// Output:
	// email: is not an address
	// password: must have at least 8 bytes
	// display_name: is required
	// timezone: must be the name of an IANA time zone, like Europe/Vienna
}

// A worker settles what time has overtaken, every few minutes, and tells the people. Any number of workers
// may do so: each meetup is returned to one of them.
func ExamplePostgres_Settle() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann, ben, cleo := member(db.Store, "Ann"), member(db.Store, "Ben"), member(db.Store, "Cleo")
	noon := soultribe.Times{Start: soultribetest.Epoch.Add(3 * time.Hour), Duration: time.Hour}
	agreed := must(db.Store.ProposeMeetup(ctx, ann, soultribe.NewMeetup{MatchID: matched(db.Store, ann, ben), Times: noon}))
	must(db.Store.ConfirmMeetup(ctx, ben, agreed.ID, noon))
	must(db.Store.ProposeMeetup(ctx, ann, soultribe.NewMeetup{MatchID: matched(db.Store, ann, cleo), Times: noon}))

	work := func(store soultribe.MaintenanceStore) error {
		for more := true; more; {
			settled, err := store.Settle(ctx, soultribe.SettlePolicy{})
			if err != nil {
				return err
			}
			for _, m := range settled.Completed {
				fmt.Println("how was it? users", m.User1ID, "and", m.User2ID)
			}
			for _, m := range settled.Cancelled {
				fmt.Println("nobody answered the proposal of user", m.ProposerID)
			}
			more = settled.More
		}
		return nil
	}

	db.Clock.Advance(4 * time.Hour)
	fmt.Println(work(db.Store))
	fmt.Println(work(db.Store))
	// Output:
	// how was it? users 1 and 2
	// nobody answered the proposal of user 1
	// <nil>
	// <nil>
}

// An operator's list of who waits for whom. It shows addresses: it is in AdminStore, which handlers do not
// get.
func ExamplePostgres_PendingMatches() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()
	ann, ben, cleo := member(db.Store, "Ann"), member(db.Store, "Ben"), member(db.Store, "Cleo")
	must(db.Store.RequestMatch(ctx, ann, ben))
	db.Clock.Advance(24 * time.Hour)
	must(db.Store.RequestMatch(ctx, cleo, ann))
	matched(db.Store, ben, cleo)

	var admin soultribe.AdminStore = db.Store
	for m, err := range soultribe.All(func(after soultribe.Cursor) (soultribe.Page[soultribe.PendingMatch], error) {
		return admin.PendingMatches(ctx, soultribe.PageQuery{After: after})
	}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(m.CreatedAt.Format(time.DateOnly), m.User1Email, "asked", m.User2Email)
	}
	// Output:
	// 2026-03-02 ann@example.org asked ben@example.org
	// 2026-03-03 cleo@example.org asked ann@example.org
}
