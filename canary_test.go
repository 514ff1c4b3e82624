package soultribe_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// What the canaries hold, and how it is known again.
const (
	canaryPassword = "canary-password"
	canaryNext     = "canary-password of tomorrow"
	canaryWrong    = "canary-password of somebody else"
	canaryJunk     = "canary-hash$dev"
	canaryName     = "canary-name"
)

// canaryMarks find each kind of canary in a text.
var canaryMarks = map[string]*regexp.Regexp{
	"addresses":         regexp.MustCompile(`(?i)canary-address`),
	"passwords":         regexp.MustCompile(`(?i)canary-password`),
	"secrets":           regexp.MustCompile(`canary-plaintext`), // and those that were issued
	"password hashes":   regexp.MustCompile(`argon2id|canary-hash`),
	"hashes of secrets": regexp.MustCompile(`sha256:[0-9a-f]{64}`),
	"profiles":          regexp.MustCompile(`canary-name`),
}

// canaries are calls of every method with values that must not be told, and the watch over what leaves the
// library beside its results: errors, the log, and all that a tracer sees.
type canaries struct {
	t       *testing.T
	db      *soultribetest.DB
	n       int
	log     bytes.Buffer
	issued  []string                   // secrets
	bound   map[string]map[string]bool // by kind, the names of the statements that it is an argument of
	refused map[string]bool            // the SQLSTATEs that the tracer saw
	quoted  bool                       // the host's trigger quotes rows to its tracer, which is the host's business
}

func newCanaries(t *testing.T) *canaries {
	t.Helper()
	return &canaries{t: t, db: soultribetest.New(t), bound: map[string]map[string]bool{}, refused: map[string]bool{}}
}

// kinds are those of the canaries in a text.
func (c *canaries) kinds(text string) []string {
	var kinds []string
	for kind, mark := range canaryMarks {
		if mark.MatchString(text) {
			kinds = append(kinds, kind)
		}
	}
	if slices.ContainsFunc(c.issued, func(secret string) bool { return strings.Contains(text, secret) }) {
		kinds = append(kinds, "secrets")
	}
	return kinds
}

// untold fails where a text tells a canary.
func (c *canaries) untold(where, text string) {
	c.t.Helper()
	for line := range strings.Lines(text) {
		if kinds := c.kinds(line); len(kinds) > 0 {
			c.t.Errorf("%s tells %v: %s", where, kinds, line)
		}
	}
}

func (c *canaries) traced(sql string, args []any, err error) {
	c.t.Helper()
	c.untold("the text of a statement", sql)
	name, _, _ := strings.Cut(strings.TrimPrefix(sql, "-- name: "), "\n")
	for _, arg := range args {
		text, err := json.Marshal(arg) // which follows pointers, as fmt does not
		require.NoError(c.t, err)
		for _, kind := range c.kinds(string(text)) {
			if c.bound[kind] == nil {
				c.bound[kind] = map[string]bool{}
			}
			c.bound[kind][name] = true
		}
	}
	if err == nil {
		return
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		c.refused[pg.Code] = true
	}
	if !c.quoted {
		c.untold("an error that a tracer sees", fmt.Sprintf("%v %+v %s", err, err, err))
	}
}

func (c *canaries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	c.traced(data.SQL, data.Args, nil)
	return ctx
}

func (c *canaries) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	c.traced(data.CommandTag.String(), nil, data.Err)
}

func (c *canaries) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, q := range data.Batch.QueuedQueries {
		c.traced(q.SQL, q.Arguments, nil)
	}
	return ctx
}

func (c *canaries) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	c.traced(data.SQL, data.Args, data.Err)
	c.untold("a command tag", data.CommandTag.String())
}

func (c *canaries) TraceBatchEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	c.traced("", nil, data.Err)
}

func (c *canaries) TracePrepareStart(ctx context.Context, _ *pgx.Conn, data pgx.TracePrepareStartData) context.Context {
	c.traced(data.SQL, nil, nil)
	return ctx
}

func (c *canaries) TracePrepareEnd(_ context.Context, _ *pgx.Conn, data pgx.TracePrepareEndData) {
	c.traced("", nil, data.Err)
}

// open is a pool that is traced.
func (c *canaries) open(configure ...func(*pgxpool.Config)) *pgxpool.Pool {
	return newPool(c.t, c.db.URL, append(configure, func(config *pgxpool.Config) { config.ConnConfig.Tracer = c })...)
}

