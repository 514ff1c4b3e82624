package soultribe_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// signUp makes an account whose password is otherPassword and whose address is not verified.
func signUp(t testing.TB, db *soultribetest.DB, email string) soultribe.User {
	t.Helper()
	u, err := db.Store.CreateUser(t.Context(), soultribe.NewUser{Email: email, Password: otherPassword})
	require.NoError(t, err)
	return u
}

// issuer issues secrets past the cool-down.
type issuer struct {
	t  testing.TB
	db *soultribetest.DB
}

func (i issuer) verification(u soultribe.User) string {
	i.t.Helper()
	i.db.Clock.Advance(time.Minute)
	tok, err := i.db.Store.IssueEmailVerification(i.t.Context(), u.ID)
	require.NoError(i.t, err)
	return tok.Secret()
}

func (i issuer) change(u soultribe.User, email string) string {
	i.t.Helper()
	i.db.Clock.Advance(time.Minute)
	tok, err := i.db.Store.IssueEmailChange(i.t.Context(), u.ID, otherPassword, email)
	require.NoError(i.t, err)
	return tok.Secret()
}

func (i issuer) reset(u soultribe.User) string {
	i.t.Helper()
	i.db.Clock.Advance(time.Minute)
	tok, ok, err := i.db.Store.IssuePasswordReset(i.t.Context(), u.Email)
	require.NoError(i.t, err)
	require.True(i.t, ok)
	return tok.Secret()
}

// inTx makes every other call part of a transaction, of which a statement after it must work.
func inTx(ctx context.Context, st soultribe.Store, i int, call func(ctx context.Context, st soultribe.Store) error) error {
	if i%2 == 0 {
		return call(ctx, st)
	}
	var result error
	err := st.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		result = call(ctx, st)
		_, err := st.Users(ctx, soultribe.UserQuery{Limit: 1})
		return err
	})
	if err != nil {
		return fmt.Errorf("the transaction is of no use after %v: %w", result, err) //nolint:errorlint // the result must not be found in it
	}
	return result
}

// TestTokenRace has 64 calls with one secret: one wins, and one change is made.
func TestTokenRace(t *testing.T) {
	t.Parallel()
	const calls = 64
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, calls)
	issue := issuer{t, db}
	once := map[string]int{"": 1, "token_used": calls - 1}

	u := signUp(t, db, "ann@x.org")
	secret := issue.verification(u)
	require.Equal(t, once, atOnce(calls, func(i int) error {
		return inTx(ctx, st, i, func(ctx context.Context, st soultribe.Store) error { _, err := st.VerifyEmail(ctx, secret); return err })
	}))
	require.Equal(t, []string{"1|1"}, db.Query(t, `SELECT count(*), count(used_at) FROM emailverificationtoken`))

	secret = issue.change(u, "new@x.org")
	require.Equal(t, once, atOnce(calls, func(i int) error {
		return inTx(ctx, st, i, func(ctx context.Context, st soultribe.Store) error { _, err := st.VerifyEmail(ctx, secret); return err })
	}))
	require.Equal(t, []string{"new@x.org"}, db.Query(t, `SELECT email FROM "user"`))

	u.Email = "new@x.org"
	secret = issue.reset(u)
	var winner atomic.Int64
	require.Equal(t, once, atOnce(calls, func(i int) error {
		return inTx(ctx, st, i, func(ctx context.Context, st soultribe.Store) error {
			_, err := st.ResetPassword(ctx, secret, fmt.Sprintf("password number %d", i))
			if err == nil {
				winner.Store(int64(i))
			}
			return err
		})
	}))
	require.NoError(t, db.Store.CheckPassword(ctx, u.ID, fmt.Sprintf("password number %d", winner.Load())))
	require.Equal(t, []string{"1|1"}, db.Query(t, `SELECT count(*), count(used_at) FROM passwordresettoken`))
}

