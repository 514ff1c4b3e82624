package soultribe_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
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

// The hashes of "correct horse" that argon2-cffi and passlib made for other applications.
var otherHashes = []string{
	"$argon2id$v=19$m=102400,t=2,p=8$Y53fTtr1rTH8D3HTnEquBg$vUTstBPk13W9sTn9fhenKA",
	"$argon2id$v=19$m=102400,t=2,p=8$+J8TYgxhzPk/p3TOmfPeew$YxxA0KvUkRw9/yjXdLg8Pw",
}

const otherPassword = "correct horse"

// ownHash begins the hashes of soultribetest's parameters.
const ownHash = "$argon2id$v=19$m=64,t=1,p=1$"

// sqlUser stores an account as another application does.
func sqlUser(t testing.TB, db *soultribetest.DB, email, hash string) soultribe.UserID {
	t.Helper()
	var id int64
	require.NoError(t, db.Pool.QueryRow(t.Context(), `INSERT INTO "user" (email, password_hash, created_at) VALUES ($1, $2, '2025-01-01') RETURNING id`,
		email, hash).Scan(&id))
	return soultribe.UserID(id)
}

// laggingUser makes an account whose password is otherPassword and whose hash is to be renewed.
func laggingUser(t testing.TB, db *soultribetest.DB, email string) (id soultribe.UserID, hash string) {
	t.Helper()
	st := newStore(t, db, db.Pool, soultribe.WithPasswordParams(soultribe.PasswordParams{MemoryKiB: 64, Iterations: 2, Parallelism: 1}))
	u, err := st.CreateUser(t.Context(), soultribe.NewUser{Email: email, Password: otherPassword})
	require.NoError(t, err)
	return u.ID, storedHash(t, db, u.ID)
}

func storedHash(t testing.TB, db *soultribetest.DB, id soultribe.UserID) string {
	t.Helper()
	return db.Query(t, `SELECT password_hash FROM "user" WHERE id = $1`, int64(id))[0]
}

// hooked is a pool that calls before ahead of each statement, with its text.
type hooked struct {
	*pgxpool.Pool
	before func(sql string)
}

func (h hooked) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	h.before(sql)
	return h.Pool.Query(ctx, sql, args...)
}

func (h hooked) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	for _, q := range b.QueuedQueries {
		h.before(q.SQL)
	}
	return h.Pool.SendBatch(ctx, b)
}

// hookedStore is a Store that calls f, once, ahead of the first statement of a name.
func hookedStore(t testing.TB, db *soultribetest.DB, name string, f func()) *soultribe.Postgres {
	t.Helper()
	var once sync.Once
	return newStore(t, db, hooked{db.Pool, func(sql string) {
		if strings.HasPrefix(sql, "-- name: "+name+"\n") {
			once.Do(f)
		}
	}})
}

// TestOtherHashes logs in with the hashes of other applications, which are renewed by that and by nothing else.
func TestOtherHashes(t *testing.T) {
	t.Parallel()
	for i, hash := range otherHashes {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := soultribetest.New(t)
			id := sqlUser(t, db, "Ann@x.org", hash)
			for _, password := range []string{"", "correct", otherPassword + " ", hash} {
				_, err := db.Store.Authenticate(ctx, "ann@x.org", password)
				require.ErrorIs(t, err, soultribe.ErrInvalidCredentials)
			}
			require.NoError(t, db.Store.CheckPassword(ctx, id, otherPassword))

			// In a read-only transaction the login succeeds all the same, and the transaction goes on.
			tx, err := db.Pool.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
			require.NoError(t, err)
			_, err = db.Store.WithTx(tx).Authenticate(ctx, "ann@x.org", otherPassword)
			require.NoError(t, err)
			_, err = db.Store.WithTx(tx).User(ctx, id)
			require.NoError(t, err)
			require.NoError(t, tx.Commit(ctx))
			require.Equal(t, hash, storedHash(t, db, id))

			u, err := db.Store.Authenticate(ctx, "ann@x.org", otherPassword)
			require.NoError(t, err)
			require.Equal(t, soultribe.User{ID: id, Email: "Ann@x.org", CreatedAt: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
				CredentialsChangedAt: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}, u)
			renewed := storedHash(t, db, id)
			require.True(t, strings.HasPrefix(renewed, ownHash), renewed)
			require.Equal(t, []string{""}, db.Query(t, `SELECT credentials_changed_at FROM "user"`)) // sessions go on

			_, err = db.Store.Authenticate(ctx, "ann@x.org", otherPassword)
			require.NoError(t, err)
			require.Equal(t, renewed, storedHash(t, db, id))
		})
	}
}