// on is a Store whose log is kept.
func (c *canaries) on(db soultribe.DB, opts ...soultribe.Option) *soultribe.Postgres {
	log := slog.New(slog.NewMultiHandler(slog.NewTextHandler(&c.log, nil), slog.NewJSONHandler(&c.log, nil)))
	return newStore(c.t, c.db, db, append(opts, soultribe.WithLogger(log))...)
}

// printed is a value in the ways in which services print one.
func printed(v any) string {
	var b bytes.Buffer
	for _, v := range []any{v, []any{v}, struct{ V any }{v}, map[string]any{"v": v}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&b, nil)).With("with", v).Info("message", "value", v, slog.Group("group", "value", v))
	}
	slog.New(slog.NewJSONHandler(&b, nil)).With("with", v).Info("message", "value", v, slog.Group("group", "value", v))
	return b.String()
}

// marshalled is a value in the ways in which it gets into JSON, also that of slog.
func marshalled(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	for _, v := range []any{v, []any{v}, struct{ V any }{v}, map[string]any{"v": v}} {
		require.NoError(t, json.NewEncoder(&b).Encode(v))
		slog.New(slog.NewJSONHandler(&b, nil)).With("with", v).Info("message", "value", v, slog.Group("group", "value", v))
	}
	return b.String()
}

// requireUntold looks at an error, alone, wrapped by the host, and at what is in it.
func (c *canaries) requireUntold(call canaryCall, err error) {
	c.t.Helper()
	if err == nil {
		return
	}
	where := fmt.Sprintf("the error %q of %s", soultribe.Code(err), call.method)
	c.untold(where, printed(err)+marshalled(c.t, err))
	for _, wrapped := range []error{fmt.Errorf("host: %w", err), errors.Join(err, io.EOF)} {
		c.untold(where, printed(wrapped)+marshalled(c.t, wrapped))
	}
	for _, v := range soultribe.ValidationErrors(err) {
		c.untold(where, printed(v)+printed(*v)+marshalled(c.t, v))
	}
}

// canaryCall is a call, of which everything is set up, and the code of its error.
type canaryCall struct {
	method, want string
	call         func(ctx context.Context, st soultribe.Store) error
}

// failure is the error of a call whose result does not matter.
func failure[T any](_ T, err error) error { return err }

func (c *canaries) address() string {
	c.n++
	return fmt.Sprintf("Canary-Address%d@example.org", c.n)
}

func (c *canaries) profile() *soultribe.NewProfile {
	return &soultribe.NewProfile{FullName: canaryName, DisplayName: canaryName, Bio: canaryName}
}

// user makes an account that is not verified.
func (c *canaries) user() soultribe.User {
	c.t.Helper()
	u, err := c.db.Store.CreateUser(c.t.Context(), soultribe.NewUser{Email: c.address(), Password: canaryPassword, Profile: c.profile()})
	require.NoError(c.t, err)
	return u
}

// withHash makes an account whose hash is another application's.
func (c *canaries) withHash(hash string) soultribe.User {
	c.t.Helper()
	email := c.address()
	return soultribe.User{ID: sqlUser(c.t, c.db, email, hash), Email: email}
}

// plaintext stores a secret as another application does.
func (c *canaries) plaintext(table, expires string) string {
	c.t.Helper()
	c.n++
	secret := fmt.Sprintf("canary-plaintext-of-forty-three-letters-%03d", c.n)
	sqlToken(c.t, c.db, table, c.user().ID, secret, expires)
	return secret
}

func (c *canaries) keep(tok soultribe.IssuedToken, err error) string {
	c.t.Helper()
	require.NoError(c.t, err)
	c.issued = append(c.issued, tok.Secret())
	return tok.Secret()
}

func (c *canaries) verification(u soultribe.User) string {
	c.t.Helper()
	return c.keep(c.db.Store.IssueEmailVerification(c.t.Context(), u.ID))
}

func (c *canaries) change(u soultribe.User, email string) string {
	c.t.Helper()
	return c.keep(c.db.Store.IssueEmailChange(c.t.Context(), u.ID, canaryPassword, email))
}

func (c *canaries) reset(u soultribe.User) string {
	c.t.Helper()
	tok, _, err := c.db.Store.IssuePasswordReset(c.t.Context(), u.Email)
	return c.keep(tok, err)
}

// inUse makes an account to whose address a table of the host's refers.
func (c *canaries) inUse() soultribe.User {
	c.t.Helper()
	u := c.user()
	_, err := c.db.Pool.Exec(c.t.Context(), `INSERT INTO host_note VALUES ($1)`, u.Email)
	require.NoError(c.t, err)
	return u
}