// TestSiblingRace has eight secrets of one user redeemed at one time, each by eight callers: one wins.
func TestSiblingRace(t *testing.T) {
	t.Parallel()
	const secrets, calls = 8, 64
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, calls)
	issue := issuer{t, db}
	once := map[string]int{"": 1, "token_used": calls - 1}
	for round := range 5 {
		u := signUp(t, db, fmt.Sprintf("user%d@x.org", round))
		var verifications, resets [secrets]string
		for i := range secrets {
			if i%2 == 0 {
				verifications[i] = issue.verification(u)
			} else {
				verifications[i] = issue.change(u, fmt.Sprintf("other%d.%d@x.org", round, i))
			}
		}
		require.Equal(t, once, atOnce(calls, func(i int) error { _, err := st.VerifyEmail(ctx, verifications[i%secrets]); return err }))
		u, err := db.Store.User(ctx, u.ID)
		require.NoError(t, err)
		for i := range secrets {
			resets[i] = issue.reset(u)
		}
		require.Equal(t, once, atOnce(calls, func(i int) error { _, err := st.ResetPassword(ctx, resets[i%secrets], otherPassword); return err }))
	}
	require.Equal(t, []string{"0"}, db.Query(t, `SELECT count(*) FROM emailverificationtoken WHERE used_at IS NULL`))
	require.Equal(t, []string{"0"}, db.Query(t, `SELECT count(*) FROM passwordresettoken WHERE used_at IS NULL`))
}

// TestIssueRace has 16 calls at one time, of two processes: one mail's worth of each kind.
func TestIssueRace(t *testing.T) {
	t.Parallel()
	const calls = 16
	ctx := t.Context()
	db := soultribetest.New(t)
	stores := []*soultribe.Postgres{opened(t, db, calls), opened(t, db, calls)}
	u := signUp(t, db, "ann@x.org")
	for round := 1; round <= 5; round++ {
		counts := atOnce(2*calls, func(i int) error {
			st := stores[i/2%2]
			if i%2 == 0 {
				_, err := st.IssueEmailVerification(ctx, u.ID)
				return err
			}
			_, err := st.IssueEmailChange(ctx, u.ID, otherPassword, "new@x.org")
			return err
		})
		require.Equal(t, map[string]int{"": 1, "cooldown": 2*calls - 1}, counts)
		require.Equal(t, []string{fmt.Sprint(round)}, db.Query(t, `SELECT count(*) FROM emailverificationtoken`))
		var issued atomic.Int64
		counts = atOnce(calls, func(i int) error {
			_, ok, err := stores[i%2].IssuePasswordReset(ctx, []string{"ann@x.org", "ANN@x.org"}[i/2%2])
			if ok {
				issued.Add(1)
			}
			return err
		})
		require.Equal(t, map[string]int{"": calls}, counts)
		require.EqualValues(t, 1, issued.Load())
		require.Equal(t, []string{fmt.Sprint(round)}, db.Query(t, `SELECT count(*) FROM passwordresettoken`))
		db.Clock.Advance(time.Minute)
	}
}

// everyValue returns every value of every column of our tables, as text.
func everyValue(t testing.TB, db *soultribetest.DB) []string {
	t.Helper()
	return db.Query(t, `SELECT DISTINCT v.value FROM (
		SELECT to_jsonb(x) AS row FROM "user" x UNION ALL SELECT to_jsonb(x) FROM profile x UNION ALL SELECT to_jsonb(x) FROM availabilityslot x
		UNION ALL SELECT to_jsonb(x) FROM emailverificationtoken x UNION ALL SELECT to_jsonb(x) FROM passwordresettoken x
		UNION ALL SELECT to_jsonb(x) FROM match x UNION ALL SELECT to_jsonb(x) FROM meetup x) rows, jsonb_each_text(row) v WHERE v.value IS NOT NULL`)
}

