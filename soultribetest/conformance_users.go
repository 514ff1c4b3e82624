package soultribetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/soultribe-chat/soultribe"
)

// The tests of UserStore, ProfileStore and the accounts of AdminStore.
var userTests = []conformanceTest{
	{name: "create", run: (*conformance).userCreate},
	{name: "create with a profile", run: (*conformance).userCreateWithProfile},
	{name: "create with a hash", run: (*conformance).userCreateWithHash},
	{name: "create takes an address once", run: (*conformance).userEmailTaken},
	{name: "create addresses", run: (*conformance).userAddresses},
	{name: "create passwords", run: (*conformance).userPasswords},
	{name: "create bad arguments", run: (*conformance).userCreateInvalid},
	{name: "reading", run: (*conformance).userReading},
	{name: "unknown ids", run: (*conformance).userUnknownIDs},
	{name: "authenticate", run: (*conformance).userAuthenticate},
	{name: "check password", run: (*conformance).userCheckPassword},
	{name: "change password", run: (*conformance).userChangePassword},
	{name: "set password", run: (*conformance).userSetPassword},
	{name: "mark verified", run: (*conformance).userMarkVerified},
	{name: "delete", run: (*conformance).userDelete},
	{name: "export", run: (*conformance).userExport},
	{name: "list", run: (*conformance).userList},
	{name: "list cursors are bound", run: (*conformance).userCursors},
	{name: "accounts", run: (*conformance).userAccounts},
	{name: "conflicts leave a transaction usable", run: (*conformance).userConflictsInTx},
	{name: "cancelled context", run: (*conformance).userCancelled},
	{name: "JSON", run: (*conformance).userJSON},
	{name: "redaction", run: (*conformance).userRedaction},

	{name: "set profile", run: (*conformance).profileSet},
	{name: "update profile", run: (*conformance).profileUpdate},
	{name: "profile rules", run: (*conformance).profileRules},
	{name: "public profiles", run: (*conformance).profilePublic},
	{name: "profile update from JSON", run: (*conformance).profileUpdateJSON},
}

const goodPassword = "correct horse battery"

// create makes a user with goodPassword and no profile.
func (c *conformance) create(email string) soultribe.User {
	c.Helper()
	u, err := c.st.CreateUser(c.Context(), soultribe.NewUser{Email: email, Password: goodPassword})
	c.noError(err)
	return u
}

// wantLogin checks that the user's password is the one given, and not the other.
func (c *conformance) wantLogin(email, password, other string) {
	c.Helper()
	_, err := c.st.Authenticate(c.Context(), email, password)
	c.noError(err)
	_, err = c.st.Authenticate(c.Context(), email, other)
	c.wantError(err, soultribe.ErrInvalidCredentials)
}

// wantUser checks that every way of reading finds the user as want.
func (c *conformance) wantUser(want soultribe.User) {
	c.Helper()
	byID, err := c.st.User(c.Context(), want.ID)
	c.noError(err)
	equal(c, byID, want)
	byEmail, err := c.st.UserByEmail(c.Context(), want.Email)
	c.noError(err)
	equal(c, byEmail, want)
	account, err := c.st.Account(c.Context(), want.ID)
	c.noError(err)
	equal(c, account.User, want)
}

func (c *conformance) userCreate() {
	u, err := c.st.CreateUser(c.Context(), soultribe.NewUser{Email: " \t Ann.Smith+tag@Example.ORG \n", Password: goodPassword})
	c.noError(err)
	if u.ID <= 0 {
		c.Fatalf("id is %d", u.ID)
	}
	equal(c, u, soultribe.User{ID: u.ID, Email: "Ann.Smith+tag@Example.ORG", CreatedAt: Epoch, CredentialsChangedAt: Epoch})
	c.wantUser(u)
	account, err := c.st.Account(c.Context(), u.ID)
	c.noError(err)
	equal(c, account, soultribe.Account{User: u})
	_, err = c.st.Profile(c.Context(), u.ID)
	c.wantError(err, soultribe.ErrNotFound)

	// What is kept is UTC, and microseconds.
	c.clock.Set(time.Date(2026, 7, 1, 2, 30, 0, 123_456_789, time.FixedZone("", 5*3600+1800)))
	later := c.create("later@example.org")
	equal(c, later.CreatedAt, time.Date(2026, 6, 30, 21, 0, 0, 123_456_000, time.UTC))
	c.wantUser(later)
}

func (c *conformance) userCreateWithProfile() {
	for _, test := range []struct{ given, kept soultribe.NewProfile }{
		{
			soultribe.NewProfile{FullName: "  Ann Smith ", DisplayName: "\tAnn ", Bio: " two\nlines ", Timezone: "America/New_York"},
			soultribe.NewProfile{FullName: "Ann Smith", DisplayName: "Ann", Bio: " two\nlines ", Timezone: "America/New_York"},
		},
		{soultribe.NewProfile{DisplayName: "Björn 🐻"}, soultribe.NewProfile{DisplayName: "Björn 🐻"}},
	} {
		c.users++
		u, err := c.st.CreateUser(c.Context(), soultribe.NewUser{
			Email: fmt.Sprintf("profile%d@example.org", c.users), Password: goodPassword, Profile: &test.given,
		})
		c.noError(err)
		want := soultribe.Profile{
			UserID: u.ID, FullName: test.kept.FullName, DisplayName: test.kept.DisplayName, Bio: test.kept.Bio, Timezone: test.kept.Timezone,
			CreatedAt: Epoch, UpdatedAt: Epoch,
		}
		got, err := c.st.Profile(c.Context(), u.ID)
		c.noError(err)
		equal(c, got, want)
		for _, read := range []func() (soultribe.Account, error){
			func() (soultribe.Account, error) { return c.st.Account(c.Context(), u.ID) },
			func() (soultribe.Account, error) { return c.st.AccountByEmail(c.Context(), u.Email) },
		} {
			account, err := read()
			c.noError(err)
			equal(c, account, soultribe.Account{User: u, Profile: &want})
		}
	}
}

func (c *conformance) userCreateWithHash() {
	hash, err := c.st.HashPassword(c.Context(), goodPassword)
	c.noError(err)
	again, err := c.st.HashPassword(c.Context(), goodPassword)
	c.noError(err)
	if hash == again {
		c.Fatal("two hashes of one password are the same: there is no salt")
	}
	_, err = c.st.CreateUser(c.Context(), soultribe.NewUser{Email: "ann@example.org", Hash: hash})
	c.noError(err)
	c.wantLogin("ann@example.org", goodPassword, "another password")

	_, err = c.st.CreateUser(c.Context(), soultribe.NewUser{Email: "both@example.org", Hash: hash, Password: goodPassword})
	c.wantInvalid(err, "password")
	_, err = c.st.UserByEmail(c.Context(), "both@example.org")
	c.wantError(err, soultribe.ErrNotFound)

	for _, password := range []string{"", "seven b", strings.Repeat("x", 1025), "with a \x00 in it"} {
		_, err := c.st.HashPassword(c.Context(), password)
		c.wantInvalid(err, "password")
	}
}

func (c *conformance) userEmailTaken() {
	u, err := c.st.CreateUser(c.Context(), soultribe.NewUser{
		Email: "Ann@Example.org", Password: goodPassword, Profile: &soultribe.NewProfile{DisplayName: "Ann"},
	})
	c.noError(err)
	before, err := c.st.Account(c.Context(), u.ID)
	c.noError(err)
	c.clock.Advance(time.Hour)
	for _, email := range []string{"Ann@Example.org", "ann@example.org", "ANN@EXAMPLE.ORG", "  aNN@example.ORG\t"} {
		_, err := c.st.CreateUser(c.Context(), soultribe.NewUser{
			Email: email, Password: "the visitor's own", Profile: &soultribe.NewProfile{DisplayName: "Visitor"},
		})
		c.wantError(err, soultribe.ErrEmailTaken, soultribe.ErrConflict)
		equal(c, soultribe.Code(err), "email_taken")
	}
	after, err := c.st.Account(c.Context(), u.ID)
	c.noError(err)
	equal(c, after, before)
	c.wantLogin("ann@example.org", goodPassword, "the visitor's own")

	// Only ASCII is folded: what else is the same is the mail server's to say.
	for _, pair := range [][2]string{{"ärger@example.org", "Ärger@example.org"}, {"ı@example.org", "i@example.org"}, {"K@example.org", "\u212A@example.org"}, {"é@example.org", "e\u0301@example.org"}} {
		if first, second := c.create(pair[0]), c.create(pair[1]); first.ID == second.ID {
			c.Fatalf("%q and %q are one account", pair[0], pair[1])
		}
	}
	page, err := c.st.Users(c.Context(), soultribe.UserQuery{})
	c.noError(err)
	equal(c, len(page.Items), 9)
}