// TestRehashFollowsTransaction renews a hash in the caller's transaction, which decides.
func TestRehashFollowsTransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	id, hash := laggingUser(t, db, "ann@x.org")
	tx, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = db.Store.WithTx(tx).Authenticate(ctx, "ann@x.org", otherPassword)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(ctx))
	require.Equal(t, hash, storedHash(t, db, id))
	require.NoError(t, db.Store.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		_, err := st.Authenticate(ctx, "ann@x.org", otherPassword)
		return err
	}))
	require.True(t, strings.HasPrefix(storedHash(t, db, id), ownHash))
}

// TestRehashFailureIsNoFailure has the host's trigger refuse the new hash: in a transaction and out of it the login
// succeeds, the operator hears of it, and nobody of an address or a hash.
func TestRehashFailureIsNoFailure(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	id, hash := laggingUser(t, db, "ann@x.org")
	_, err := db.Pool.Exec(ctx, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no: % %', OLD.email, NEW.password_hash; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON "user" FOR EACH ROW EXECUTE FUNCTION refuse()`)
	require.NoError(t, err)
	var log bytes.Buffer
	st := newStore(t, db, db.Pool, soultribe.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	_, err = st.Authenticate(ctx, "ann@x.org", otherPassword)
	require.NoError(t, err)
	require.NoError(t, st.InTx(ctx, func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		_, err := st.Authenticate(ctx, "ann@x.org", otherPassword)
		require.NoError(t, err)
		_, err = st.User(ctx, id)
		return err
	}))
	require.Equal(t, hash, storedHash(t, db, id))
	require.Equal(t, 2, strings.Count(log.String(), fmt.Sprintf("user_id=%d", id)), log.String())
	require.NotContains(t, log.String(), "ann@")
	require.NotContains(t, log.String(), "argon2")

	err = st.SetPassword(ctx, id, "another password")
	require.Error(t, err)
	require.Equal(t, "internal", soultribe.Code(err))
	require.NotContains(t, err.Error(), "ann@")
	require.NotContains(t, err.Error(), "argon2")
}

// TestRehashNeverUndoesAChange changes the password while a login is between its check and its renewal
// of the hash.
func TestRehashNeverUndoesAChange(t *testing.T) {
	t.Parallel()
	const next = "another password"
	for name, change := range map[string]func(ctx context.Context, st soultribe.Store, id soultribe.UserID) error{
		"ChangePassword": func(ctx context.Context, st soultribe.Store, id soultribe.UserID) error {
			return st.ChangePassword(ctx, id, otherPassword, next)
		},
		"SetPassword": func(ctx context.Context, st soultribe.Store, id soultribe.UserID) error {
			return st.SetPassword(ctx, id, next)
		},
		"ResetPassword": func(ctx context.Context, st soultribe.Store, _ soultribe.UserID) error {
			tok, _, err := st.IssuePasswordReset(ctx, "ann@x.org")
			if err != nil {
				return err
			}
			_, err = st.ResetPassword(ctx, tok.Secret(), next)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := soultribetest.New(t)
			id, _ := laggingUser(t, db, "ann@x.org")
			var changed string
			st := hookedStore(t, db, "Rehash", func() {
				require.NoError(t, change(ctx, db.Store, id))
				changed = storedHash(t, db, id)
			})
			_, err := st.Authenticate(ctx, "ann@x.org", otherPassword)
			require.NoError(t, err) // it was right when it was checked
			require.NotEmpty(t, changed)
			require.Equal(t, changed, storedHash(t, db, id))
			require.NoError(t, db.Store.CheckPassword(ctx, id, next))
			require.ErrorIs(t, db.Store.CheckPassword(ctx, id, otherPassword), soultribe.ErrInvalidCredentials)
		})
	}
}

// TestChangePasswordSeesOthers has the hash change between the two statements of ChangePassword: renewed by
// a login, which it survives, and reset, which it must not undo.
func TestChangePasswordSeesOthers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	id, _ := laggingUser(t, db, "ann@x.org")
	st := hookedStore(t, db, "ChangePassword", func() {
		_, err := db.Store.Authenticate(ctx, "ann@x.org", otherPassword)
		require.NoError(t, err)
	})
	require.NoError(t, st.ChangePassword(ctx, id, otherPassword, "second password"))
	require.NoError(t, db.Store.CheckPassword(ctx, id, "second password"))

	st = hookedStore(t, db, "ChangePassword", func() { require.NoError(t, db.Store.SetPassword(ctx, id, "third password")) })
	require.ErrorIs(t, st.ChangePassword(ctx, id, "second password", "fourth password"), soultribe.ErrInvalidCredentials)
	require.NoError(t, db.Store.CheckPassword(ctx, id, "third password"))

	st = hookedStore(t, db, "ChangePassword", func() {
		_, err := db.Store.DeleteUser(ctx, id)
		require.NoError(t, err)
	})
	require.ErrorIs(t, st.ChangePassword(ctx, id, "third password", "fourth password"), soultribe.ErrNotFound)
}