// TestDumpYieldsNoSecret presents everything that is stored as a secret, whole and in parts.
func TestDumpYieldsNoSecret(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	issue := issuer{t, db}
	u := signUp(t, db, "ann@x.org")
	secrets := []string{issue.verification(u), issue.change(u, "new@x.org"), issue.reset(u)}
	dump := everyValue(t, db)
	var hashes int
	for _, value := range dump {
		tries := []string{value, strings.ToUpper(value), " " + value}
		if hash, ok := strings.CutPrefix(value, "sha256:"); ok {
			hashes++
			tries = append(tries, hash, strings.ToUpper(hash), "SHA256:"+hash)
		}
		for _, try := range tries {
			for _, st := range []soultribe.Store{db.Store, newStore(t, db, db.Pool, soultribe.WithoutPlaintextTokens())} {
				require.ErrorIs(t, st.CheckEmailVerification(ctx, try), soultribe.ErrTokenInvalid)
				require.ErrorIs(t, st.CheckPasswordReset(ctx, try), soultribe.ErrTokenInvalid)
				_, err := st.VerifyEmail(ctx, try)
				require.ErrorIs(t, err, soultribe.ErrTokenInvalid)
				_, err = st.ResetPassword(ctx, try, "another password")
				require.ErrorIs(t, err, soultribe.ErrTokenInvalid)
			}
		}
	}
	require.Equal(t, 3, hashes)
	for _, secret := range secrets {
		require.NotContains(t, strings.Join(dump, "\n"), secret)
	}
	require.Equal(t, []string{"0"}, db.Query(t, `SELECT count(used_at) FROM emailverificationtoken`))
	require.NoError(t, db.Store.CheckEmailVerification(ctx, secrets[1]))
	require.NoError(t, db.Store.CheckPasswordReset(ctx, secrets[2]))
}

// arguments keeps what is bound to statements.
type arguments struct {
	mu   sync.Mutex
	text strings.Builder
}

func (a *arguments) add(sql string, args []any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(&a.text, "%s %#v\n", sql, args)
}

func (a *arguments) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	a.add(data.SQL, data.Args)
	return ctx
}
func (*arguments) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (*arguments) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (a *arguments) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	a.add(data.SQL, data.Args)
}
func (*arguments) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// TestNoSecretIsBound looks at what a tracer, and so a log, gets to see: no secret and no password, also of
// rows that hold plain text.
func TestNoSecretIsBound(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	seen := new(arguments)
	st := newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = seen }))
	u, err := st.CreateUser(ctx, soultribe.NewUser{Email: "ann@x.org", Password: "canary one"})
	require.NoError(t, err)
	plain := "canary-plain-text-of-forty-three-characters"
	sqlToken(t, db, "emailverificationtoken", u.ID, plain, "2026-04-01")
	tok, err := st.IssueEmailVerification(ctx, u.ID)
	require.NoError(t, err)
	reset, _, err := st.IssuePasswordReset(ctx, u.Email)
	require.NoError(t, err)
	for _, secret := range []string{plain, tok.Secret(), reset.Secret(), "canary-unknown"} {
		_ = st.CheckEmailVerification(ctx, secret)
		_ = st.CheckPasswordReset(ctx, secret)
		_, _ = st.VerifyEmail(ctx, secret)
		_, _ = st.ResetPassword(ctx, secret, "canary two")
	}
	_, _ = st.Authenticate(ctx, u.Email, "canary two")
	_, _ = st.Authenticate(ctx, u.Email, "canary wrong")
	require.NoError(t, st.ChangePassword(ctx, u.ID, "canary two", "canary three"))
	require.NoError(t, st.SetPassword(ctx, u.ID, "canary four"))
	_, err = st.IssueEmailChange(ctx, u.ID, "canary four", "new@x.org")
	require.ErrorIs(t, err, soultribe.ErrCooldown)
	text := seen.text.String()
	require.Contains(t, text, "-- name: ResetPassword")
	for _, secret := range []string{"canary", tok.Secret(), reset.Secret()} {
		require.NotContains(t, text, secret)
	}
}

// sqlToken stores a secret in plain text, as another application does.
func sqlToken(t testing.TB, db *soultribetest.DB, table string, user soultribe.UserID, secret, expires string) {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), `INSERT INTO `+table+` (user_id, token, expires_at, created_at) VALUES ($1, $2, $3::text::timestamp, '2026-03-02')`,
		int64(user), secret, expires)
	require.NoError(t, err)
}