func (c *conformance) userAddresses() {
	longest := strings.Repeat("l", 64) + "@" + strings.Repeat("d", 63) + "." + strings.Repeat("d", 63) + "." + strings.Repeat("d", 61)
	equal(c, len(longest), 254)
	for _, email := range []string{
		"a@b", "ann@x.org", "ann+tag@x.org", "o'brien@x.org", "ann_b%c@x.org", "under@x_y.org", "*@x.org",
		"ann@bücher.example", "ünï@x.org", "用户@例子.广告", "a=b/c@x.org", longest,
	} {
		u := c.create(email)
		equal(c, u.Email, email)
		c.wantUser(u)
		c.wantLogin(email, goodPassword, "another password")
	}
	for _, email := range []string{
		"", " \t\n", "ann", "@", "ann@", "@x.org", "ann@x.org@y.org", "ann@x..org", "ann..b@x.org", ".ann@x.org", "ann.@x.org", "ann@x.org.", "ann@.org",
		"an n@x.org", "ann@x. org", "ann@x.org, bob@x.org", "ann@x.org,bob@x.org", "ann@x.org;", "Ann <ann@x.org>", "<ann@x.org>", "ann@x.org(comment)",
		`"ann"@x.org`, `"a b"@x.org`, "friends:ann@x.org;", "ann@[127.0.0.1]",
		"ann@x.org?bcc=bob", "ann@x.org&x=1", "ann@x/y", "ann@{x}", "a|b@c`d", "a@b'--", "ann@-x.org", "ann@x-.org", "ann@" + strings.Repeat("d", 64) + ".org",
		"ann@x.org\r\nBcc: bob@x.org", "ann\n@x.org", "ann\x00@x.org", "ann\x7f@x.org", "ann\u200b@x.org", "ann\u202e@x.org", "ann\u00a0b@x.org", "ann\xff@x.org", "\xc3@x.org",
		strings.Repeat("l", 65) + "@x.org", longest + "d", strings.Repeat("a", 16<<20) + "@x.org", strings.Repeat("@", 16<<20),
	} {
		_, err := c.st.CreateUser(c.Context(), soultribe.NewUser{Email: email, Password: goodPassword})
		c.wantInvalid(err, "email")
	}
}

func (c *conformance) userPasswords() {
	for i, password := range []string{
		"12345678", "        ", "ÄÖÜß", "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8", " spaces at both ends ", "password of pāssword", "🔑🔑", strings.Repeat("x", 1024), "line\nfeeds\r\n",
	} {
		email := fmt.Sprintf("user%d@example.org", i)
		_, err := c.st.CreateUser(c.Context(), soultribe.NewUser{Email: email, Password: password})
		c.noError(err)
		// Exact bytes: nothing is trimmed, cut or normalized.
		for _, other := range []string{password + " ", password[:len(password)-1], strings.ToUpper(password) + "x", ""} {
			c.wantLogin(email, password, other)
		}
	}
	// The same letter, composed and decomposed.
	composed, decomposed := "correct h\u00f6rse", "correct ho\u0308rse"
	_, err := c.st.CreateUser(c.Context(), soultribe.NewUser{Email: "composed@example.org", Password: composed})
	c.noError(err)
	c.wantLogin("composed@example.org", composed, decomposed)
	for _, password := range []string{"", "1234567", "ÄÖü", strings.Repeat("x", 1025), strings.Repeat("x", 16<<20), "with a \x00 in it", "\x00\x00\x00\x00\x00\x00\x00\x00"} {
		_, err := c.st.CreateUser(c.Context(), soultribe.NewUser{Email: "refused@example.org", Password: password})
		c.wantInvalid(err, "password")
	}
	_, err = c.st.UserByEmail(c.Context(), "refused@example.org")
	c.wantError(err, soultribe.ErrNotFound)
}

func (c *conformance) userCreateInvalid() {
	_, err := c.st.CreateUser(c.Context(), soultribe.NewUser{})
	c.wantInvalid(err, "email", "password")
	_, err = c.st.CreateUser(c.Context(), soultribe.NewUser{
		Email: "nobody", Password: "short",
		Profile: &soultribe.NewProfile{FullName: "a\nb", Bio: "\x00", Timezone: "Local"},
	})
	c.wantInvalid(err, "email", "password", "full_name", "display_name", "bio", "timezone")
	_, err = c.st.CreateUser(c.Context(), soultribe.NewUser{Email: "ann@example.org", Password: goodPassword, Profile: &soultribe.NewProfile{}})
	c.wantInvalid(err, "display_name")
	page, err := c.st.Users(c.Context(), soultribe.UserQuery{})
	c.noError(err)
	equal(c, page, soultribe.Page[soultribe.User]{Items: []soultribe.User{}})
}

func (c *conformance) userReading() {
	u := c.create("Ann@Example.org")
	c.create("bob@example.org")
	for _, email := range []string{"Ann@Example.org", "ann@example.org", "ANN@EXAMPLE.ORG", "\n ann@EXAMPLE.org "} {
		got, err := c.st.UserByEmail(c.Context(), email)
		c.noError(err)
		equal(c, got, u)
		account, err := c.st.AccountByEmail(c.Context(), email)
		c.noError(err)
		equal(c, account, soultribe.Account{User: u})
	}
	for _, email := range []string{"nobody@example.org", "not an address", "a_n@example.org", "%", "ann@example.or", "' OR 1=1 --"} {
		_, err := c.st.UserByEmail(c.Context(), email)
		c.wantError(err, soultribe.ErrNotFound)
		_, err = c.st.AccountByEmail(c.Context(), email)
		c.wantError(err, soultribe.ErrNotFound)
	}
	for _, email := range []string{"", "  ", "ann\x00@example.org", "ann\xff@example.org", strings.Repeat("x", 255), strings.Repeat("x", 16<<20)} {
		_, err := c.st.UserByEmail(c.Context(), email)
		c.wantInvalid(err, "email")
		_, err = c.st.AccountByEmail(c.Context(), email)
		c.wantInvalid(err, "email")
	}
}