// calls are those of every method, where it succeeds and where it fails with a canary at hand. None is in
// the way of another.
func (c *canaries) calls() []canaryCall {
	_, err := c.db.Pool.Exec(c.t.Context(), `CREATE TABLE host_note (email text CONSTRAINT host_note_fkey REFERENCES "user" (email))`)
	require.NoError(c.t, err)
	return slices.Concat(c.userCalls(), c.passwordCalls(), c.tokenCalls(), c.slotCalls(), c.matchCalls(), c.adminCalls())
}

func (c *canaries) userCalls() []canaryCall {
	hash, err := c.db.Store.HashPassword(c.t.Context(), canaryPassword)
	require.NoError(c.t, err)
	create := func(want string, n soultribe.NewUser) canaryCall {
		return canaryCall{"CreateUser", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.CreateUser(ctx, n)) }}
	}
	byEmail := func(want, email string) []canaryCall {
		return []canaryCall{
			{"UserByEmail", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.UserByEmail(ctx, email)) }},
			{"AccountByEmail", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.AccountByEmail(ctx, email)) }},
		}
	}
	byID := func(want string, id soultribe.UserID) []canaryCall {
		return []canaryCall{
			{"User", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.User(ctx, id)) }},
			{"Account", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.Account(ctx, id)) }},
			{"Profile", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.Profile(ctx, id)) }},
			{"Export", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.Export(ctx, id)) }},
		}
	}
	remove := func(want string, id soultribe.UserID) canaryCall {
		return canaryCall{"DeleteUser", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.DeleteUser(ctx, id)) }}
	}
	set := func(want string, id soultribe.UserID, p soultribe.NewProfile) canaryCall {
		return canaryCall{"SetProfile", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.SetProfile(ctx, id, p)) }}
	}
	update := func(want string, id soultribe.UserID, fullName string) canaryCall {
		return canaryCall{"UpdateProfile", want, func(ctx context.Context, st soultribe.Store) error {
			return failure(st.UpdateProfile(ctx, id, soultribe.ProfileUpdate{FullName: &fullName, Bio: &fullName}))
		}}
	}
	u := c.user()
	control, nul := "\n"+canaryName+"\n"+canaryName, c.address()+"\x00"
	return slices.Concat(byID("", u.ID), byID("not_found", 1<<40), byEmail("", strings.ToUpper(u.Email)), byEmail("not_found", c.address()), byEmail("invalid", nul), []canaryCall{
		create("", soultribe.NewUser{Email: c.address(), Password: canaryPassword, Profile: c.profile()}),
		create("", soultribe.NewUser{Email: c.address(), Hash: hash}),
		create("email_taken", soultribe.NewUser{Email: strings.ToUpper(u.Email), Password: canaryPassword, Profile: c.profile()}),
		create("invalid", soultribe.NewUser{Email: c.address() + " <" + c.address() + ">", Password: strings.Repeat(canaryPassword, 100), Profile: &soultribe.NewProfile{FullName: control}}),
		create("invalid", soultribe.NewUser{Email: nul, Password: canaryPassword + "\x00", Profile: &soultribe.NewProfile{FullName: strings.Repeat(canaryName, 100)}}),
		create("invalid", soultribe.NewUser{Email: c.address(), Password: canaryPassword, Hash: hash}),
		remove("", c.user().ID), remove("not_found", 1<<40), remove("in_use", c.inUse().ID),
		set("", u.ID, *c.profile()), set("not_found", 1<<40, *c.profile()), set("invalid", u.ID, soultribe.NewProfile{FullName: control, Timezone: canaryName}),
		update("", u.ID, canaryName), update("not_found", 1<<40, canaryName), update("invalid", u.ID, control),
		{"PublicProfiles", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.PublicProfiles(ctx, []soultribe.UserID{u.ID}))
		}},
	})
}