// TestPlaintextTokens redeems what another application stored.
func TestPlaintextTokens(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	strict := newStore(t, db, db.Pool, soultribe.WithoutPlaintextTokens())
	for i, secret := range []string{
		"yqVZtYhA3mF0n9Jb2cK7xR5wT8uE1iO6pL4sD_gH-aQ", "short", `back\slash\\and\000`, `\x00`, "per%cent_", "ünïcode 🔑", " spaces ", strings.Repeat("x", 1024),
	} {
		u := signUp(t, db, fmt.Sprintf("user%d@x.org", i))
		sqlToken(t, db, "emailverificationtoken", u.ID, secret, "2026-04-01")
		sqlToken(t, db, "passwordresettoken", u.ID, secret, "2026-04-01")
		require.ErrorIs(t, strict.CheckEmailVerification(ctx, secret), soultribe.ErrTokenInvalid)
		require.ErrorIs(t, strict.CheckPasswordReset(ctx, secret), soultribe.ErrTokenInvalid)
		_, err := strict.VerifyEmail(ctx, secret)
		require.ErrorIs(t, err, soultribe.ErrTokenInvalid)
		_, err = strict.ResetPassword(ctx, secret, "another password")
		require.ErrorIs(t, err, soultribe.ErrTokenInvalid)

		require.NoError(t, db.Store.CheckEmailVerification(ctx, secret))
		u, err = db.Store.VerifyEmail(ctx, secret)
		require.NoError(t, err)
		require.NotNil(t, u.EmailVerifiedAt)
		_, err = db.Store.VerifyEmail(ctx, secret)
		require.ErrorIs(t, err, soultribe.ErrTokenUsed)
		require.NoError(t, db.Store.CheckPasswordReset(ctx, secret))
		_, err = db.Store.ResetPassword(ctx, secret, "another password")
		require.NoError(t, err)
		_, err = db.Store.ResetPassword(ctx, secret, "another password")
		require.ErrorIs(t, err, soultribe.ErrTokenUsed)
	}

	u := signUp(t, db, "ann@x.org")
	// What looks like a stored hash never works, whoever stored it; nor what expired.
	hash := "sha256:" + strings.Repeat("a", 64)
	sqlToken(t, db, "passwordresettoken", u.ID, hash, "2026-04-01")
	require.ErrorIs(t, db.Store.CheckPasswordReset(ctx, hash), soultribe.ErrTokenInvalid)
	sqlToken(t, db, "passwordresettoken", u.ID, "expired", "2026-03-02 09:00:00")
	require.ErrorIs(t, db.Store.CheckPasswordReset(ctx, "expired"), soultribe.ErrTokenExpired)
	// A row that does not say where it was mailed to verifies nothing by a reset, and dies with its siblings.
	sqlToken(t, db, "passwordresettoken", u.ID, "first", "infinity")
	sqlToken(t, db, "passwordresettoken", u.ID, "second", "2026-04-01")
	got, err := db.Store.ResetPassword(ctx, "first", "another password")
	require.NoError(t, err)
	require.Nil(t, got.EmailVerifiedAt)
	require.ErrorIs(t, db.Store.CheckPasswordReset(ctx, "second"), soultribe.ErrTokenUsed)
}

// TestPlaintextTokenRace has 64 calls with a secret that is stored as it is.
func TestPlaintextTokenRace(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	st := opened(t, db, 64)
	u := signUp(t, db, "ann@x.org")
	sqlToken(t, db, "passwordresettoken", u.ID, "plain text", "2026-04-01")
	require.Equal(t, map[string]int{"": 1, "token_used": 63}, atOnce(64, func(int) error {
		_, err := st.ResetPassword(t.Context(), "plain text", otherPassword)
		return err
	}))
}