// userUnknownIDs calls every method that takes a user's id with those of nobody.
func (c *conformance) userUnknownIDs() {
	deleted := c.user("deleted")
	_, err := c.st.DeleteUser(c.Context(), deleted.ID)
	c.noError(err)
	calls := map[string]func(id soultribe.UserID) error{
		"User":          func(id soultribe.UserID) error { _, err := c.st.User(c.Context(), id); return err },
		"Account":       func(id soultribe.UserID) error { _, err := c.st.Account(c.Context(), id); return err },
		"CheckPassword": func(id soultribe.UserID) error { return c.st.CheckPassword(c.Context(), id, goodPassword) },
		"ChangePassword": func(id soultribe.UserID) error {
			return c.st.ChangePassword(c.Context(), id, goodPassword, "another password")
		},
		"DeleteUser":   func(id soultribe.UserID) error { _, err := c.st.DeleteUser(c.Context(), id); return err },
		"Export":       func(id soultribe.UserID) error { _, err := c.st.Export(c.Context(), id); return err },
		"SetPassword":  func(id soultribe.UserID) error { return c.st.SetPassword(c.Context(), id, goodPassword) },
		"MarkVerified": func(id soultribe.UserID) error { return c.st.MarkVerified(c.Context(), id) },
		"Profile":      func(id soultribe.UserID) error { _, err := c.st.Profile(c.Context(), id); return err },
		"SetProfile": func(id soultribe.UserID) error {
			_, err := c.st.SetProfile(c.Context(), id, soultribe.NewProfile{DisplayName: "Ann"})
			return err
		},
		"UpdateProfile": func(id soultribe.UserID) error {
			_, err := c.st.UpdateProfile(c.Context(), id, soultribe.ProfileUpdate{DisplayName: new("Ann")})
			return err
		},
		"UpdateProfile of nothing": func(id soultribe.UserID) error {
			_, err := c.st.UpdateProfile(c.Context(), id, soultribe.ProfileUpdate{})
			return err
		},
		"IssueEmailVerification": func(id soultribe.UserID) error {
			_, err := c.st.IssueEmailVerification(c.Context(), id)
			return err
		},
		"IssueEmailChange": func(id soultribe.UserID) error {
			_, err := c.st.IssueEmailChange(c.Context(), id, goodPassword, "other@example.org")
			return err
		},
	}
	for name, call := range calls {
		c.sub(name, func(c *conformance) {
			c.wantInvalid(call(0), "user_id")
			for _, id := range []soultribe.UserID{deleted.ID, -1, math.MinInt64, 1 << 30, math.MaxInt32, math.MaxInt32 + 1, math.MaxInt64} {
				c.wantError(call(id), soultribe.ErrNotFound)
			}
		})
	}
	for _, email := range []string{deleted.Email} {
		_, err := c.st.UserByEmail(c.Context(), email)
		c.wantError(err, soultribe.ErrNotFound)
		_, err = c.st.Authenticate(c.Context(), email, "password of "+email)
		c.wantError(err, soultribe.ErrInvalidCredentials)
	}
}

func (c *conformance) userAuthenticate() {
	u := c.create("Ann@Example.org")
	for _, email := range []string{"Ann@Example.org", "ann@example.org", " ANN@EXAMPLE.ORG "} {
		got, err := c.st.Authenticate(c.Context(), email, goodPassword)
		c.noError(err)
		equal(c, got, u) // though the address is not verified
	}
	for _, test := range []struct{ email, password string }{
		{"ann@example.org", "another password"},
		{"ann@example.org", ""},
		{"ann@example.org", "short"},
		{"ann@example.org", goodPassword + " "},
		{"ann@example.org", goodPassword + "\x00"},
		{"ann@example.org", strings.ToUpper(goodPassword)},
		{"ann@example.org", strings.Repeat("x", 16<<20)},
		{"nobody@example.org", goodPassword},
		{"", goodPassword},
		{"", ""},
		{"ann", goodPassword},
		{"ann\x00@example.org", goodPassword},
		{"ann\xff@example.org", goodPassword},
		{strings.Repeat("x", 16<<20), goodPassword},
	} {
		_, err := c.st.Authenticate(c.Context(), test.email, test.password)
		c.wantError(err, soultribe.ErrInvalidCredentials)
		equal(c, soultribe.Code(err), "invalid_credentials")
		equal(c, err.Error(), "soultribe: Authenticate: invalid credentials") // one answer to all
	}
	c.wantUser(u)
}

func (c *conformance) userCheckPassword() {
	u := c.create("ann@example.org")
	c.noError(c.st.CheckPassword(c.Context(), u.ID, goodPassword))
	for _, password := range []string{"", "short", "another password", goodPassword + " ", "\x00", strings.Repeat("x", 2000)} {
		c.wantError(c.st.CheckPassword(c.Context(), u.ID, password), soultribe.ErrInvalidCredentials)
	}
	c.wantUser(u)
}

// wantKilled checks that a change of password killed a reset and a change of address, and nothing else.
func (c *conformance) wantKilled(u soultribe.User, how func()) {
	c.Helper()
	verification, err := c.st.IssueEmailVerification(c.Context(), u.ID)
	c.noError(err)
	c.clock.Advance(time.Minute)
	change, err := c.st.IssueEmailChange(c.Context(), u.ID, goodPassword, "attacker@example.org")
	c.noError(err)
	reset, ok, err := c.st.IssuePasswordReset(c.Context(), u.Email)
	c.noError(err)
	equal(c, ok, true)

	how()
	c.wantError(c.st.CheckPasswordReset(c.Context(), reset.Secret()), soultribe.ErrTokenUsed)
	_, err = c.st.ResetPassword(c.Context(), reset.Secret(), "the attacker's own")
	c.wantError(err, soultribe.ErrTokenUsed, soultribe.ErrTokenInvalid)
	c.wantError(c.st.CheckEmailVerification(c.Context(), change.Secret()), soultribe.ErrTokenUsed)
	_, err = c.st.VerifyEmail(c.Context(), change.Secret())
	c.wantError(err, soultribe.ErrTokenUsed, soultribe.ErrTokenInvalid)
	c.noError(c.st.CheckEmailVerification(c.Context(), verification.Secret()))
}

func (c *conformance) userChangePassword() {
	u := c.create("ann@example.org")
	c.wantInvalid(c.st.ChangePassword(c.Context(), u.ID, goodPassword, "short"), "password")
	c.wantInvalid(c.st.ChangePassword(c.Context(), u.ID, goodPassword, strings.Repeat("x", 1025)), "password")
	c.wantInvalid(c.st.ChangePassword(c.Context(), u.ID, goodPassword, "with a \x00 in it"), "password")
	c.wantInvalid(c.st.ChangePassword(c.Context(), 0, goodPassword, "short"), "user_id", "password")
	c.wantError(c.st.ChangePassword(c.Context(), u.ID, "another password", "a third password"), soultribe.ErrInvalidCredentials)
	c.wantError(c.st.ChangePassword(c.Context(), u.ID, "", "a third password"), soultribe.ErrInvalidCredentials)
	c.wantUser(u)
	c.wantLogin(u.Email, goodPassword, "a third password")

	c.wantKilled(u, func() {
		c.clock.Advance(time.Second)
		c.noError(c.st.ChangePassword(c.Context(), u.ID, goodPassword, "a third password"))
	})
	u.CredentialsChangedAt = at(time.Minute + time.Second)
	c.wantUser(u)
	c.wantLogin(u.Email, "a third password", goodPassword)

	// To the same one is a change like any other.
	c.clock.Advance(time.Hour)
	c.noError(c.st.ChangePassword(c.Context(), u.ID, "a third password", "a third password"))
	u.CredentialsChangedAt = at(time.Hour + time.Minute + time.Second)
	c.wantUser(u)
	c.wantLogin(u.Email, "a third password", goodPassword)

	// What is issued after the change works, be it at the same instant.
	reset, _, err := c.st.IssuePasswordReset(c.Context(), u.Email)
	c.noError(err)
	_, err = c.st.ResetPassword(c.Context(), reset.Secret(), goodPassword)
	c.noError(err)
	c.wantLogin(u.Email, goodPassword, "a third password")
}

func (c *conformance) userSetPassword() {
	u, other := c.create("ann@example.org"), c.create("bob@example.org")
	for _, password := range []string{"", "1234567", strings.Repeat("x", 1025), "with a \x00 in it"} {
		c.wantInvalid(c.st.SetPassword(c.Context(), u.ID, password), "password")
	}
	c.wantInvalid(c.st.SetPassword(c.Context(), 0, ""), "user_id", "password")
	c.wantUser(u)
	// At the same instant as the tokens were issued: time alone does not tell what came first.
	c.wantKilled(u, func() { c.noError(c.st.SetPassword(c.Context(), u.ID, "a third password")) })
	u.CredentialsChangedAt = at(time.Minute)
	c.wantUser(u)
	c.wantLogin(u.Email, "a third password", goodPassword)
	c.wantUser(other)
	c.wantLogin(other.Email, goodPassword, "a third password")
}

func (c *conformance) userMarkVerified() {
	u, other := c.create("ann@example.org"), c.create("bob@example.org")
	c.clock.Advance(time.Hour)
	c.noError(c.st.MarkVerified(c.Context(), u.ID))
	u.EmailVerifiedAt = new(at(time.Hour))
	c.wantUser(u)
	c.clock.Advance(time.Hour)
	c.noError(c.st.MarkVerified(c.Context(), u.ID))
	c.wantUser(u) // as of the first time
	c.wantUser(other)
}