// TestPasswordRace has logins that renew the hash race changes and resets of the password, of which one
// must win: each needs what the other takes away.
func TestPasswordRace(t *testing.T) {
	t.Parallel()
	const rounds, each = 20, 12
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, 3*each)
	wins := map[string]int{}
	for round := range rounds {
		email := fmt.Sprintf("user%d@x.org", round)
		id, _ := laggingUser(t, db, email)
		tok, ok, err := db.Store.IssuePasswordReset(ctx, email)
		require.NoError(t, err)
		require.True(t, ok)
		var winner atomic.Pointer[string]
		var mu sync.Mutex
		counts := atOnce(3*each, func(i int) error {
			var err error
			next := fmt.Sprintf("password number %d", i)
			kind := []string{"login", "change", "reset"}[i%3]
			switch kind {
			case "login":
				if _, err := st.Authenticate(ctx, email, otherPassword); err != nil {
					return err
				}
				return soultribe.ErrInvalidCredentials // counted with those that lost
			case "change":
				err = st.ChangePassword(ctx, id, otherPassword, next)
			case "reset":
				_, err = st.ResetPassword(ctx, tok.Secret(), next)
			}
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				wins[kind]++
				winner.Store(&next)
			}
			return err
		})
		require.Equal(t, 1, counts[""], "%v", counts)
		require.Equal(t, 3*each-1, counts["invalid_credentials"]+counts["token_used"], "%v", counts)
		require.NoError(t, db.Store.CheckPassword(ctx, id, *winner.Load()))
		require.ErrorIs(t, db.Store.CheckPassword(ctx, id, otherPassword), soultribe.ErrInvalidCredentials)
		require.Equal(t, []string{"true|true"}, db.Query(t, `SELECT credentials_changed_at IS NOT NULL, password_hash LIKE $2 FROM "user" WHERE id = $1`, int64(id), ownHash+"%"))
		require.Equal(t, []string{"0"}, db.Query(t, `SELECT count(*) FROM passwordresettoken WHERE user_id = $1 AND used_at IS NULL`, int64(id)))
	}
	t.Logf("%d rounds of %d calls: %d won each, %v", rounds, 3*each, 1, wins)
}

// TestJunkHashes stores what no password matches.
func TestJunkHashes(t *testing.T) {
	t.Parallel()
	const salt, key = "c2FsdHNhbHRzYWx0c2FsdA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	ctx := t.Context()
	db := soultribetest.New(t)
	var log bytes.Buffer
	st := newStore(t, db, db.Pool, soultribe.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
	for i, hash := range []string{
		"", "argon2$dev", "!", "correct horse", "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$", "$argon2id$v=19$m=64,t=1,p=1$$" + key, "$argon2id$v=19$m=64,t=1,p=1$$",
		"$argon2id$v=19$m=4294967295,t=1,p=1$" + salt + "$" + key, "$argon2id$v=19$m=4194304,t=1,p=1$" + salt + "$" + key, "$argon2id$v=19$m=64,t=0,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=4294967295,p=1$" + salt + "$" + key, "$argon2id$v=19$m=64,t=1,p=0$" + salt + "$" + key, "$argon2id$v=19$m=0,t=0,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + strings.Repeat("A", 4<<20), strings.Repeat("$argon2id", 1<<20),
	} {
		email := fmt.Sprintf("user%d@x.org", i)
		id := sqlUser(t, db, email, hash)
		for _, password := range []string{"", otherPassword, hash, "dev"} {
			_, err := st.Authenticate(ctx, email, password)
			require.ErrorIs(t, err, soultribe.ErrInvalidCredentials)
			require.Equal(t, "soultribe: Authenticate: invalid credentials", err.Error())
			require.ErrorIs(t, st.CheckPassword(ctx, id, password), soultribe.ErrInvalidCredentials)
			require.ErrorIs(t, st.ChangePassword(ctx, id, password, "another password"), soultribe.ErrInvalidCredentials)
			_, err = st.IssueEmailChange(ctx, id, password, "new@x.org")
			require.ErrorIs(t, err, soultribe.ErrInvalidCredentials)
		}
		require.Equal(t, hash, storedHash(t, db, id))
		require.Contains(t, log.String(), fmt.Sprintf(`"user_id":%d}`, id))

		// Its owner has a way back.
		tok, ok, err := st.IssuePasswordReset(ctx, email)
		require.NoError(t, err)
		require.True(t, ok)
		_, err = st.ResetPassword(ctx, tok.Secret(), otherPassword)
		require.NoError(t, err)
		_, err = st.Authenticate(ctx, email, otherPassword)
		require.NoError(t, err)
	}
	require.NotContains(t, log.String(), "x.org")
	require.NotContains(t, log.String(), "argon2")
}

// TestHashBeyondTheCeiling has a hash that needs more memory than the ceiling: it never verifies, and nothing waits
// for memory that cannot come.
func TestHashBeyondTheCeiling(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t, soultribetest.WithStoreOptions(soultribe.WithHashMemory(102400-1)))
	id := sqlUser(t, db, "ann@x.org", otherHashes[0])
	_, err := db.Store.Authenticate(ctx, "ann@x.org", otherPassword)
	require.ErrorIs(t, err, soultribe.ErrInvalidCredentials)
	require.NoError(t, newStore(t, db, db.Pool, soultribe.WithHashMemory(102400)).CheckPassword(ctx, id, otherPassword))

	_, err = soultribe.New(db.Pool, soultribe.WithHashMemory(64<<10-1))
	require.ErrorIs(t, err, soultribe.ErrInvalid)
}