// TestTokenFollowsAddress has the host's own SQL change an address: what was mailed to the old one does
// not verify the new one, and resets nothing.
func TestTokenFollowsAddress(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	issue := issuer{t, db}
	u := signUp(t, db, "old@x.org")
	verification, reset := issue.verification(u), issue.reset(u)
	change := issue.change(u, "third@x.org")
	move := func(email string) {
		_, err := db.Pool.Exec(ctx, `UPDATE "user" SET email = $1`, email)
		require.NoError(t, err)
	}
	move("new@x.org")
	require.ErrorIs(t, db.Store.CheckEmailVerification(ctx, verification), soultribe.ErrTokenUsed)
	_, err := db.Store.VerifyEmail(ctx, verification)
	require.ErrorIs(t, err, soultribe.ErrTokenUsed)
	require.ErrorIs(t, db.Store.CheckPasswordReset(ctx, reset), soultribe.ErrTokenUsed)
	_, err = db.Store.ResetPassword(ctx, reset, "the old mailbox's")
	require.ErrorIs(t, err, soultribe.ErrTokenUsed)
	require.Equal(t, []string{"new@x.org||"}, db.Query(t, `SELECT email, email_verified_at, credentials_changed_at FROM "user"`))
	require.NoError(t, db.Store.CheckEmailVerification(ctx, change))

	move("OLD@x.org") // the same address
	require.NoError(t, db.Store.CheckPasswordReset(ctx, reset))
	got, err := db.Store.VerifyEmail(ctx, verification)
	require.NoError(t, err)
	require.Equal(t, "OLD@x.org", got.Email)
	got, err = db.Store.ResetPassword(ctx, reset, "another password")
	require.NoError(t, err)
	require.Equal(t, "OLD@x.org", got.Email)
}

// TestIssuedMeanwhileDies has a secret issued, at the same instant, by a transaction that a change waits
// for: the change kills it all the same.
func TestIssuedMeanwhileDies(t *testing.T) {
	t.Parallel()
	type secrets struct{ reset, change string }
	reset := func(ctx context.Context, st soultribe.Store) (secrets, error) {
		tok, _, err := st.IssuePasswordReset(ctx, "ann@x.org")
		return secrets{reset: tok.Secret()}, err
	}
	change := func(ctx context.Context, st soultribe.Store) (secrets, error) {
		u, err := st.UserByEmail(ctx, "ann@x.org")
		if err != nil {
			return secrets{}, err
		}
		tok, err := st.IssueEmailChange(ctx, u.ID, otherPassword, "attacker@x.org")
		return secrets{change: tok.Secret()}, err
	}
	tests := []struct {
		name  string
		issue func(ctx context.Context, st soultribe.Store) (secrets, error)
		kill  func(ctx context.Context, st soultribe.Store, u soultribe.User, own secrets) error
	}{
		{"reset by ChangePassword", reset, func(ctx context.Context, st soultribe.Store, u soultribe.User, _ secrets) error {
			return st.ChangePassword(ctx, u.ID, otherPassword, "another password")
		}},
		{"reset by SetPassword", reset, func(ctx context.Context, st soultribe.Store, u soultribe.User, _ secrets) error {
			return st.SetPassword(ctx, u.ID, "another password")
		}},
		{"reset by ResetPassword", reset, func(ctx context.Context, st soultribe.Store, _ soultribe.User, own secrets) error {
			_, err := st.ResetPassword(ctx, own.reset, "another password")
			return err
		}},
		{"reset by a change of address", reset, func(ctx context.Context, st soultribe.Store, _ soultribe.User, own secrets) error {
			_, err := st.VerifyEmail(ctx, own.change)
			return err
		}},
		{"change by ChangePassword", change, func(ctx context.Context, st soultribe.Store, u soultribe.User, _ secrets) error {
			return st.ChangePassword(ctx, u.ID, otherPassword, "another password")
		}},
		{"change by SetPassword", change, func(ctx context.Context, st soultribe.Store, u soultribe.User, _ secrets) error {
			return st.SetPassword(ctx, u.ID, "another password")
		}},
		{"change by ResetPassword", change, func(ctx context.Context, st soultribe.Store, _ soultribe.User, own secrets) error {
			_, err := st.ResetPassword(ctx, own.reset, "another password")
			return err
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := soultribetest.New(t)
			issue := issuer{t, db}
			u := signUp(t, db, "ann@x.org")
			own := secrets{reset: issue.reset(u), change: issue.change(u, "new@x.org")}
			db.Clock.Advance(time.Minute)

			tx, err := db.Pool.Begin(ctx)
			require.NoError(t, err)
			issued, err := test.issue(ctx, db.Store.WithTx(tx))
			require.NoError(t, err)
			killed := make(chan error)
			go func() { killed <- test.kill(ctx, db.Store, u, own) }()
			waitForBlocked(t, db)
			require.NoError(t, tx.Commit(ctx))
			require.NoError(t, <-killed)

			if issued.reset != "" {
				require.ErrorIs(t, db.Store.CheckPasswordReset(ctx, issued.reset), soultribe.ErrTokenUsed)
				_, err := db.Store.ResetPassword(ctx, issued.reset, "the attacker's own")
				require.ErrorIs(t, err, soultribe.ErrTokenUsed)
			} else {
				require.ErrorIs(t, db.Store.CheckEmailVerification(ctx, issued.change), soultribe.ErrTokenUsed)
				_, err := db.Store.VerifyEmail(ctx, issued.change)
				require.ErrorIs(t, err, soultribe.ErrTokenUsed)
			}
		})
	}
}

