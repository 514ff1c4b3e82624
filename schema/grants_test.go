package schema_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

const everyTable = `"user", profile, availabilityslot, emailverificationtoken, passwordresettoken, match, meetup`

// newRole creates a role that may not log in, drops it when the test has passed, and returns its quoted name.
func newRole(t *testing.T, name string) string {
	t.Helper()
	role := pgx.Identifier{"schema_test_" + run + "_" + name}.Sanitize()
	admin(t, "CREATE ROLE "+role)
	t.Cleanup(func() {
		if !t.Failed() { // else the database with its privileges is kept
			admin(t, "DROP ROLE "+role)
		}
	})
	return role
}

// as connects with a role's rights.
func as(t *testing.T, databaseURL, role string) *pgxpool.Pool {
	t.Helper()
	return connect(t, databaseURL, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "SET ROLE "+role)
			return err
		}
	})
}

// The application has a role of its own, which does not own the tables.
func TestRoles(t *testing.T) {
	t.Parallel()
	role := newRole(t, `The "App"`)
	databaseURL := newDatabase(t)
	owner := connect(t, databaseURL)
	exec(t, owner, sqlalchemy, people,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON `+everyTable+` TO `+role,
		`GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO `+role,
		`ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC`)
	require.NoError(t, schema.Migrate(t.Context(), owner))
	app := as(t, databaseURL, role)
	require.NoError(t, schema.Migrate(t.Context(), app)) // which has nothing to do
	require.NoError(t, schema.Check(t.Context(), app))

	// The application as it was before.
	exec(t, app, `UPDATE meetup SET status = 'proposed' WHERE id = 1`, `UPDATE meetup SET status = 'confirmed' WHERE id = 1`)
	refused(t, app, `UPDATE meetup SET scheduled_time = '2024-05-01 10:30' WHERE id = 2`, "23P01", "soultribe_booking_no_overlap")
	require.Len(t, lines(t, app, bookings), 4)
	for _, forgery := range []string{
		`INSERT INTO soultribe_booking VALUES (4, 1, '2024-06-01', '2024-06-02')`,
		`UPDATE soultribe_booking SET ends_at = 'infinity'`,
		`DELETE FROM soultribe_booking`,
		`DELETE FROM soultribe_schema_version`,
	} {
		_, err := app.Exec(t.Context(), forgery)
		require.Equal(t, "42501", sqlState(err), forgery)
	}

	// The library.
	store, err := soultribe.New(app)
	require.NoError(t, err)
	require.NoError(t, store.Ready(t.Context()))
	exec(t, app, `UPDATE "user" SET email_verified_at = '2024-01-02'`)
	times := soultribe.Times{Start: time.Now().Add(240 * time.Hour).Truncate(time.Second), Duration: time.Hour}
	confirm := func(ann, ben soultribe.UserID) error {
		match, err := store.RequestMatch(t.Context(), ann, ben)
		require.NoError(t, err)
		_, err = store.AcceptMatch(t.Context(), ben, match.ID)
		require.NoError(t, err)
		proposed, err := store.ProposeMeetup(t.Context(), ann, soultribe.NewMeetup{MatchID: match.ID, Times: times})
		require.NoError(t, err)
		_, err = store.ConfirmMeetup(t.Context(), ben, proposed.ID, proposed.Times)
		return err
	}
	require.NoError(t, confirm(2, 4))
	require.ErrorIs(t, confirm(4, 3), soultribe.ErrDoubleBooked)
	_, err = store.DeleteUser(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, []string{"2 1 01.11:00 01.12:00", "2 3 01.11:00 01.12:00"}, lines(t, app, bookings))
}

// Nobody gets more than they had.
func TestGrants(t *testing.T) {
	t.Parallel()
	app, reader, cleaner, writer, some := newRole(t, "app"), newRole(t, "reader"), newRole(t, "cleaner"), newRole(t, "writer"), newRole(t, "some")
	const name = `Tribe's "1" %I`
	quoted := pgx.Identifier{name}.Sanitize()
	pool := newPool(t)
	exec(t, pool, `CREATE SCHEMA `+quoted)
	own := connect(t, pool.Config().ConnString(), setting("search_path", quoted))
	exec(t, own, sqlalchemy, people,
		`GRANT USAGE ON SCHEMA `+quoted+` TO `+app,
		`ALTER TABLE meetup OWNER TO `+app,
		`GRANT SELECT ON "user" TO `+reader,
		`GRANT DELETE ON meetup TO `+cleaner,
		`GRANT INSERT, UPDATE, TRUNCATE ON meetup, "user" TO `+writer,
		`GRANT SELECT (id, status), UPDATE (status) ON meetup TO `+some,
		`GRANT SELECT ON meetup TO PUBLIC`)
	require.NoError(t, schema.Migrate(t.Context(), own, schema.In(name)))
	require.Equal(t, []string{
		"soultribe_booking PUBLIC SELECT", "soultribe_booking app SELECT", "soultribe_schema_version reader SELECT",
	}, lines(t, own, `
SELECT concat_ws(' ', c.relname, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE regexp_replace(pg_get_userbyid(a.grantee), '.*_', '') END, a.privilege_type) COLLATE "C"
FROM pg_class c CROSS JOIN aclexplode(c.relacl) AS a
WHERE c.relnamespace = quote_ident(current_schema())::regnamespace AND c.relname LIKE 'soultribe%' AND a.grantee <> c.relowner ORDER BY 1`))
	require.NoError(t, schema.Check(t.Context(), own, schema.In(name)))

	// Without grants there are none.
	fresh := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), fresh))
	require.Equal(t, []string{"0"}, lines(t, fresh, `SELECT count(relacl)::text FROM pg_class WHERE relname LIKE 'soultribe%'`))
}