func (c *canaries) passwordCalls() []canaryCall {
	login := func(want, email, password string) canaryCall {
		return canaryCall{"Authenticate", want, func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Authenticate(ctx, email, password))
		}}
	}
	check := func(want string, id soultribe.UserID, password string) canaryCall {
		return canaryCall{"CheckPassword", want, func(ctx context.Context, st soultribe.Store) error { return st.CheckPassword(ctx, id, password) }}
	}
	change := func(want string, id soultribe.UserID, current, next string) canaryCall {
		return canaryCall{"ChangePassword", want, func(ctx context.Context, st soultribe.Store) error {
			return st.ChangePassword(ctx, id, current, next)
		}}
	}
	set := func(want string, id soultribe.UserID, password string) canaryCall {
		return canaryCall{"SetPassword", want, func(ctx context.Context, st soultribe.Store) error { return st.SetPassword(ctx, id, password) }}
	}
	hash := func(want, password string) canaryCall {
		return canaryCall{"HashPassword", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.HashPassword(ctx, password)) }}
	}
	other, err := newStore(c.t, c.db, c.db.Pool, soultribe.WithPasswordParams(soultribe.PasswordParams{MemoryKiB: 64, Iterations: 2, Parallelism: 1})).
		CreateUser(c.t.Context(), soultribe.NewUser{Email: c.address(), Password: canaryPassword})
	require.NoError(c.t, err)
	u, junk, long := c.user(), c.withHash(canaryJunk), strings.Repeat(canaryPassword, 100)
	return []canaryCall{
		login("", u.Email, canaryPassword), login("", other.Email, canaryPassword), // whose hash is renewed
		login("invalid_credentials", u.Email, canaryWrong), login("invalid_credentials", c.address(), canaryPassword),
		login("invalid_credentials", junk.Email, canaryPassword), login("invalid_credentials", c.address()+"\x00", canaryPassword),
		check("", u.ID, canaryPassword), check("invalid_credentials", u.ID, canaryWrong),
		check("invalid_credentials", junk.ID, canaryJunk), check("not_found", 1<<40, canaryPassword),
		change("", c.user().ID, canaryPassword, canaryNext), change("invalid_credentials", u.ID, canaryWrong, canaryNext),
		change("invalid_credentials", junk.ID, canaryPassword, canaryNext), change("invalid", u.ID, canaryPassword, long), change("not_found", 1<<40, canaryPassword, canaryNext),
		set("", c.user().ID, canaryNext), set("invalid", u.ID, long), set("not_found", 1<<40, canaryNext),
		hash("", canaryPassword), hash("invalid", long), hash("invalid", canaryPassword+"\x00"),
	}
}

func (c *canaries) tokenCalls() []canaryCall {
	const verifications, resets = "emailverificationtoken", "passwordresettoken"
	verify := func(want, secret string) []canaryCall {
		return []canaryCall{
			{"CheckEmailVerification", want, func(ctx context.Context, st soultribe.Store) error { return st.CheckEmailVerification(ctx, secret) }},
			{"VerifyEmail", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.VerifyEmail(ctx, secret)) }},
		}
	}
	reset := func(want, secret string) []canaryCall {
		return []canaryCall{
			{"CheckPasswordReset", want, func(ctx context.Context, st soultribe.Store) error { return st.CheckPasswordReset(ctx, secret) }},
			{"ResetPassword", want, func(ctx context.Context, st soultribe.Store) error {
				return failure(st.ResetPassword(ctx, secret, canaryNext))
			}},
		}
	}
	issueVerification := func(want string, id soultribe.UserID) canaryCall {
		return canaryCall{"IssueEmailVerification", want, func(ctx context.Context, st soultribe.Store) error {
			tok, err := st.IssueEmailVerification(ctx, id)
			c.untold("an IssuedToken", printed(tok)+printed(&tok)+marshalled(c.t, tok))
			return err
		}}
	}
	issueChange := func(want string, id soultribe.UserID, password, email string) canaryCall {
		return canaryCall{"IssueEmailChange", want, func(ctx context.Context, st soultribe.Store) error {
			return failure(st.IssueEmailChange(ctx, id, password, email))
		}}
	}
	issueReset := func(want, email string) canaryCall {
		return canaryCall{"IssuePasswordReset", want, func(ctx context.Context, st soultribe.Store) error {
			_, _, err := st.IssuePasswordReset(ctx, email)
			return err
		}}
	}
	used := c.plaintext(verifications, "2026-04-01")
	require.NoError(c.t, failure(c.db.Store.VerifyEmail(c.t.Context(), used)))
	usedReset := c.reset(c.user())
	require.NoError(c.t, failure(c.db.Store.ResetPassword(c.t.Context(), usedReset, canaryPassword)))
	verified, waiting, u := c.user(), c.user(), c.user()
	require.NoError(c.t, c.db.Store.MarkVerified(c.t.Context(), verified.ID))
	c.verification(waiting)
	c.reset(waiting)
	taken := c.address()
	late := c.change(c.user(), taken)
	require.NoError(c.t, failure(c.db.Store.CreateUser(c.t.Context(), soultribe.NewUser{Email: strings.ToLower(taken), Password: canaryPassword})))
	return slices.Concat(
		verify("", c.verification(c.user())), verify("", c.change(c.user(), c.address())), verify("", c.plaintext(verifications, "2026-04-01")),
		verify("token_invalid", "canary-plaintext, unknown"), verify("token_invalid", storedSecret(c, verifications)), verify("token_used", used),
		verify("token_expired", c.plaintext(verifications, "2026-01-01")), verify("email_taken", late),
		verify("in_use", c.change(c.inUse(), c.address()))[1:],
		reset("", c.reset(c.user())), reset("", c.plaintext(resets, "2026-04-01")),
		reset("token_invalid", "canary-plaintext, unknown"), reset("token_invalid", storedSecret(c, resets)), reset("token_used", usedReset),
		reset("token_expired", c.plaintext(resets, "2026-01-01")),
		[]canaryCall{
			{"ResetPassword", "invalid", func(ctx context.Context, st soultribe.Store) error {
				return failure(st.ResetPassword(ctx, used, strings.Repeat(canaryPassword, 100)))
			}},
			issueVerification("", c.user().ID), issueVerification("not_found", 1<<40), issueVerification("already_verified", verified.ID),
			issueVerification("cooldown", waiting.ID),
			issueChange("", c.user().ID, canaryPassword, c.address()), issueChange("invalid_credentials", u.ID, canaryWrong, c.address()),
			issueChange("invalid", u.ID, canaryPassword, c.address()+" <x>"), issueChange("invalid", u.ID, canaryPassword, u.Email),
			issueChange("email_taken", u.ID, canaryPassword, strings.ToUpper(verified.Email)), issueChange("cooldown", waiting.ID, canaryPassword, c.address()),
			issueChange("not_found", 1<<40, canaryPassword, c.address()),
			issueReset("", c.user().Email), issueReset("", c.address()), issueReset("", waiting.Email), issueReset("invalid", c.address()+"\x00"),
		})
}