func (c *conformance) userDelete() {
	a := c.user("ann")
	asked, rejected, cancelled, accepted, over, stranger := c.user("asked"), c.user("rejected"), c.user("cancelled"), c.user("accepted"), c.user("over"), c.user("stranger")
	pending, err := c.st.RequestMatch(c.Context(), a.ID, asked.ID)
	c.noError(err)
	no, err := c.st.RequestMatch(c.Context(), rejected.ID, a.ID)
	c.noError(err)
	_, err = c.st.RejectMatch(c.Context(), a.ID, no.ID)
	c.noError(err)
	_, err = c.st.CancelMatch(c.Context(), a.ID, c.matched(a.ID, cancelled.ID).ID)
	c.noError(err)
	live, done, elsewhere := c.matched(accepted.ID, a.ID), c.matched(a.ID, over.ID), c.matched(asked.ID, stranger.ID)
	propose := func(m soultribe.Match, after time.Duration) soultribe.Meetup {
		p, err := c.st.ProposeMeetup(c.Context(), m.User1ID, soultribe.NewMeetup{MatchID: m.ID, Times: soultribe.Times{Start: at(after), Duration: time.Hour}})
		c.noError(err)
		return p.Meetup
	}
	_, err = c.st.CancelMeetup(c.Context(), a.ID, propose(done, time.Hour).ID)
	c.noError(err)
	proposed, kept := propose(live, time.Hour), propose(elsewhere, time.Hour)
	second := propose(done, 2*time.Hour)
	confirmed, err := c.st.ConfirmMeetup(c.Context(), done.User2ID, second.ID, second.Times)
	c.noError(err)
	_, err = c.st.AddSlot(c.Context(), a.ID, slot(1, 1))
	c.noError(err)
	reset, _, err := c.st.IssuePasswordReset(c.Context(), a.Email)
	c.noError(err)

	c.clock.Advance(time.Minute)
	deleted, err := c.st.DeleteUser(c.Context(), a.ID)
	c.noError(err)
	equal(c, deleted.UserID, a.ID)
	slices.SortFunc(deleted.Matches, func(x, y soultribe.Match) int { return int(x.ID - y.ID) })
	slices.SortFunc(deleted.Meetups, func(x, y soultribe.Meetup) int { return int(x.ID - y.ID) })
	equal(c, deleted.Matches, []soultribe.Match{pending.Match, live, done})
	equal(c, deleted.Meetups, []soultribe.Meetup{proposed, confirmed.Meetup})

	_, err = c.st.User(c.Context(), a.ID)
	c.wantError(err, soultribe.ErrNotFound)
	_, err = c.st.DeleteUser(c.Context(), a.ID)
	c.wantError(err, soultribe.ErrNotFound)
	c.wantError(c.st.CheckPasswordReset(c.Context(), reset.Secret()), soultribe.ErrTokenInvalid)
	for _, partner := range []soultribe.User{asked, rejected, cancelled, accepted, over} {
		c.wantUser(partner)
		_, err := c.st.MatchBetween(c.Context(), partner.ID, a.ID)
		c.wantError(err, soultribe.ErrNotFound)
	}
	_, err = c.st.Meetup(c.Context(), over.ID, confirmed.ID)
	c.wantError(err, soultribe.ErrNotFound)
	m, err := c.st.Meetup(c.Context(), stranger.ID, kept.ID)
	c.noError(err)
	equal(c, m, kept)

	// The address is free, and the account another.
	again := c.create(a.Email)
	if again.ID == a.ID {
		c.Fatal("an id is used twice")
	}
	nobody, err := c.st.DeleteUser(c.Context(), again.ID)
	c.noError(err)
	equal(c, nobody, soultribe.Deleted{UserID: again.ID, Matches: []soultribe.Match{}, Meetups: []soultribe.Meetup{}})
}

func (c *conformance) userExport() {
	empty := c.create("empty@example.org")
	e, err := c.st.Export(c.Context(), empty.ID)
	c.noError(err)
	equal(c, e, soultribe.Export{
		User: empty, Slots: []soultribe.Slot{}, EmailVerifications: []soultribe.TokenRecord{}, PasswordResets: []soultribe.TokenRecord{},
		Matches: []soultribe.Match{}, Meetups: []soultribe.Meetup{},
	})

	a, b := c.newUser("ann"), c.user("bob")
	verification, err := c.st.IssueEmailVerification(c.Context(), a.ID)
	c.noError(err)
	c.clock.Set(at(90*time.Second + 123_456*time.Microsecond))
	a, err = c.st.VerifyEmail(c.Context(), verification.Secret())
	c.noError(err)
	change, err := c.st.IssueEmailChange(c.Context(), a.ID, "password of "+a.Email, "new@example.org")
	c.noError(err)
	reset, _, err := c.st.IssuePasswordReset(c.Context(), a.Email)
	c.noError(err)
	profile, err := c.st.UpdateProfile(c.Context(), a.ID, soultribe.ProfileUpdate{Bio: new("\"quotes\" \\ and\n🐻 <b>")})
	c.noError(err)
	slots, err := c.st.AddSlots(c.Context(), a.ID, []soultribe.NewSlot{slot(50, 2), slot(100, 1.5)})
	c.noError(err)
	_, err = c.st.AddSlot(c.Context(), b.ID, slot(1, 1))
	c.noError(err)
	m := c.matched(b.ID, a.ID)
	meetup, err := c.st.ProposeMeetup(c.Context(), b.ID, soultribe.NewMeetup{MatchID: m.ID, Times: soultribe.Times{Start: at(9 * time.Hour), Duration: 45 * time.Minute}})
	c.noError(err)

	e, err = c.st.Export(c.Context(), a.ID)
	c.noError(err)
	equal(c, e, soultribe.Export{
		User: a, Profile: &profile, Slots: slots,
		EmailVerifications: []soultribe.TokenRecord{
			{Email: a.Email, CreatedAt: Epoch, ExpiresAt: verification.ExpiresAt, UsedAt: a.EmailVerifiedAt},
			{Email: "new@example.org", CreatedAt: c.clock.Now(), ExpiresAt: change.ExpiresAt},
		},
		PasswordResets: []soultribe.TokenRecord{{Email: a.Email, CreatedAt: c.clock.Now(), ExpiresAt: reset.ExpiresAt}},
		Matches:        []soultribe.Match{m},
		Meetups:        []soultribe.Meetup{meetup.Meetup},
	})
	text, err := json.Marshal(e)
	c.noError(err)
	for _, secret := range []string{verification.Secret(), change.Secret(), reset.Secret(), b.Email, "argon2", "sha256:"} {
		if bytes.Contains(text, []byte(secret)) {
			c.Fatalf("the export tells %q", secret)
		}
	}
	var back soultribe.Export
	c.noError(json.Unmarshal(text, &back))
	equal(c, back, e)
}