// TestResetsAndChangesRace has resets issued while the password is changed again and again. Those that
// were there before a change began are dead after it.
func TestResetsAndChangesRace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, 16, soultribe.WithCooldowns(soultribe.Cooldowns{Token: -1}))
	u := signUp(t, db, "ann@x.org")
	var mu sync.Mutex
	var issued []string
	var dead int
	counts := atOnce(16, func(i int) error {
		for range 10 {
			if i%4 != 0 {
				tok, _, err := st.IssuePasswordReset(ctx, u.Email)
				if err != nil {
					return err
				}
				mu.Lock()
				issued = append(issued, tok.Secret())
				mu.Unlock()
				continue
			}
			mu.Lock()
			before := issued[len(issued)/2:]
			mu.Unlock()
			if err := st.SetPassword(ctx, u.ID, otherPassword); err != nil {
				return err
			}
			for _, secret := range before {
				if err := st.CheckPasswordReset(ctx, secret); soultribe.Code(err) != "token_used" {
					return fmt.Errorf("a reset outlives a change of password: %w", err)
				}
			}
			mu.Lock()
			dead += len(before)
			mu.Unlock()
		}
		return nil
	})
	require.Equal(t, map[string]int{"": 16}, counts)
	t.Logf("%d resets, 40 changes, %d looks at dead ones", len(issued), dead)
	require.NoError(t, st.SetPassword(ctx, u.ID, otherPassword))
	require.Equal(t, []string{"120|0"}, db.Query(t, `SELECT count(*), count(*) FILTER (WHERE used_at IS NULL) FROM passwordresettoken`))
}

// TestEmailChangeNeedsPresentPassword changes the password between the check of IssueEmailChange and its issue.
func TestEmailChangeNeedsPresentPassword(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	u := signUp(t, db, "ann@x.org")
	st := hookedStore(t, db, "IssueEmailChange", func() { require.NoError(t, db.Store.SetPassword(ctx, u.ID, "another password")) })
	_, err := st.IssueEmailChange(ctx, u.ID, otherPassword, "new@x.org")
	require.ErrorIs(t, err, soultribe.ErrInvalidCredentials)
	require.Empty(t, db.Query(t, `SELECT id FROM emailverificationtoken`))

	// A hash that a login renews is no other password.
	id, _ := laggingUser(t, db, "bob@x.org")
	st = hookedStore(t, db, "IssueEmailChange", func() {
		_, err := db.Store.Authenticate(ctx, "bob@x.org", otherPassword)
		require.NoError(t, err)
	})
	tok, err := st.IssueEmailChange(ctx, id, otherPassword, "new@x.org")
	require.NoError(t, err)
	require.Equal(t, "new@x.org", tok.Email)

	st = hookedStore(t, db, "IssueEmailChange", func() { _, err := db.Store.DeleteUser(ctx, id); require.NoError(t, err) })
	_, err = st.IssueEmailChange(ctx, id, otherPassword, "newer@x.org")
	require.ErrorIs(t, err, soultribe.ErrNotFound)
}