// storedSecret is what a thief of the table would present: a value as it is stored.
func storedSecret(c *canaries, table string) string {
	c.t.Helper()
	return c.db.Query(c.t, `SELECT token FROM `+table+` WHERE token LIKE 'sha256:%' LIMIT 1`)[0]
}

func (c *canaries) slotCalls() []canaryCall {
	u, other := c.user(), c.user()
	slot := func(hour int) soultribe.NewSlot { return spanFrom(spring, 4*hour, 4, "UTC") }
	first, err := c.db.Store.AddSlot(c.t.Context(), u.ID, slot(0))
	require.NoError(c.t, err)
	gone, err := c.db.Store.AddSlot(c.t.Context(), u.ID, slot(2))
	require.NoError(c.t, err)
	call := func(method, want string, call func(ctx context.Context, st soultribe.Store) error) canaryCall {
		return canaryCall{method, want, call}
	}
	return []canaryCall{
		call("AddSlot", "", func(ctx context.Context, st soultribe.Store) error { return failure(st.AddSlot(ctx, u.ID, slot(4))) }),
		call("AddSlot", "slot_overlap", func(ctx context.Context, st soultribe.Store) error { return failure(st.AddSlot(ctx, u.ID, slot(0))) }),
		call("AddSlot", "invalid", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.AddSlot(ctx, u.ID, spanFrom(spring, 0, 4, canaryName)))
		}),
		call("AddSlots", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.AddSlots(ctx, u.ID, []soultribe.NewSlot{slot(6)}))
		}),
		call("AddSlots", "slot_overlap", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.AddSlots(ctx, u.ID, []soultribe.NewSlot{slot(0)}))
		}),
		call("ReplaceSlots", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.ReplaceSlots(ctx, other.ID, soultribe.Window{Start: spring, End: spring.AddDate(0, 0, 1)}, []soultribe.NewSlot{slot(0)}))
		}),
		call("UpdateSlot", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.UpdateSlot(ctx, u.ID, first.ID, slot(0)))
		}),
		call("DeleteSlot", "", func(ctx context.Context, st soultribe.Store) error { return st.DeleteSlot(ctx, u.ID, gone.ID) }),
		call("Slot", "", func(ctx context.Context, st soultribe.Store) error { return failure(st.Slot(ctx, u.ID, first.ID)) }),
		call("Slots", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Slots(ctx, u.ID, soultribe.SlotQuery{}))
		}),
		call("Slots", "invalid", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Slots(ctx, u.ID, soultribe.SlotQuery{After: soultribe.Cursor(u.Email)}))
		}),
		call("MutualAvailability", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.MutualAvailability(ctx, u.ID, other.ID, soultribe.MutualQuery{}))
		}),
	}
}