func (c *conformance) userList() {
	list := func(q soultribe.UserQuery) []soultribe.User {
		c.Helper()
		return all(c, func(after soultribe.Cursor) (soultribe.Page[soultribe.User], error) {
			q.After = after
			page, err := c.st.Users(c.Context(), q)
			if q.Limit > 0 && len(page.Items) > q.Limit {
				c.Fatalf("%d items with a limit of %d", len(page.Items), q.Limit)
			}
			return page, err
		})
	}
	equal(c, list(soultribe.UserQuery{}), []soultribe.User{})
	var users []soultribe.User
	for _, email := range []string{"Ann@x.org", "ann_b@x.org", "annab@x.org", "bob%c@x.org", "bobxc@x.org", "Ünal@x.org", "carl@x.org"} {
		u := c.create(email)
		if len(users)%2 == 0 {
			c.noError(c.st.MarkVerified(c.Context(), u.ID))
			u.EmailVerifiedAt = new(Epoch)
		}
		users = append(users, u)
	}
	for _, limit := range []int{0, 1, 2, 3, 6, 7, 8, 200} {
		equal(c, list(soultribe.UserQuery{Limit: limit}), users)
		equal(c, list(soultribe.UserQuery{Limit: limit, Verified: new(true)}), []soultribe.User{users[0], users[2], users[4], users[6]})
		equal(c, list(soultribe.UserQuery{Limit: limit, Verified: new(false)}), []soultribe.User{users[1], users[3], users[5]})
		equal(c, list(soultribe.UserQuery{Limit: limit, EmailPrefix: "ANN", Verified: new(true)}), []soultribe.User{users[0], users[2]})
	}
	for prefix, want := range map[string][]soultribe.User{
		"ann":       users[:3],
		"aNN@X.org": users[:1],
		"ann_":      users[1:2],
		"bob%":      users[3:4],
		"%":         {},
		"_":         {},
		`\`:         {},
		"Ün":        users[5:6],
		"ün":        {},
		"x.org":     {},
		" ann":      {},
		"carl@x.org and far more than any address": {},
	} {
		equal(c, list(soultribe.UserQuery{EmailPrefix: prefix}), want)
	}
	page, err := c.st.Users(c.Context(), soultribe.UserQuery{Limit: len(users)})
	c.noError(err)
	equal(c, page, soultribe.Page[soultribe.User]{Items: users}) // exactly full is the end

	// A page goes on behind an account that was deleted, and finds those that came.
	page, err = c.st.Users(c.Context(), soultribe.UserQuery{Limit: 2})
	c.noError(err)
	_, err = c.st.DeleteUser(c.Context(), users[1].ID)
	c.noError(err)
	latest := c.create("latest@x.org")
	page, err = c.st.Users(c.Context(), soultribe.UserQuery{After: page.Next})
	c.noError(err)
	equal(c, page.Items, append(slices.Clone(users[2:]), latest))
}

func (c *conformance) userCursors() {
	for range 3 {
		c.newUser("ann")
	}
	first, err := c.st.Users(c.Context(), soultribe.UserQuery{EmailPrefix: "ann", Limit: 1})
	c.noError(err)
	for _, q := range []soultribe.UserQuery{
		{},
		{EmailPrefix: "an"},
		{EmailPrefix: "ann", Verified: new(false)},
		{EmailPrefix: "ann", Verified: new(true)},
	} {
		q.After = first.Next
		_, err := c.st.Users(c.Context(), q)
		c.wantInvalid(err, "after")
	}
	_, err = c.st.PendingMatches(c.Context(), soultribe.PageQuery{After: first.Next})
	c.wantInvalid(err, "after")
	// The limit may vary.
	page, err := c.st.Users(c.Context(), soultribe.UserQuery{EmailPrefix: "ann", Limit: 7, After: first.Next})
	c.noError(err)
	equal(c, len(page.Items), 2)

	for _, cursor := range []soultribe.Cursor{"x", "AAAA", first.Next + "A", first.Next[1:], "\x00", soultribe.Cursor(strings.Repeat("A", 1<<20))} {
		_, err := c.st.Users(c.Context(), soultribe.UserQuery{EmailPrefix: "ann", After: cursor})
		c.wantInvalid(err, "after")
	}
	for _, limit := range []int{-1, 201, math.MaxInt, math.MinInt} {
		_, err := c.st.Users(c.Context(), soultribe.UserQuery{Limit: limit})
		c.wantInvalid(err, "limit")
	}
	for _, prefix := range []string{"\x00", "\xff", strings.Repeat("x", 255), strings.Repeat("x", 16<<20)} {
		_, err := c.st.Users(c.Context(), soultribe.UserQuery{EmailPrefix: prefix})
		c.wantInvalid(err, "email_prefix")
	}
	_, err = c.st.Users(c.Context(), soultribe.UserQuery{Limit: -1, After: "x", EmailPrefix: "\x00"})
	c.wantInvalid(err, "limit", "after", "email_prefix")
}

func (c *conformance) userAccounts() {
	a, b := c.user("ann"), c.create("bob@example.org")
	profile, err := c.st.Profile(c.Context(), a.ID)
	c.noError(err)
	want := map[soultribe.UserID]soultribe.Account{a.ID: {User: a, Profile: &profile}, b.ID: {User: b}}
	got, err := c.st.Accounts(c.Context(), []soultribe.UserID{b.ID, a.ID, a.ID, 0, -1, math.MaxInt32 + 1, math.MaxInt64})
	c.noError(err)
	equal(c, got, want)
	for _, ids := range [][]soultribe.UserID{nil, {}, {1 << 30}} {
		got, err := c.st.Accounts(c.Context(), ids)
		c.noError(err)
		equal(c, got, map[soultribe.UserID]soultribe.Account{})
	}
	got, err = c.st.Accounts(c.Context(), append(make([]soultribe.UserID, 998), a.ID, b.ID))
	c.noError(err)
	equal(c, got, want)
	_, err = c.st.Accounts(c.Context(), make([]soultribe.UserID, 1001))
	c.wantInvalid(err, "ids")
}

// userConflictsInTx meets each conflict in a transaction, of which the next statement must work.
func (c *conformance) userConflictsInTx() {
	a, b := c.user("ann"), c.newUser("bob")
	hash, err := c.st.HashPassword(c.Context(), goodPassword)
	c.noError(err)
	change, err := c.st.IssueEmailChange(c.Context(), b.ID, "password of "+b.Email, "taken@example.org")
	c.noError(err)
	c.create("taken@example.org")

	err = c.st.InTx(c.Context(), func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		conflicts := []struct {
			err  error
			call func() error
		}{
			{soultribe.ErrEmailTaken, func() error {
				_, err := st.CreateUser(ctx, soultribe.NewUser{Email: strings.ToUpper(a.Email), Hash: hash, Profile: &soultribe.NewProfile{DisplayName: "x"}})
				return err
			}},
			{soultribe.ErrInvalid, func() error { _, err := st.CreateUser(ctx, soultribe.NewUser{Email: "x", Hash: hash}); return err }},
			{soultribe.ErrNotFound, func() error { _, err := st.User(ctx, 1<<30); return err }},
			{soultribe.ErrNotFound, func() error { _, err := st.DeleteUser(ctx, math.MaxInt64); return err }},
			{soultribe.ErrNotFound, func() error { return st.SetPassword(ctx, 1<<30, goodPassword) }},
			{soultribe.ErrNotFound, func() error {
				_, err := st.SetProfile(ctx, 1<<30, soultribe.NewProfile{DisplayName: "x"})
				return err
			}},
			{soultribe.ErrInvalidCredentials, func() error { _, err := st.Authenticate(ctx, a.Email, "x"); return err }},
			{soultribe.ErrInvalidCredentials, func() error { return st.ChangePassword(ctx, a.ID, "x", goodPassword) }},
			{soultribe.ErrAlreadyVerified, func() error { _, err := st.IssueEmailVerification(ctx, a.ID); return err }},
			{soultribe.ErrCooldown, func() error { _, err := st.IssueEmailVerification(ctx, b.ID); return err }},
			{soultribe.ErrEmailTaken, func() error {
				_, err := st.IssueEmailChange(ctx, a.ID, "password of "+a.Email, b.Email)
				return err
			}},
			{soultribe.ErrEmailTaken, func() error { _, err := st.VerifyEmail(ctx, change.Secret()); return err }},
			{soultribe.ErrTokenInvalid, func() error { _, err := st.VerifyEmail(ctx, "unknown"); return err }},
			{soultribe.ErrTokenInvalid, func() error { _, err := st.ResetPassword(ctx, "unknown", goodPassword); return err }},
		}
		for i, conflict := range conflicts {
			c.wantError(conflict.call(), conflict.err)
			_, err := st.CreateUser(ctx, soultribe.NewUser{Email: fmt.Sprintf("after%d@example.org", i), Hash: hash})
			c.noError(err)
		}
		return nil
	})
	c.noError(err)
	page, err := c.st.Users(c.Context(), soultribe.UserQuery{EmailPrefix: "after"})
	c.noError(err)
	equal(c, len(page.Items), 14)

	// What fn returns is returned, and undoes all.
	failure := fmt.Errorf("the caller's own")
	err = c.st.InTx(c.Context(), func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
		_, err := st.DeleteUser(ctx, a.ID)
		c.noError(err)
		return failure
	})
	equal(c, err, failure)
	c.wantUser(a)
}

// userCancelled calls methods with a context that has ended. They do nothing, and the transaction that
// they are in goes on.
func (c *conformance) userCancelled() {
	u := c.newUser("ann")
	ended, cancel := context.WithCancel(c.Context())
	cancel()
	calls := map[string]func(ctx context.Context, st soultribe.Store) error{
		"CreateUser": func(ctx context.Context, st soultribe.Store) error {
			_, err := st.CreateUser(ctx, soultribe.NewUser{Email: "new@example.org", Password: goodPassword})
			return err
		},
		"HashPassword": func(ctx context.Context, st soultribe.Store) error {
			_, err := st.HashPassword(ctx, goodPassword)
			return err
		},
		"User": func(ctx context.Context, st soultribe.Store) error { _, err := st.User(ctx, u.ID); return err },
		"Authenticate": func(ctx context.Context, st soultribe.Store) error {
			_, err := st.Authenticate(ctx, u.Email, "password of "+u.Email)
			return err
		},
		"Authenticate nobody": func(ctx context.Context, st soultribe.Store) error {
			_, err := st.Authenticate(ctx, "", "")
			return err
		},
		"SetPassword":  func(ctx context.Context, st soultribe.Store) error { return st.SetPassword(ctx, u.ID, goodPassword) },
		"MarkVerified": func(ctx context.Context, st soultribe.Store) error { return st.MarkVerified(ctx, u.ID) },
		"DeleteUser":   func(ctx context.Context, st soultribe.Store) error { _, err := st.DeleteUser(ctx, u.ID); return err },
		"Export":       func(ctx context.Context, st soultribe.Store) error { _, err := st.Export(ctx, u.ID); return err },
		"SetProfile": func(ctx context.Context, st soultribe.Store) error {
			_, err := st.SetProfile(ctx, u.ID, soultribe.NewProfile{DisplayName: "x"})
			return err
		},
		"IssueEmailVerification": func(ctx context.Context, st soultribe.Store) error {
			_, err := st.IssueEmailVerification(ctx, u.ID)
			return err
		},
		"IssuePasswordReset": func(ctx context.Context, st soultribe.Store) error {
			_, ok, err := st.IssuePasswordReset(ctx, u.Email)
			equal(c, ok, false)
			return err
		},
		"VerifyEmail": func(ctx context.Context, st soultribe.Store) error {
			_, err := st.VerifyEmail(ctx, "unknown")
			return err
		},
		"Users": func(ctx context.Context, st soultribe.Store) error {
			_, err := st.Users(ctx, soultribe.UserQuery{})
			return err
		},
	}
	before, err := c.st.Account(c.Context(), u.ID)
	c.noError(err)
	for name, call := range calls {
		c.sub(name, func(c *conformance) {
			err := call(ended, c.st)
			c.wantError(err, context.Canceled)
			equal(c, soultribe.Code(err), "canceled")
			c.noError(c.st.InTx(c.Context(), func(ctx context.Context, _ pgx.Tx, st soultribe.Store) error {
				c.wantError(call(ended, st), context.Canceled)
				_, err := st.User(ctx, u.ID)
				return err
			}))
			after, err := c.st.Account(c.Context(), u.ID)
			c.noError(err)
			equal(c, after, before)
		})
	}
	_, err = c.st.IssueEmailVerification(c.Context(), u.ID)
	c.noError(err) // no cool-down from the call that was cancelled
}

// wantJSON checks the JSON of a value, and that it reads back as the same.
func wantJSON[T any](c *conformance, v T, want string) {
	c.Helper()
	text, err := json.Marshal(v)
	c.noError(err)
	if string(text) != want {
		c.Fatalf("JSON is %s\nnot     %s", text, want)
	}
	var back T
	c.noError(json.Unmarshal(text, &back))
	equal(c, back, v)
}

func (c *conformance) userJSON() {
	u := c.create("ann@example.org")
	wantJSON(c, u, fmt.Sprintf(`{"id":%d,"email":"ann@example.org","created_at":"2026-03-02T09:00:00Z","credentials_changed_at":"2026-03-02T09:00:00Z"}`, u.ID))
	account, err := c.st.Account(c.Context(), u.ID)
	c.noError(err)
	wantJSON(c, account, fmt.Sprintf(`{"user":{"id":%d,"email":"ann@example.org","created_at":"2026-03-02T09:00:00Z","credentials_changed_at":"2026-03-02T09:00:00Z"}}`, u.ID))
	e, err := c.st.Export(c.Context(), u.ID)
	c.noError(err)
	wantJSON(c, e, fmt.Sprintf(`{"user":{"id":%d,"email":"ann@example.org","created_at":"2026-03-02T09:00:00Z","credentials_changed_at":"2026-03-02T09:00:00Z"},`+
		`"slots":[],"email_verifications":[],"password_resets":[],"matches":[],"meetups":[]}`, u.ID))
	page, err := c.st.Users(c.Context(), soultribe.UserQuery{EmailPrefix: "nobody"})
	c.noError(err)
	wantJSON(c, page, `{"items":[]}`)

	c.clock.Advance(time.Minute + 5*time.Microsecond)
	c.noError(c.st.MarkVerified(c.Context(), u.ID))
	u, err = c.st.User(c.Context(), u.ID)
	c.noError(err)
	wantJSON(c, u, fmt.Sprintf(`{"id":%d,"email":"ann@example.org","email_verified_at":"2026-03-02T09:01:00.000005Z",`+
		`"created_at":"2026-03-02T09:00:00Z","credentials_changed_at":"2026-03-02T09:00:00Z"}`, u.ID))
	p, err := c.st.SetProfile(c.Context(), u.ID, soultribe.NewProfile{DisplayName: "Ann"})
	c.noError(err)
	wantJSON(c, p, fmt.Sprintf(`{"user_id":%d,"full_name":"","display_name":"Ann","created_at":"2026-03-02T09:01:00.000005Z","updated_at":"2026-03-02T09:01:00.000005Z"}`, u.ID))
	p, err = c.st.SetProfile(c.Context(), u.ID, soultribe.NewProfile{FullName: "Ann S", DisplayName: "Ann", Bio: "b", Timezone: "Asia/Tokyo"})
	c.noError(err)
	wantJSON(c, p, fmt.Sprintf(`{"user_id":%d,"full_name":"Ann S","display_name":"Ann","bio":"b","timezone":"Asia/Tokyo",`+
		`"created_at":"2026-03-02T09:01:00.000005Z","updated_at":"2026-03-02T09:01:00.000005Z"}`, u.ID))
	public, err := c.st.PublicProfiles(c.Context(), []soultribe.UserID{u.ID})
	c.noError(err)
	wantJSON(c, public[u.ID], fmt.Sprintf(`{"user_id":%d,"display_name":"Ann","bio":"b","timezone":"Asia/Tokyo"}`, u.ID))
	deleted, err := c.st.DeleteUser(c.Context(), u.ID)
	c.noError(err)
	wantJSON(c, deleted, fmt.Sprintf(`{"user_id":%d,"matches":[],"meetups":[]}`, u.ID))

	var n soultribe.NewUser
	c.noError(json.Unmarshal([]byte(`{"email":"a@b","password":"pass word","profile":{"full_name":"F","display_name":"D","bio":"B","timezone":"Z"},"hash":"x","Hash":"x"}`), &n))
	equal(c, n, soultribe.NewUser{Email: "a@b", Password: "pass word", Profile: &soultribe.NewProfile{FullName: "F", DisplayName: "D", Bio: "B", Timezone: "Z"}})
}

// wantRedacted checks that no way to print v, alone or within something, tells one of the secrets.
func wantRedacted[T any](c *conformance, v T, secrets ...string) {
	c.Helper()
	type holder struct {
		Held    T
		Pointer *T
		Any     any
	}
	values := []any{
		v, &v, new(&v), []T{v}, []*T{&v}, [1]T{v}, map[string]T{"key": v}, holder{v, &v, v}, &holder{v, &v, &v}, []any{v},
		struct{ T any }{v}, fmt.Errorf("wrapped: %v", v),
	}
	check := func(way, text string) {
		c.Helper()
		for _, secret := range secrets {
			for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("% x", secret), fmt.Sprintf("%v", []byte(secret))} {
				if strings.Contains(text, form) {
					c.Fatalf("%s of %T tells %q: %s", way, v, secret, text)
				}
			}
		}
	}
	for _, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%+q", "%#x", "%o", "%b", "%U", "%c", "%e", "%t", "%40v", "%.3s", "%!"} {
			check(verb, fmt.Sprintf(verb, value))
		}
		check("Sprint", fmt.Sprint(value))
		check("Sprintln", fmt.Sprintln(value))
		text, err := json.Marshal(value)
		c.noError(err)
		check("JSON", string(text))
		for _, handler := range []func(b *bytes.Buffer) slog.Handler{
			func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(handler(&b)).With("held", value).Info("message", "value", value, slog.Group("group", "value", value))
			check("slog", b.String())
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		equal(c, fmt.Sprintf(verb, v), "[redacted]")
		equal(c, fmt.Sprintf(verb, &v), "[redacted]")
	}
	text, err := json.Marshal(v)
	c.noError(err)
	equal(c, string(text), `"[redacted]"`)
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("message", "value", v)
	if !strings.Contains(b.String(), "value=[redacted]") {
		c.Fatalf("slog prints %s", b.String())
	}
}

func (c *conformance) userRedaction() {
	hash, err := c.st.HashPassword(c.Context(), goodPassword)
	c.noError(err)
	wantRedacted(c, hash, goodPassword, "argon2")
	wantRedacted(c, soultribe.PasswordHash{}, "argon2")
	wantRedacted(c, soultribe.NewUser{
		Email: "canary@example.org", Password: goodPassword, Hash: hash, Profile: &soultribe.NewProfile{FullName: "Canary Full"},
	}, "canary@", goodPassword, "argon2", "Canary Full")

	u := c.newUser("canary")
	verification, err := c.st.IssueEmailVerification(c.Context(), u.ID)
	c.noError(err)
	wantRedacted(c, verification, verification.Secret(), u.Email)
	reset, _, err := c.st.IssuePasswordReset(c.Context(), u.Email)
	c.noError(err)
	wantRedacted(c, reset, reset.Secret(), u.Email)
}

func (c *conformance) profileSet() {
	u := c.create("ann@example.org")
	p, err := c.st.SetProfile(c.Context(), u.ID, soultribe.NewProfile{FullName: " Ann S ", DisplayName: " Ann ", Bio: " Hi ", Timezone: "Europe/Vienna"})
	c.noError(err)
	want := soultribe.Profile{UserID: u.ID, FullName: "Ann S", DisplayName: "Ann", Bio: " Hi ", Timezone: "Europe/Vienna", CreatedAt: Epoch, UpdatedAt: Epoch}
	equal(c, p, want)
	c.wantProfile(want)

	// It replaces all of it, but for when it was made.
	c.clock.Advance(time.Hour)
	p, err = c.st.SetProfile(c.Context(), u.ID, soultribe.NewProfile{DisplayName: "A."})
	c.noError(err)
	want = soultribe.Profile{UserID: u.ID, DisplayName: "A.", CreatedAt: Epoch, UpdatedAt: at(time.Hour)}
	equal(c, p, want)
	c.wantProfile(want)

	_, err = c.st.SetProfile(c.Context(), 0, soultribe.NewProfile{})
	c.wantInvalid(err, "user_id", "display_name")
}

// wantProfile checks that every way of reading finds the profile as want.
func (c *conformance) wantProfile(want soultribe.Profile) {
	c.Helper()
	p, err := c.st.Profile(c.Context(), want.UserID)
	c.noError(err)
	equal(c, p, want)
	account, err := c.st.Account(c.Context(), want.UserID)
	c.noError(err)
	equal(c, account.Profile, &want)
	public, err := c.st.PublicProfiles(c.Context(), []soultribe.UserID{want.UserID})
	c.noError(err)
	equal(c, public, map[soultribe.UserID]soultribe.PublicProfile{
		want.UserID: {UserID: want.UserID, DisplayName: want.DisplayName, Bio: want.Bio, Timezone: want.Timezone},
	})
}

func (c *conformance) profileUpdate() {
	none := c.create("none@example.org")
	_, err := c.st.UpdateProfile(c.Context(), none.ID, soultribe.ProfileUpdate{DisplayName: new("Ann")})
	c.wantError(err, soultribe.ErrNotFound)
	_, err = c.st.UpdateProfile(c.Context(), none.ID, soultribe.ProfileUpdate{})
	c.wantError(err, soultribe.ErrNotFound)
	_, err = c.st.Profile(c.Context(), none.ID)
	c.wantError(err, soultribe.ErrNotFound)

	u, other := c.create("ann@example.org"), c.newUser("bob")
	want, err := c.st.SetProfile(c.Context(), u.ID, soultribe.NewProfile{FullName: "Ann S", DisplayName: "Ann", Bio: "Hi", Timezone: "Europe/Vienna"})
	c.noError(err)
	untouched, err := c.st.Profile(c.Context(), other.ID)
	c.noError(err)
	steps := []struct {
		update soultribe.ProfileUpdate
		change func(p *soultribe.Profile)
	}{
		{soultribe.ProfileUpdate{FullName: new(" Ann Smith ")}, func(p *soultribe.Profile) { p.FullName = "Ann Smith" }},
		{soultribe.ProfileUpdate{DisplayName: new(" A. ")}, func(p *soultribe.Profile) { p.DisplayName = "A." }},
		{soultribe.ProfileUpdate{Bio: new(" New ")}, func(p *soultribe.Profile) { p.Bio = " New " }},
		{soultribe.ProfileUpdate{Timezone: new("UTC")}, func(p *soultribe.Profile) { p.Timezone = "UTC" }},
		{soultribe.ProfileUpdate{Bio: new("")}, func(p *soultribe.Profile) { p.Bio = "" }},
		{soultribe.ProfileUpdate{Timezone: new("")}, func(p *soultribe.Profile) { p.Timezone = "" }},
		{soultribe.ProfileUpdate{FullName: new("")}, func(p *soultribe.Profile) { p.FullName = "" }},
		{soultribe.ProfileUpdate{Bio: new("b"), FullName: new("f"), DisplayName: new("d"), Timezone: new("Asia/Tokyo")}, func(p *soultribe.Profile) {
			p.FullName, p.DisplayName, p.Bio, p.Timezone = "f", "d", "b", "Asia/Tokyo"
		}},
	}
	for _, step := range steps {
		c.clock.Advance(time.Minute)
		p, err := c.st.UpdateProfile(c.Context(), u.ID, step.update)
		c.noError(err)
		step.change(&want)
		want.UpdatedAt = c.clock.Now()
		equal(c, p, want)
		c.wantProfile(want)
	}
	// Nothing to change is no change.
	c.clock.Advance(time.Minute)
	p, err := c.st.UpdateProfile(c.Context(), u.ID, soultribe.ProfileUpdate{})
	c.noError(err)
	equal(c, p, want)
	c.wantProfile(want)
	c.wantProfile(untouched)
	// The one of an account that is changed and one that is refused leave nothing behind.
	_, err = c.st.UpdateProfile(c.Context(), 0, soultribe.ProfileUpdate{DisplayName: new("")})
	c.wantInvalid(err, "user_id", "display_name")
}

// profileRules tries the fields by each of the methods that take them.
func (c *conformance) profileRules() {
	const field, display, bio, zone = "full_name", "display_name", "bio", "timezone"
	u := c.create("ann@example.org")
	before, err := c.st.SetProfile(c.Context(), u.ID, soultribe.NewProfile{DisplayName: "Ann", Bio: "Hi"})
	c.noError(err)
	full, huge := strings.Repeat("é", 200), strings.Repeat("a", 16<<20)
	tests := []struct {
		field, value string
		ok           bool
	}{
		{field, full, true},
		{field, "", true},
		{field, " " + full + " ", true},
		{field, full + "é", false},
		{field, "a\nb", false},
		{field, "a\x00b", false},
		{field, "a\x1bb", false},
		{field, "a\u0085b", false},
		{field, "a\xffb", false},
		{field, huge, false},
		{field, strings.Repeat("\xff", 300), false},

		{display, full, true},
		{display, "🐻", true},
		{display, `<script>'"; DROP TABLE profile --`, true},
		{display, "", false},
		{display, " \t\n ", false},
		{display, full + "é", false},
		{display, "a\rb", false},
		{display, "\x00", false},
		{display, "\xc3", false},
		{display, huge, false},

		{bio, strings.Repeat("🐻", 10_000), true},
		{bio, "a\n\tb\r\n\u0085", true},
		{bio, " ", true},
		{bio, strings.Repeat("a", 10_001), false},
		{bio, "a\x00b", false},
		{bio, "\xff", false},
		{bio, huge, false},

		{zone, "UTC", true},
		{zone, "America/Argentina/Buenos_Aires", true},
		{zone, "Local", false},
		{zone, "../etc/passwd", false},
		{zone, "/etc/localtime", false},
		{zone, "europe/vienna", false},
		{zone, "Europe/Nowhere", false},
		{zone, "Europe", false},
		{zone, " Europe/Vienna", false},
		{zone, "Europe/Vienna\x00", false},
		{zone, "+02:00", false},
		{zone, "\xff", false},
		{zone, huge, false},
	}
	for _, test := range tests {
		n := soultribe.NewProfile{DisplayName: "Ann"}
		var update soultribe.ProfileUpdate
		given, updated := map[string]*string{field: &n.FullName, display: &n.DisplayName, bio: &n.Bio, zone: &n.Timezone},
			map[string]**string{field: &update.FullName, display: &update.DisplayName, bio: &update.Bio, zone: &update.Timezone}
		*given[test.field], *updated[test.field] = test.value, &test.value
		c.users++
		_, errCreate := c.st.CreateUser(c.Context(), soultribe.NewUser{Email: fmt.Sprintf("rule%d@example.org", c.users), Password: goodPassword, Profile: &n})
		_, errSet := c.st.SetProfile(c.Context(), u.ID, n)
		_, errUpdate := c.st.UpdateProfile(c.Context(), u.ID, update)
		for _, err := range []error{errCreate, errSet, errUpdate} {
			if !test.ok {
				c.wantInvalid(err, test.field)
				if strings.Contains(err.Error(), "\x00") || len(err.Error()) > 1000 {
					c.Fatalf("the error repeats what was given: %d bytes", len(err.Error()))
				}
			} else {
				c.noError(err)
			}
		}
		if !test.ok {
			c.wantProfile(before)
			continue
		}
		p, err := c.st.Profile(c.Context(), u.ID)
		c.noError(err)
		kept := map[string]string{field: p.FullName, display: p.DisplayName, bio: p.Bio, zone: p.Timezone}[test.field]
		want := test.value
		if test.field != bio {
			want = strings.TrimSpace(want)
		}
		equal(c, kept, want)
		before, err = c.st.SetProfile(c.Context(), u.ID, soultribe.NewProfile{DisplayName: "Ann", Bio: "Hi"})
		c.noError(err)
	}
	_, err = c.st.SetProfile(c.Context(), u.ID, soultribe.NewProfile{FullName: "\x00", Bio: "\x00", Timezone: "x"})
	c.wantInvalid(err, field, display, bio, zone)
	_, err = c.st.UpdateProfile(c.Context(), u.ID, soultribe.ProfileUpdate{FullName: new("\x00"), DisplayName: new(""), Bio: new("\x00"), Timezone: new("x")})
	c.wantInvalid(err, field, display, bio, zone)
	c.wantProfile(before)
}