// TestLookingIsReadOnly looks at secrets a hundred times in a read-only transaction.
func TestLookingIsReadOnly(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	issue := issuer{t, db}
	u := signUp(t, db, "ann@x.org")
	verification, change, reset := issue.verification(u), issue.change(u, "new@x.org"), issue.reset(u)
	before := everyValue(t, db)
	tx, err := db.Pool.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	require.NoError(t, err)
	st := db.Store.WithTx(tx)
	for range 100 {
		require.NoError(t, st.CheckEmailVerification(ctx, verification))
		require.NoError(t, st.CheckEmailVerification(ctx, change))
		require.NoError(t, st.CheckPasswordReset(ctx, reset))
		require.ErrorIs(t, st.CheckPasswordReset(ctx, "unknown"), soultribe.ErrTokenInvalid)
	}
	require.NoError(t, tx.Commit(ctx))
	require.ElementsMatch(t, before, everyValue(t, db))
	_, err = db.Store.ResetPassword(ctx, reset, "another password")
	require.NoError(t, err)
	_, err = db.Store.VerifyEmail(ctx, verification)
	require.NoError(t, err)
}

// TestAddressRace has sixteen people change to one address, and sixteen visitors register it, at one time.
func TestAddressRace(t *testing.T) {
	t.Parallel()
	const each = 16
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, 2*each)
	issue := issuer{t, db}
	for round := range 5 {
		var secrets [each]string
		for i := range secrets {
			u := signUp(t, db, fmt.Sprintf("user%d.%d@x.org", round, i))
			secrets[i] = issue.change(u, fmt.Sprintf("%s%d@x.org", []string{"new", "NEW"}[i%2], round))
		}
		require.Equal(t, map[string]int{"": 1, "email_taken": 2*each - 1}, atOnce(2*each, func(i int) error {
			return inTx(ctx, st, i/2, func(ctx context.Context, st soultribe.Store) error {
				if i%2 == 0 {
					_, err := st.VerifyEmail(ctx, secrets[i/2])
					return err
				}
				_, err := st.CreateUser(ctx, soultribe.NewUser{Email: fmt.Sprintf("New%d@x.org", round), Password: otherPassword})
				return err
			})
		}))
		require.Equal(t, []string{"1"}, db.Query(t, `SELECT count(*) FROM "user" WHERE lower(email) = $1`, fmt.Sprintf("new%d@x.org", round)))
		// Who lost has not used the secret.
		for _, secret := range secrets {
			require.Contains(t, []string{"email_taken", "token_used"}, soultribe.Code(db.Store.CheckEmailVerification(ctx, secret)))
		}
	}
	require.LessOrEqual(t, len(db.Query(t, `SELECT id FROM emailverificationtoken WHERE used_at IS NOT NULL`)), 5)
}

// TestAddressTakenByWaiting redeems a change while a transaction of another client holds the address: the index
// decides, and the caller's transaction goes on.
func TestAddressTakenByWaiting(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	issue := issuer{t, db}
	u := signUp(t, db, "ann@x.org")
	secret := issue.change(u, "new@x.org")
	other, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = other.Exec(ctx, `INSERT INTO "user" (email, password_hash, created_at) VALUES ('NEW@x.org', '', '2026-01-01')`)
	require.NoError(t, err)
	result := make(chan error)
	go func() {
		result <- inTx(ctx, db.Store, 1, func(ctx context.Context, st soultribe.Store) error { _, err := st.VerifyEmail(ctx, secret); return err })
	}()
	waitForBlocked(t, db)
	require.NoError(t, other.Commit(ctx))
	err = <-result
	require.ErrorIs(t, err, soultribe.ErrEmailTaken)
	require.NotContains(t, err.Error(), "@")
	require.Equal(t, []string{"ann@x.org|0"}, db.Query(t, `SELECT u.email, count(t.used_at) FROM "user" u JOIN emailverificationtoken t ON t.user_id = u.id GROUP BY 1`))
}

