package soultribetest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// The clock stands still until it is moved, so that an example prints the same each time.
func ExampleForExample() {
	ctx := context.Background()
	db, drop := soultribetest.ForExample()
	defer drop()

	user, err := db.Store.CreateUser(ctx, soultribe.NewUser{Email: "ann@example.org", Password: "correct horse battery"})
	if err != nil {
		panic(err)
	}
	token, err := db.Store.IssueEmailVerification(ctx, user.ID)
	if err != nil {
		panic(err)
	}
	db.Clock.Advance(25 * time.Hour)
	_, err = db.Store.VerifyEmail(ctx, token.Secret())
	fmt.Println(db.Clock.Now().Format(time.RFC3339), soultribe.Code(err))
	// Output:
	// 2026-03-03T10:00:00Z token_expired
}

// The service's own tables are made once, in the template that databases are copied from, and not for each
// test.
func ExampleWithSetup() {
	ctx := context.Background()
	migrate := func(ctx context.Context, pool *pgxpool.Pool) error {
		_, err := pool.Exec(ctx, `CREATE TABLE note (user_id integer REFERENCES "user" ON DELETE CASCADE, body text)`)
		return err
	}
	db, drop := soultribetest.ForExample(soultribetest.WithSetup("notes", migrate)) // in a test: New(t, …)
	defer drop()

	var notes int
	err := db.Pool.QueryRow(ctx, "SELECT count(*) FROM note").Scan(&notes)
	fmt.Println(notes, err)
	// Output:
	// 0 <nil>
}

// An implementation of Store, or a decorator, runs the suite that this library's own passes.
func ExampleTestStore() {
	var t *testing.T // of func TestStore(t *testing.T)
	type myStore struct{ soultribe.Store }

	soultribetest.TestStore(t, func(t *testing.T, opts ...soultribe.Option) (soultribe.Store, *soultribetest.Clock) {
		t.Helper()
		db := soultribetest.New(t, soultribetest.WithStoreOptions(opts...))
		return myStore{db.Store}, db.Clock
	})
}