// The trigger function, which has its owner's rights, is for meetup alone.
func TestTriggerFunctionIsNotForOthers(t *testing.T) {
	t.Parallel()
	role := newRole(t, "other")
	databaseURL := newDatabase(t)
	owner := connect(t, databaseURL)
	exec(t, owner, sqlalchemy, people, `CREATE SCHEMA other AUTHORIZATION `+role)
	require.NoError(t, schema.Migrate(t.Context(), owner))
	other := as(t, databaseURL, role)
	exec(t, other, `CREATE TABLE other.meetup (id int, match_id int, scheduled_time timestamp, status text, duration_seconds int, proposer_id int)`)
	for _, abuse := range []string{
		`CREATE TRIGGER x AFTER INSERT OR UPDATE ON other.meetup FOR EACH ROW EXECUTE FUNCTION public.soultribe_book_meetup()`,
		`SELECT public.soultribe_book_meetup()`,
	} {
		_, err := other.Exec(t.Context(), abuse)
		require.Equal(t, "42501", sqlState(err), "%s: %v", abuse, err)
	}
	_, err := owner.Exec(t.Context(), `SELECT public.soultribe_book_meetup()`)
	require.Equal(t, "0A000", sqlState(err), "%v", err)
	require.Len(t, lines(t, owner, bookings), 4)
}

// What docs/database.md has a role be granted that comes later is enough.
func TestDocumentedGrants(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../docs/database.md")
	require.NoError(t, err)
	_, text, _ := strings.Cut(string(guide), "\n## Roles\n")
	_, text, ok := strings.Cut(text, "```psql\n")
	require.True(t, ok)
	text, _, _ = strings.Cut(text, "```")
	role := newRole(t, "later")
	databaseURL := newDatabase(t)
	owner := connect(t, databaseURL)
	require.NoError(t, schema.Migrate(t.Context(), owner))
	exec(t, owner, strings.ReplaceAll(text, "app_role", role))
	app := as(t, databaseURL, role)
	require.NoError(t, schema.Check(t.Context(), app))
	store, err := soultribe.New(app)
	require.NoError(t, err)
	require.NoError(t, store.Ready(t.Context()))
	exec(t, app, `INSERT INTO "user" (email, password_hash, created_at) VALUES ('ann@x.org', '', '2024-01-01')`)
	_, err = store.DeleteUser(t.Context(), 1)
	require.NoError(t, err)
}