// TestLoginsShareMemory has 200 logins at one time with memory for one.
func TestLoginsShareMemory(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	st := newStore(t, db, db.Pool, soultribe.WithHashMemory(64))
	_, err := st.CreateUser(t.Context(), soultribe.NewUser{Email: "ann@x.org", Password: otherPassword})
	require.NoError(t, err)
	cancelled, cancel := context.WithCancel(t.Context())
	counts := atOnce(200, func(i int) error {
		switch i % 4 {
		case 0:
			_, err := st.Authenticate(t.Context(), "ann@x.org", "wrong")
			return err
		case 1:
			_, err := st.Authenticate(t.Context(), "nobody@x.org", otherPassword)
			return err
		case 2:
			cancel()
			_, err := st.Authenticate(cancelled, "ann@x.org", otherPassword)
			return err
		}
		_, err := st.Authenticate(t.Context(), "ann@x.org", otherPassword)
		return err
	})
	require.Equal(t, map[string]int{"": 50, "invalid_credentials": 100, "canceled": 50}, counts)
}

// hashes is a context that counts how often a password is hashed under it: derive asks for its Err each
// time, beside all the others that do.
type hashes struct {
	context.Context
	counted *int
}

func (h hashes) Err() error {
	callers := make([]uintptr, 1)
	runtime.Callers(2, callers)
	if caller, _ := runtime.CallersFrames(callers).Next(); strings.HasSuffix(caller.Function, "(*hasher).derive") {
		*h.counted++
	}
	return h.Context.Err()
}

// TestLoginsDoTheSameWork counts the statements and the hashing of logins that fail, which must not tell why.
// The medians of their times are logged, and are for people to judge.
func TestLoginsDoTheSameWork(t *testing.T) {
	t.Parallel()
	const rounds = 25
	ctx := t.Context()
	db := soultribetest.New(t)
	count := new(counter)
	// Hashes that take longer than everything around them.
	st := newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = count }),
		soultribe.WithPasswordParams(soultribe.PasswordParams{MemoryKiB: 4 << 10, Iterations: 2, Parallelism: 1}))
	sqlUser(t, db, "junk@x.org", "argon2$dev")
	sqlUser(t, db, "empty@x.org", "")
	sqlUser(t, db, "endless@x.org", "$argon2id$v=19$m=4294967295,t=4294967295,p=255$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	_, err := st.CreateUser(ctx, soultribe.NewUser{Email: "ann@x.org", Password: otherPassword})
	require.NoError(t, err)
	emails := []string{"nobody@x.org", "ann@x.org", "junk@x.org", "empty@x.org", "endless@x.org"}
	times := map[string][]time.Duration{}
	var texts []string
	for range rounds {
		var first []string
		for _, email := range emails {
			count.reset()
			hashed := 0
			began := time.Now()
			_, err := st.Authenticate(hashes{ctx, &hashed}, email, "wrong")
			times[email] = append(times[email], time.Since(began))
			require.ErrorIs(t, err, soultribe.ErrInvalidCredentials)
			require.Equal(t, 1, hashed, email)
			require.Equal(t, 1, count.statements, email)
			if first == nil {
				first = count.names
			}
			require.Equal(t, first, count.names, email)
			texts = append(texts, err.Error())
		}
	}
	require.Len(t, slices.Compact(texts), 1) // one error
	for _, email := range emails {
		slices.Sort(times[email])
		t.Logf("%-14s median of %d: %v", email, rounds, times[email][rounds/2])
	}
}
