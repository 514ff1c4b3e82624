package soultribe_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// TestHiddenInUnexportedFields prints secrets from where fmt calls no methods.
func TestHiddenInUnexportedFields(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t)
	u, err := db.Store.CreateUser(t.Context(), soultribe.NewUser{Email: "ann@example.org", Password: "correct horse battery"})
	require.NoError(t, err)
	token, err := db.Store.IssueEmailVerification(t.Context(), u.ID)
	require.NoError(t, err)
	hash, err := db.Store.HashPassword(t.Context(), "correct horse battery")
	require.NoError(t, err)

	host := struct {
		token soultribe.IssuedToken
		hash  soultribe.PasswordHash
	}{token, hash}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		text := fmt.Sprintf(verb, host)
		require.NotContains(t, text, token.Secret(), verb)
		require.NotContains(t, text, "argon2id", verb)
		require.NotContains(t, text, fmt.Sprintf("%x", token.Secret()), verb)
	}
}
