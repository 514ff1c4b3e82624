package soultribe_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	u, err := url.Parse(db.URL)
	require.NoError(t, err)
	rest := strings.TrimPrefix(db.URL, u.Scheme+"://")
	for _, scheme := range []string{"postgres", "postgresql", "postgresql+psycopg2", "postgresql+asyncpg", "postgres+psycopg", "POSTGRESQL"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			store, err := soultribe.Open(t.Context(), " "+scheme+"://"+rest+"\n")
			require.NoError(t, err)
			require.NoError(t, store.Ready(t.Context()))
			store.Close()
			require.Error(t, store.Ready(t.Context()), "the pool is closed")
		})
	}
}

// TestOpenPassword reads passwords that a URL makes hard to write, in the ways that SQLAlchemy
// takes them.
func TestOpenPassword(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ written, password string }{
		{"p%40ss%2Fw%3Ard%25", "p@ss/w:rd%"},
		{"p#s/s?w:d", "p#s/s?w:d"},
		{"2024/s3", "2024/s3"},
		{"p+s%20s", "p+s s"},
		{"%C3%A4%E2%82%AC", "ä€"},
	} {
		got, err := soultribe.URLPassword("postgresql+psycopg2://soultribe:" + tt.written + "@127.0.0.1:5432/soultribe")
		require.NoError(t, err, tt.written)
		require.Equal(t, tt.password, got)
	}
}

func TestOpenNeverTellsThePassword(t *testing.T) {
	t.Parallel()
	const canary = "canary-in-the-url"
	for _, databaseURL := range []string{
		"",
		canary,
		"mysql://u:" + canary + "@h/d",
		"postgres://u:" + canary + "%zz@h/d",
		"postgres://u:" + canary + "@h:port/d",
		"postgres://u:" + canary + "@h:99999999/d",
		"postgres://u:" + canary + "@h/d?sslmode=" + canary,
		"postgres://u:" + canary + "@h/d?pool_max_conns=" + canary,
		"postgres://u:" + canary + "@h/d?connect_timeout=" + canary,
		"postgres://u:" + canary + "@[::1/d",
		"postgres://u:" + canary + "@h/d?sslmode=verify-full&sslrootcert=/" + canary,
	} {
		_, err := soultribe.Open(t.Context(), databaseURL)
		require.ErrorIs(t, err, soultribe.ErrInvalid, databaseURL)
		require.NotContains(t, err.Error(), canary)
	}

	store, err := soultribe.Open(t.Context(), "postgres://u:"+canary+"@127.0.0.1:1/d?connect_timeout=1")
	require.NoError(t, err, "Open does not connect")
	t.Cleanup(store.Close)
	err = store.Ready(t.Context())
	require.Error(t, err)
	require.NotContains(t, err.Error(), canary)
}
