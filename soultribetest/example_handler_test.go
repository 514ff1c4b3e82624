package soultribetest_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

// verify is a handler of a service: that of the button to which the link in a mail leads.
func verify(store soultribe.TokenStore) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := store.VerifyEmail(r.Context(), r.PostFormValue("token"))
		switch {
		case errors.Is(err, soultribe.ErrTokenInvalid):
			http.Error(w, soultribe.Code(err), http.StatusGone)
		case err != nil:
			http.Error(w, soultribe.Code(err), http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
}

// TestVerify is how a service tests its handler: on a database of each test's own, in parallel, with a
// clock that it moves.
func TestVerify(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		after  time.Duration
		status int
		body   string
	}{
		{"in time", 23 * time.Hour, http.StatusNoContent, ""},
		{"too late", 24 * time.Hour, http.StatusGone, "token_expired"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			user, err := db.Store.CreateUser(t.Context(), soultribe.NewUser{Email: "ann@example.org", Password: "correct horse battery"})
			if err != nil {
				t.Fatal(err)
			}
			token, err := db.Store.IssueEmailVerification(t.Context(), user.ID)
			if err != nil {
				t.Fatal(err)
			}
			db.Clock.Advance(test.after)

			form := url.Values{"token": {token.Secret()}}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/verify", strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			verify(db.Store).ServeHTTP(w, r)

			if body := strings.TrimSpace(w.Body.String()); w.Code != test.status || body != test.body {
				t.Fatalf("answer is %d %q, not %d %q", w.Code, body, test.status, test.body)
			}
			user, err = db.Store.User(t.Context(), user.ID)
			if err != nil {
				t.Fatal(err)
			}
			if verified := user.EmailVerifiedAt != nil; verified != (test.status == http.StatusNoContent) {
				t.Fatalf("the address is verified: %v", verified)
			}
		})
	}
}