// TestCooldownOfOtherRows stores tokens dated where a cool-down must not look.
func TestCooldownOfOtherRows(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	u, other := signUp(t, db, "ann@x.org"), signUp(t, db, "bob@x.org")
	for i, created := range []string{"infinity", "-infinity", "2999-01-01", "0044-03-15 BC", "2026-03-02 08:59:00", "2026-03-02 09:01:00.000001"} {
		_, err := db.Pool.Exec(ctx, `INSERT INTO passwordresettoken (user_id, token, expires_at, created_at, used_at) VALUES ($1, $2, 'infinity', $3::text::timestamp, '-infinity')`,
			int64(u.ID), fmt.Sprint("token", i), created)
		require.NoError(t, err)
		require.ErrorIs(t, db.Store.CheckPasswordReset(ctx, fmt.Sprint("token", i)), soultribe.ErrTokenUsed)
	}
	_, ok, err := db.Store.IssuePasswordReset(ctx, u.Email)
	require.NoError(t, err)
	require.True(t, ok)
	// One within the cool-down counts, be its process's clock ahead.
	_, err = db.Pool.Exec(ctx, `INSERT INTO emailverificationtoken (user_id, token, expires_at, created_at) VALUES ($1, 'x', '2026-04-01', '2026-03-02 09:00:59')`, int64(other.ID))
	require.NoError(t, err)
	_, err = db.Store.IssueEmailVerification(ctx, other.ID)
	var cooldown *soultribe.CooldownError
	require.ErrorAs(t, err, &cooldown)
	require.Equal(t, time.Date(2026, 3, 2, 9, 1, 59, 0, time.UTC), cooldown.Until)
}

// TestIssueAndDeleteRace issues tokens while their user is deleted.
func TestIssueAndDeleteRace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, 24, soultribe.WithCooldowns(soultribe.Cooldowns{Token: -1}))
	for round := range 10 {
		u := signUp(t, db, fmt.Sprintf("user%d@x.org", round))
		tok := issuer{t, db}.reset(u)
		counts := atOnce(24, func(i int) error {
			var err error
			switch i % 6 {
			case 0:
				_, err = st.IssueEmailVerification(ctx, u.ID)
			case 1:
				_, err = st.IssueEmailChange(ctx, u.ID, otherPassword, "new@x.org")
			case 2:
				_, _, err = st.IssuePasswordReset(ctx, u.Email)
			case 3:
				_, err = st.ResetPassword(ctx, tok, otherPassword)
			case 4:
				err = st.SetPassword(ctx, u.ID, otherPassword)
			case 5:
				_, err = st.DeleteUser(ctx, u.ID)
			}
			return err
		})
		for code := range counts {
			require.Contains(t, []string{"", "not_found", "token_invalid", "token_used", "already_verified"}, code)
		}
	}
	for _, table := range []string{`"user"`, "emailverificationtoken", "passwordresettoken"} {
		require.Empty(t, db.Query(t, `SELECT * FROM `+table))
	}
}

// TestEmailChangeFromBeforeAPasswordChange has a password change that cannot see a change of address, as
// its transaction's snapshot is older: the secret is dead all the same.
func TestEmailChangeFromBeforeAPasswordChange(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	ann := db.User(t)
	const password = "correct horse battery"
	require.NoError(t, db.Store.SetPassword(t.Context(), ann.ID, password))
	tx, err := db.Pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	st := db.Store.WithTx(tx)
	_, err = st.User(t.Context(), ann.ID)
	require.NoError(t, err)

	token, err := db.Store.IssueEmailChange(t.Context(), ann.ID, password, "other@example.org")
	require.NoError(t, err)
	db.Clock.Advance(time.Second)
	require.NoError(t, st.SetPassword(t.Context(), ann.ID, "another horse battery"))
	require.NoError(t, tx.Commit(t.Context()))

	require.ErrorIs(t, db.Store.CheckEmailVerification(t.Context(), token.Secret()), soultribe.ErrTokenUsed)
	_, err = db.Store.VerifyEmail(t.Context(), token.Secret())
	require.ErrorIs(t, err, soultribe.ErrTokenUsed)
	require.Equal(t, []string{ann.Email}, db.Query(t, `SELECT email FROM "user"`))
}