func (c *canaries) matchCalls() []canaryCall {
	person := func() soultribe.UserID {
		u := c.user()
		require.NoError(c.t, c.db.Store.MarkVerified(c.t.Context(), u.ID))
		return u.ID
	}
	asked := func() soultribe.Match {
		r, err := c.db.Store.RequestMatch(c.t.Context(), person(), person())
		require.NoError(c.t, err)
		return r.Match
	}
	a, b := person(), person()
	accept, reject, cancel, matched := asked(), asked(), asked(), c.db.Matched(c.t, a, b)
	bare := c.db.Matched(c.t, person(), person())
	meetup := func() soultribe.Meetup { return proposed(c.t, c.db, person(), person(), hourAfter(24*time.Hour)) }
	confirm, reschedule, cancelled := meetup(), meetup(), meetup()
	complete := meetup()
	_, err := c.db.Pool.Exec(c.t.Context(), `UPDATE meetup SET status = 'confirmed', scheduled_time = '2026-03-01 10:00' WHERE id = $1`, int64(complete.ID))
	require.NoError(c.t, err)
	return []canaryCall{
		{"RequestMatch", "", func(ctx context.Context, st soultribe.Store) error { return failure(st.RequestMatch(ctx, a, b)) }},
		{"RequestMatch", "not_found", func(ctx context.Context, st soultribe.Store) error { return failure(st.RequestMatch(ctx, a, 1<<40)) }},
		{"AcceptMatch", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.AcceptMatch(ctx, accept.User2ID, accept.ID))
		}},
		{"RejectMatch", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.RejectMatch(ctx, reject.User2ID, reject.ID))
		}},
		{"CancelMatch", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.CancelMatch(ctx, cancel.User1ID, cancel.ID))
		}},
		{"Match", "", func(ctx context.Context, st soultribe.Store) error { return failure(st.Match(ctx, a, matched.ID)) }},
		{"MatchBetween", "", func(ctx context.Context, st soultribe.Store) error { return failure(st.MatchBetween(ctx, a, b)) }},
		{"Matches", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Matches(ctx, a, soultribe.MatchQuery{}))
		}},
		{"Matches", "invalid", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Matches(ctx, a, soultribe.MatchQuery{Status: []soultribe.MatchStatus{canaryName + "\x00"}, After: "canary-address"}))
		}},
		{"Candidates", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Candidates(ctx, a, soultribe.CandidateQuery{}))
		}},
		{"ProposeMeetup", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.ProposeMeetup(ctx, bare.User1ID, soultribe.NewMeetup{MatchID: bare.ID, Times: hourAfter(time.Hour)}))
		}},
		{"ConfirmMeetup", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.ConfirmMeetup(ctx, confirm.User2ID, confirm.ID, confirm.Times))
		}},
		{"ConfirmMeetup", "wrong_side", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.ConfirmMeetup(ctx, reschedule.User1ID, reschedule.ID, reschedule.Times))
		}},
		{"RescheduleMeetup", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.RescheduleMeetup(ctx, reschedule.User1ID, reschedule.ID, soultribe.Reschedule{Seen: reschedule.Times, To: reschedule.Times}))
		}},
		{"CancelMeetup", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.CancelMeetup(ctx, cancelled.User1ID, cancelled.ID))
		}},
		{"CompleteMeetup", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.CompleteMeetup(ctx, complete.User1ID, complete.ID))
		}},
		{"Meetup", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Meetup(ctx, confirm.User1ID, confirm.ID))
		}},
		{"Meetups", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Meetups(ctx, a, soultribe.MeetupQuery{}))
		}},
	}
}