func (c *conformance) profilePublic() {
	a, b, none := c.user("ann"), c.newUser("bob"), c.create("none@example.org")
	want := map[soultribe.UserID]soultribe.PublicProfile{
		a.ID: {UserID: a.ID, DisplayName: "ann", Timezone: "Europe/Vienna"},
		b.ID: {UserID: b.ID, DisplayName: "bob", Timezone: "Europe/Vienna"},
	}
	got, err := c.st.PublicProfiles(c.Context(), []soultribe.UserID{b.ID, a.ID, none.ID, a.ID, 0, -1, math.MaxInt32 + 1, math.MinInt64})
	c.noError(err)
	equal(c, got, want)
	for _, ids := range [][]soultribe.UserID{nil, {}, {none.ID}} {
		got, err := c.st.PublicProfiles(c.Context(), ids)
		c.noError(err)
		equal(c, got, map[soultribe.UserID]soultribe.PublicProfile{})
	}
	got, err = c.st.PublicProfiles(c.Context(), append(make([]soultribe.UserID, 998), a.ID, b.ID))
	c.noError(err)
	equal(c, got, want)
	_, err = c.st.PublicProfiles(c.Context(), make([]soultribe.UserID, 1001))
	c.wantInvalid(err, "ids")
	text, err := json.Marshal(want)
	c.noError(err)
	if bytes.Contains(text, []byte("Full")) {
		c.Fatalf("the full name is public: %s", text)
	}
}

