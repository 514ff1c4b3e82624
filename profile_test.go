package soultribe_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// TestProfileRace sets one profile from many sides while its user is deleted: one row, and none in the end.
func TestProfileRace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	st := opened(t, db, 24)
	set := func(id soultribe.UserID, i int) error {
		if i%2 == 0 {
			_, err := st.SetProfile(ctx, id, soultribe.NewProfile{DisplayName: fmt.Sprint(i)})
			return err
		}
		_, err := st.UpdateProfile(ctx, id, soultribe.ProfileUpdate{Bio: new(fmt.Sprint(i))})
		if soultribe.Code(err) == "not_found" {
			return nil // it came first
		}
		return err
	}
	for round := range 10 {
		u := signUp(t, db, fmt.Sprintf("user%d@x.org", round))
		require.Equal(t, map[string]int{"": 24}, atOnce(24, func(i int) error { return set(u.ID, i) }))
		require.Equal(t, []string{"1"}, db.Query(t, `SELECT count(*) FROM profile`))
		counts := atOnce(24, func(i int) error {
			if i == 12 {
				_, err := st.DeleteUser(ctx, u.ID)
				return err
			}
			return set(u.ID, i)
		})
		require.Equal(t, 24, counts[""]+counts["not_found"], "%v", counts)
		require.Equal(t, []string{"0"}, db.Query(t, `SELECT count(*) FROM profile`))
	}
}

// TestDirtyProfiles reads and mends what other applications stored.
func TestDirtyProfiles(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	u := db.User(t)
	_, err := db.Pool.Exec(ctx, `ALTER TABLE profile ADD COLUMN extra text DEFAULT 'the host''s own';
		UPDATE profile SET full_name = '', display_name = E'two\nlines', bio = NULL, timezone = 'Mars/Olympus', created_at = '-infinity', updated_at = 'infinity'`)
	require.NoError(t, err)
	p, err := db.Store.Profile(ctx, u.ID)
	require.NoError(t, err)
	require.Equal(t, "two\nlines||Mars/Olympus", strings.Join([]string{p.DisplayName, p.Bio, p.Timezone}, "|"))
	require.Equal(t, []int{1, 9999}, []int{p.CreatedAt.Year(), p.UpdatedAt.Year()})
	public, err := db.Store.PublicProfiles(ctx, []soultribe.UserID{u.ID})
	require.NoError(t, err)
	require.Equal(t, soultribe.PublicProfile{UserID: u.ID, DisplayName: "two\nlines", Timezone: "Mars/Olympus"}, public[u.ID])

	// What is not given is not judged, and stays.
	p, err = db.Store.UpdateProfile(ctx, u.ID, soultribe.ProfileUpdate{FullName: new("Ann")})
	require.NoError(t, err)
	require.Equal(t, "Mars/Olympus", p.Timezone)
	_, err = db.Store.UpdateProfile(ctx, u.ID, soultribe.ProfileUpdate{Timezone: new("Mars/Olympus")})
	require.ErrorIs(t, err, soultribe.ErrInvalid)
	_, err = db.Store.SetProfile(ctx, u.ID, soultribe.NewProfile{DisplayName: "Ann"})
	require.NoError(t, err)
	require.Equal(t, []string{"|Ann|||the host's own|true|true"},
		db.Query(t, `SELECT full_name, display_name, bio, timezone, extra, bio IS NULL, timezone IS NULL FROM profile`))
}

// TestEmptyTextIsNull looks at how what is not said is stored.
func TestEmptyTextIsNull(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := soultribetest.New(t)
	u, err := db.Store.CreateUser(ctx, soultribe.NewUser{Email: "ann@x.org", Password: otherPassword, Profile: &soultribe.NewProfile{DisplayName: "Ann"}})
	require.NoError(t, err)
	null := func() []string {
		return db.Query(t, `SELECT bio IS NULL, timezone IS NULL, full_name FROM profile`)
	}
	require.Equal(t, []string{"true|true|"}, null())
	_, err = db.Store.UpdateProfile(ctx, u.ID, soultribe.ProfileUpdate{Bio: new("b"), Timezone: new("UTC"), FullName: new("f")})
	require.NoError(t, err)
	require.Equal(t, []string{"false|false|f"}, null())
	_, err = db.Store.UpdateProfile(ctx, u.ID, soultribe.ProfileUpdate{Bio: new(""), Timezone: new(""), FullName: new("")})
	require.NoError(t, err)
	require.Equal(t, []string{"true|true|"}, null())
}

// TestPublicProfilesAskForNoFullName looks at the statement: what is not read cannot leak.
func TestPublicProfilesAskForNoFullName(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	count := new(counter)
	st := newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.Tracer = count }))
	u := db.User(t)
	_, err := st.PublicProfiles(t.Context(), []soultribe.UserID{u.ID})
	require.NoError(t, err)
	require.Len(t, count.names, 1)
	require.Contains(t, count.names[0], "display_name")
	require.NotContains(t, count.names[0], "full_name")
}