func (c *canaries) adminCalls() []canaryCall {
	u, other := c.user(), c.user()
	users := func(want string, q soultribe.UserQuery) canaryCall {
		return canaryCall{"Users", want, func(ctx context.Context, st soultribe.Store) error { return failure(st.Users(ctx, q)) }}
	}
	create := func(ctx context.Context, st soultribe.Store, email string) error {
		return failure(st.CreateUser(ctx, soultribe.NewUser{Email: email, Password: canaryPassword}))
	}
	joined := func(method, want, email string) canaryCall {
		return canaryCall{method, want, func(ctx context.Context, st soultribe.Store) error {
			return st.InTx(ctx, func(ctx context.Context, tx pgx.Tx, in soultribe.Store) error {
				if method == "WithTx" {
					in = st.WithTx(tx)
				}
				return create(ctx, in, email)
			})
		}}
	}
	return []canaryCall{
		users("", soultribe.UserQuery{EmailPrefix: "canary-address"}), users("invalid", soultribe.UserQuery{EmailPrefix: "canary-address\x00"}),
		users("invalid", soultribe.UserQuery{After: soultribe.Cursor(u.Email)}),
		{"Accounts", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Accounts(ctx, []soultribe.UserID{u.ID}))
		}},
		{"PendingMatches", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.PendingMatches(ctx, soultribe.PageQuery{}))
		}},
		{"ScanMatches", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.ScanMatches(ctx, soultribe.MatchQuery{}))
		}},
		{"ScanMeetups", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.ScanMeetups(ctx, soultribe.MeetupQuery{}))
		}},
		{"MarkVerified", "", func(ctx context.Context, st soultribe.Store) error { return st.MarkVerified(ctx, other.ID) }},
		{"Stats", "", func(ctx context.Context, st soultribe.Store) error { return failure(st.Stats(ctx)) }},
		{"Ready", "", func(ctx context.Context, st soultribe.Store) error { return st.Ready(ctx) }},
		joined("InTx", "", c.address()), joined("InTx", "email_taken", u.Email),
		joined("WithTx", "", c.address()), joined("WithTx", "email_taken", u.Email),
		{"Settle", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Settle(ctx, soultribe.SettlePolicy{}))
		}},
		{"Purge", "", func(ctx context.Context, st soultribe.Store) error {
			return failure(st.Purge(ctx, soultribe.PurgePolicy{Tokens: 1, Slots: 1, Meetups: 1, Unverified: 1}))
		}},
	}
}

// canaryWays are the circumstances in which all calls are made.
var canaryWays = map[string]struct {
	sql   string // run when all is set up
	store func(c *canaries) func() soultribe.Store
	ended bool
	// want is a code that calls must end with here; without one, each call has the code that it has by itself.
	want, sqlState string
}{
	"by itself": {store: func(c *canaries) func() soultribe.Store {
		st := c.on(c.open())
		return func() soultribe.Store { return st }
	}},
	"in the simple protocol": {store: func(c *canaries) func() soultribe.Store {
		st := c.on(c.open(func(config *pgxpool.Config) { config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol }))
		return func() soultribe.Store { return st }
	}},
	"in a transaction": {store: func(c *canaries) func() soultribe.Store {
		tx, err := c.open().Begin(c.t.Context())
		require.NoError(c.t, err)
		c.t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
		st := c.on(tx)
		return func() soultribe.Store { return st }
	}},
	"when the context has ended": {ended: true, want: "canceled", store: func(c *canaries) func() soultribe.Store {
		st := c.on(c.open())
		return func() soultribe.Store { return st }
	}},
	"in a schema that is not there": {want: "schema", sqlState: "42P01", store: func(c *canaries) func() soultribe.Store {
		st := c.on(c.open(), soultribe.WithSchema("elsewhere"))
		return func() soultribe.Store { return st }
	}},
	"on a connection that was killed": {want: "internal", store: func(c *canaries) func() soultribe.Store {
		config := c.open().Config().ConnConfig
		return func() soultribe.Store {
			conn, err := pgx.ConnectConfig(c.t.Context(), config)
			require.NoError(c.t, err)
			c.t.Cleanup(func() { _ = conn.Close(context.Background()) })
			pid := int64(conn.PgConn().PID())
			for there := c.db.Query(c.t, `SELECT pg_terminate_backend($1)`, pid); len(there) > 0; {
				there = c.db.Query(c.t, `SELECT pid FROM pg_stat_activity WHERE pid = $1`, pid)
			}
			return c.on(conn)
		}
	}},
	"where nothing can be written": {want: "internal", sqlState: "25006", store: func(c *canaries) func() soultribe.Store {
		st := c.on(c.open(func(config *pgxpool.Config) { config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on" }))
		return func() soultribe.Store { return st }
	}},
	// The detail of such an error is the whole row.
	"against a constraint of the host's": {want: "internal", sqlState: "23514",
		sql: `EXECUTE format('ALTER TABLE %I ADD CONSTRAINT host_check CHECK (false) NOT VALID', name)`,
		store: func(c *canaries) func() soultribe.Store {
			st := c.on(c.open())
			return func() soultribe.Store { return st }
		}},
	"against a trigger of the host's": {want: "internal", sqlState: "42501",
		sql: `EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION refuse()', name)`,
		store: func(c *canaries) func() soultribe.Store {
			c.quoted = true
			st := c.on(c.open())
			return func() soultribe.Store { return st }
		}},
}

// TestCanaries calls every method with values that must not be told, where it succeeds and where it fails,
// and looks for them in errors, logs and whatever a tracer sees. What a tracer gets by pgx's design is what
// SECURITY.md lists, and no more. The methods are those of the interface, so that a new one cannot be
// forgotten.
func TestCanaries(t *testing.T) {
	t.Parallel()
	for name, way := range canaryWays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCanaries(t)
			calls := c.calls()
			requireEveryMethod(t, calls)
			_, err := c.db.Pool.Exec(t.Context(), `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				RAISE EXCEPTION 'no: % %', OLD, NEW USING DETAIL = coalesce(NEW, OLD)::text, HINT = coalesce(NEW, OLD)::text, ERRCODE = 'insufficient_privilege'; END $$;
				DO $$ DECLARE name text; BEGIN FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'soultribe%' LOOP `+cmp.Or(way.sql, "NULL")+`; END LOOP; END $$`)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if way.ended {
				cancel()
			}
			store := way.store(c)
			codes := map[string]int{}
			for _, call := range calls {
				err := call.call(ctx, store())
				codes[soultribe.Code(err)]++
				if way.want == "" {
					require.Equal(t, call.want, soultribe.Code(err), "%s: %v", call.method, err)
				}
				c.requireUntold(call, err)
			}
			t.Logf("%d calls: %v, %v", len(calls), codes, c.refused)
			require.True(t, way.want == "" || codes[way.want] > 10, "%v", codes)
			require.True(t, way.sqlState == "" || c.refused[way.sqlState], "%v", c.refused)
			c.untold("the log", c.log.String())
			if way.want == "" {
				require.Contains(t, c.log.String(), "stored password hash cannot be used")
				require.Equal(t, documentedArguments(t), c.boundTo())
			}
		})
	}
}