func (c *conformance) profileUpdateJSON() {
	for text, want := range map[string]soultribe.ProfileUpdate{
		`{}`:                              {},
		`null`:                            {},
		`{"bio":null}`:                    {Bio: new("")},
		`{"bio":""}`:                      {Bio: new("")},
		`{"BIO":null}`:                    {Bio: new("")},
		`{"timezone": null ,"x":1}`:       {Timezone: new("")},
		`{"bio":null,"bio":"b"}`:          {Bio: new("b")},
		`{"bio":"b","bio":null}`:          {Bio: new("")},
		`{"full_name":"f","bio":"\\u00"}`: {FullName: new("f"), Bio: new(`\u00`)},
		`{"full_name":null,"display_name":null,"bio":null,"timezone":null}`: {FullName: new(""), DisplayName: new(""), Bio: new(""), Timezone: new("")},
	} {
		var got soultribe.ProfileUpdate
		c.noError(json.Unmarshal([]byte(text), &got))
		equal(c, got, want)
	}
	// What was there stays where the text says nothing.
	got := soultribe.ProfileUpdate{FullName: new("f"), Bio: new("b")}
	c.noError(json.Unmarshal([]byte(`{"bio":null}`), &got))
	equal(c, got, soultribe.ProfileUpdate{FullName: new("f"), Bio: new("")})
	for _, text := range []string{`{"bio":1}`, `{"bio":{}}`, `[]`, `"x"`, `{"bio":`} {
		if err := json.Unmarshal([]byte(text), new(soultribe.ProfileUpdate)); err == nil {
			c.Fatalf("%s is taken", text)
		}
	}
	// A client that marshals the type clears nothing by what it leaves alone.
	wantJSON(c, soultribe.ProfileUpdate{DisplayName: new("d"), Bio: new("")}, `{"display_name":"d","bio":""}`)
	wantJSON(c, soultribe.ProfileUpdate{}, `{}`)

	u := c.newUser("ann")
	var update soultribe.ProfileUpdate
	c.noError(json.Unmarshal([]byte(`{"display_name":null}`), &update))
	_, err := c.st.UpdateProfile(c.Context(), u.ID, update)
	c.wantInvalid(err, "display_name")
	update = soultribe.ProfileUpdate{}
	c.noError(json.Unmarshal([]byte(`{"timezone":null,"full_name":null}`), &update))
	p, err := c.st.UpdateProfile(c.Context(), u.ID, update)
	c.noError(err)
	equal(c, p, soultribe.Profile{UserID: u.ID, DisplayName: "ann", CreatedAt: Epoch, UpdatedAt: Epoch})
}