// requireEveryMethod checks that each method of the interface is called with success, and also without where
// it takes text.
func requireEveryMethod(t *testing.T, calls []canaryCall) {
	t.Helper()
	for m := range reflect.TypeFor[soultribe.Store]().Methods() {
		called := func(succeeds bool) bool {
			return slices.ContainsFunc(calls, func(c canaryCall) bool { return c.method == m.Name && (c.want == "") == succeeds })
		}
		require.True(t, called(true), "%s is not called: add its calls", m.Name)
		for in := range m.Type.Ins() {
			if slices.Contains([]reflect.Type{reflect.TypeFor[string](), reflect.TypeFor[soultribe.NewUser](), reflect.TypeFor[soultribe.NewProfile](),
				reflect.TypeFor[soultribe.ProfileUpdate](), reflect.TypeFor[soultribe.UserQuery]()}, in) {
				require.True(t, called(false), "%s takes text, and is not called where it fails: add such calls", m.Name)
			}
		}
	}
}

// boundTo lists, by kind, the statements that have a canary for an argument.
func (c *canaries) boundTo() map[string][]string {
	lists := map[string][]string{}
	for kind, names := range c.bound {
		for name := range names {
			lists[kind] = append(lists[kind], name)
		}
		slices.Sort(lists[kind])
	}
	return lists
}

// documentedArguments reads the lists of SECURITY.md: a kind, and the statements that have it for an argument.
func documentedArguments(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("SECURITY.md")
	require.NoError(t, err)
	lists := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^ +- ([a-z ]+): (`[^.]*)\\.").FindAllStringSubmatch(string(text), -1) {
		for _, name := range regexp.MustCompile("`([A-Za-z]+)`").FindAllStringSubmatch(m[2], -1) {
			lists[m[1]] = append(lists[m[1]], name[1])
		}
		slices.Sort(lists[m[1]])
	}
	require.NotEmpty(t, lists)
	return lists
}

// TestDetailIsUntold has PostgreSQL quote an address in the detail of an error: it is there for who asks for
// it by errors.As, and in nothing that is printed.
func TestDetailIsUntold(t *testing.T) {
	t.Parallel()
	c := newCanaries(t)
	ctx, st := t.Context(), c.on(c.open())
	email := c.address()
	secret := c.change(c.user(), email)
	plain, err := c.db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = plain.Rollback(context.Background()) }()
	_, err = plain.Exec(ctx, `INSERT INTO "user" (email, password_hash, created_at) VALUES (upper($1), '', '2026-01-01')`, email)
	require.NoError(t, err)
	result := make(chan error, 1)
	go func() { result <- failure(st.VerifyEmail(ctx, secret)) }()
	waitForBlocked(t, c.db)
	require.NoError(t, plain.Commit(ctx))
	err = <-result
	require.ErrorIs(t, err, soultribe.ErrEmailTaken)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	require.True(t, ok)
	require.Contains(t, pg.Detail, strings.ToLower(email))
	c.requireUntold(canaryCall{method: "VerifyEmail"}, err)
}
