package soultribetest

import (
	"encoding/base64"
	"strings"
	"time"

	"github.com/soultribe-chat/soultribe"
)

// The tests of TokenStore.
var tokenTests = []conformanceTest{
	{name: "verification", run: (*conformance).tokenVerification},
	{name: "verification of several", run: (*conformance).tokenVerificationSeveral},
	{name: "cool-down", run: (*conformance).tokenCooldown},
	{
		name: "other cool-down and lifetimes", run: (*conformance).tokenOtherTimes,
		options: []soultribe.Option{
			soultribe.WithCooldowns(soultribe.Cooldowns{Token: 10 * time.Minute}),
			soultribe.WithTokenLifetimes(soultribe.TokenLifetimes{EmailVerification: time.Minute, PasswordReset: 2 * time.Minute}),
		},
	},
	{
		name: "all at one instant", run: (*conformance).tokenOneInstant,
		options: []soultribe.Option{soultribe.WithCooldowns(soultribe.Cooldowns{Token: -1})},
	},
	{name: "expiry", run: (*conformance).tokenExpiry},
	{name: "reset", run: (*conformance).tokenReset},
	{name: "reset of several", run: (*conformance).tokenResetSeveral},
	{name: "reset refuses a bad password", run: (*conformance).tokenResetPasswords},
	{name: "reset verifies the address", run: (*conformance).tokenResetVerifies},
	{name: "change", run: (*conformance).tokenChange},
	{name: "change bad arguments", run: (*conformance).tokenChangeInvalid},
	{name: "change to another spelling", run: (*conformance).tokenChangeSpelling},
	{name: "change to an address that is taken meanwhile", run: (*conformance).tokenChangeTaken},
	{name: "change kills what went to the old address", run: (*conformance).tokenChangeKills},
	{name: "looking", run: (*conformance).tokenLooking},
	{name: "what is no secret", run: (*conformance).tokenNoSecrets},
	{name: "deleted user", run: (*conformance).tokenDeletedUser},
}

// wantToken checks a token against what was asked for, and that its secret is as random as one can see.
func (c *conformance) wantToken(tok soultribe.IssuedToken, user soultribe.UserID, email string, expires time.Time) {
	c.Helper()
	equal(c, tok.UserID, user)
	equal(c, tok.Email, email)
	equal(c, tok.ExpiresAt, expires)
	b, err := base64.RawURLEncoding.DecodeString(tok.Secret())
	c.noError(err)
	equal(c, len(b), 32)
}

// verification issues a secret past the cool-down.
func (c *conformance) verification(user soultribe.UserID) soultribe.IssuedToken {
	c.Helper()
	c.clock.Advance(time.Minute)
	tok, err := c.st.IssueEmailVerification(c.Context(), user)
	c.noError(err)
	return tok
}

// change issues a secret past the cool-down, for a user of create.
func (c *conformance) change(user soultribe.UserID, email string) soultribe.IssuedToken {
	c.Helper()
	c.clock.Advance(time.Minute)
	tok, err := c.st.IssueEmailChange(c.Context(), user, goodPassword, email)
	c.noError(err)
	return tok
}

// reset issues a secret past the cool-down.
func (c *conformance) reset(email string) soultribe.IssuedToken {
	c.Helper()
	c.clock.Advance(time.Minute)
	tok, ok, err := c.st.IssuePasswordReset(c.Context(), email)
	c.noError(err)
	equal(c, ok, true)
	return tok
}

// wantVerifyError checks that looking and redeeming answer the same, and that nothing is redeemed.
func (c *conformance) wantVerifyError(secret string, want error) {
	c.Helper()
	c.wantError(c.st.CheckEmailVerification(c.Context(), secret), want)
	u, err := c.st.VerifyEmail(c.Context(), secret)
	c.wantError(err, want)
	equal(c, u, soultribe.User{})
}

// wantResetError is wantVerifyError for resets.
func (c *conformance) wantResetError(secret string, want error) {
	c.Helper()
	c.wantError(c.st.CheckPasswordReset(c.Context(), secret), want)
	u, err := c.st.ResetPassword(c.Context(), secret, "the visitor's own")
	c.wantError(err, want)
	equal(c, u, soultribe.User{})
}

func (c *conformance) tokenVerification() {
	u, other := c.create("Ann@Example.org"), c.create("bob@example.org")
	tok, err := c.st.IssueEmailVerification(c.Context(), u.ID)
	c.noError(err)
	c.wantToken(tok, u.ID, "Ann@Example.org", at(24*time.Hour))
	c.wantUser(u) // nothing yet
	c.noError(c.st.CheckEmailVerification(c.Context(), tok.Secret()))

	c.clock.Advance(time.Hour)
	got, err := c.st.VerifyEmail(c.Context(), tok.Secret())
	c.noError(err)
	u.EmailVerifiedAt = new(at(time.Hour))
	equal(c, got, u)
	c.wantUser(u)
	c.wantUser(other)

	c.clock.Advance(time.Hour)
	c.wantVerifyError(tok.Secret(), soultribe.ErrTokenUsed)
	_, err = c.st.IssueEmailVerification(c.Context(), u.ID)
	c.wantError(err, soultribe.ErrAlreadyVerified, soultribe.ErrConflict)
	equal(c, soultribe.Code(err), "already_verified")
	c.wantUser(u)
}

func (c *conformance) tokenVerificationSeveral() {
	u := c.create("ann@example.org")
	first, second, third := c.verification(u.ID), c.verification(u.ID), c.verification(u.ID)
	if first.Secret() == second.Secret() || second.Secret() == third.Secret() {
		c.Fatal("two secrets are the same")
	}
	// A secret works until it expires, however many came after it.
	c.clock.Set(first.ExpiresAt.Add(-time.Microsecond))
	u, err := c.st.VerifyEmail(c.Context(), first.Secret())
	c.noError(err)
	equal(c, u.EmailVerifiedAt, new(first.ExpiresAt.Add(-time.Microsecond)))
	for _, tok := range []soultribe.IssuedToken{first, second, third} {
		c.wantVerifyError(tok.Secret(), soultribe.ErrTokenUsed)
	}
	c.wantUser(u)

	// A secret that outlives the verification by other means changes nothing of it.
	b := c.create("bob@example.org")
	tok := c.verification(b.ID)
	c.noError(c.st.MarkVerified(c.Context(), b.ID))
	b, err = c.st.User(c.Context(), b.ID)
	c.noError(err)
	c.clock.Advance(time.Hour)
	got, err := c.st.VerifyEmail(c.Context(), tok.Secret())
	c.noError(err)
	equal(c, got, b)
	c.wantUser(b)
}

func (c *conformance) tokenCooldown() {
	a, b := c.create("ann@example.org"), c.create("bob@example.org")
	issue := func(u soultribe.User) error { _, err := c.st.IssueEmailVerification(c.Context(), u.ID); return err }
	c.noError(issue(a))
	for _, after := range []time.Duration{0, time.Microsecond, 59 * time.Second, time.Minute - time.Microsecond} {
		c.clock.Set(at(after))
		err := issue(a)
		c.wantCooldown(err, at(time.Minute))
		equal(c, soultribe.Code(err), "cooldown")
		_, err = c.st.IssueEmailChange(c.Context(), a.ID, goodPassword, "new@example.org")
		c.wantCooldown(err, at(time.Minute))
	}
	c.noError(issue(b)) // it is the account's
	reset := func(email string) bool {
		c.Helper()
		tok, ok, err := c.st.IssuePasswordReset(c.Context(), email)
		c.noError(err)
		if !ok {
			equal(c, tok, soultribe.IssuedToken{})
		}
		return ok
	}
	equal(c, reset(a.Email), true) // of one kind
	equal(c, reset("ANN@example.org"), false)
	c.clock.Set(at(time.Minute))
	equal(c, reset(a.Email), false)
	c.noError(issue(a))
	c.clock.Advance(time.Minute)
	equal(c, reset(a.Email), true)
	_, err := c.st.IssueEmailChange(c.Context(), a.ID, goodPassword, "new@example.org")
	c.noError(err)
	c.wantCooldown(issue(a), c.clock.Now().Add(time.Minute))

	// One that was used counts, as it was mailed.
	tok := c.reset(b.Email)
	_, err = c.st.ResetPassword(c.Context(), tok.Secret(), goodPassword)
	c.noError(err)
	equal(c, reset(b.Email), false)
	c.clock.Advance(time.Minute)
	equal(c, reset(b.Email), true)
}

func (c *conformance) tokenOtherTimes() {
	u := c.create("ann@example.org")
	tok, err := c.st.IssueEmailVerification(c.Context(), u.ID)
	c.noError(err)
	c.wantToken(tok, u.ID, u.Email, at(time.Minute))
	reset, _, err := c.st.IssuePasswordReset(c.Context(), u.Email)
	c.noError(err)
	c.wantToken(reset, u.ID, u.Email, at(2*time.Minute))
	c.clock.Set(at(time.Minute))
	c.wantVerifyError(tok.Secret(), soultribe.ErrTokenExpired)
	c.noError(c.st.CheckPasswordReset(c.Context(), reset.Secret()))
	c.clock.Set(at(10*time.Minute - time.Microsecond))
	_, err = c.st.IssueEmailVerification(c.Context(), u.ID)
	c.wantCooldown(err, at(10*time.Minute))
	_, ok, err := c.st.IssuePasswordReset(c.Context(), u.Email)
	c.noError(err)
	equal(c, ok, false)
	c.clock.Set(at(10 * time.Minute))
	_, err = c.st.IssueEmailVerification(c.Context(), u.ID)
	c.noError(err)
}

// tokenOneInstant does all of it while the clock stands still, without a cool-down: no step may tell
// what came first by the time.
func (c *conformance) tokenOneInstant() {
	u := c.create("ann@example.org")
	var verifications, resets []string
	for range 4 {
		tok, err := c.st.IssueEmailVerification(c.Context(), u.ID)
		c.noError(err)
		reset, ok, err := c.st.IssuePasswordReset(c.Context(), u.Email)
		c.noError(err)
		equal(c, ok, true)
		verifications, resets = append(verifications, tok.Secret()), append(resets, reset.Secret())
	}
	_, err := c.st.ResetPassword(c.Context(), resets[1], "another password")
	c.noError(err)
	for _, secret := range resets {
		c.wantResetError(secret, soultribe.ErrTokenUsed)
	}
	_, err = c.st.VerifyEmail(c.Context(), verifications[2])
	c.noError(err)
	for _, secret := range verifications {
		c.wantVerifyError(secret, soultribe.ErrTokenUsed)
	}
	c.wantLogin(u.Email, "another password", goodPassword)

	// What is issued after a change works.
	c.noError(c.st.ChangePassword(c.Context(), u.ID, "another password", goodPassword))
	reset, _, err := c.st.IssuePasswordReset(c.Context(), u.Email)
	c.noError(err)
	c.noError(c.st.CheckPasswordReset(c.Context(), reset.Secret()))
	change, err := c.st.IssueEmailChange(c.Context(), u.ID, goodPassword, "new@example.org")
	c.noError(err)
	_, err = c.st.VerifyEmail(c.Context(), change.Secret())
	c.noError(err)
	c.wantResetError(reset.Secret(), soultribe.ErrTokenUsed)
	reset, ok, err := c.st.IssuePasswordReset(c.Context(), "new@example.org")
	c.noError(err)
	equal(c, ok, true)
	_, err = c.st.ResetPassword(c.Context(), reset.Secret(), "another password")
	c.noError(err)
	c.wantLogin("new@example.org", "another password", goodPassword)
}

func (c *conformance) tokenExpiry() {
	u := c.create("ann@example.org")
	tok, err := c.st.IssueEmailVerification(c.Context(), u.ID)
	c.noError(err)
	reset, _, err := c.st.IssuePasswordReset(c.Context(), u.Email)
	c.noError(err)
	c.wantToken(reset, u.ID, u.Email, at(time.Hour))
	c.clock.Set(at(time.Hour - time.Microsecond))
	c.noError(c.st.CheckPasswordReset(c.Context(), reset.Secret()))
	for _, after := range []time.Duration{time.Hour, time.Hour + time.Microsecond, 1000 * time.Hour} {
		c.clock.Set(at(after))
		c.wantResetError(reset.Secret(), soultribe.ErrTokenExpired)
	}
	c.clock.Set(at(24*time.Hour - time.Microsecond))
	c.noError(c.st.CheckEmailVerification(c.Context(), tok.Secret()))
	for _, after := range []time.Duration{24 * time.Hour, 24*time.Hour + time.Microsecond, 1000 * time.Hour} {
		c.clock.Set(at(after))
		c.wantVerifyError(tok.Secret(), soultribe.ErrTokenExpired)
	}
	c.wantUser(u)
	c.wantLogin(u.Email, goodPassword, "the visitor's own")

	// One that was used has been used for good.
	used := c.verification(u.ID)
	_, err = c.st.VerifyEmail(c.Context(), used.Secret())
	c.noError(err)
	c.clock.Advance(1000 * time.Hour)
	c.wantVerifyError(used.Secret(), soultribe.ErrTokenUsed)
	c.wantVerifyError(tok.Secret(), soultribe.ErrTokenUsed) // its sibling died with it
}

func (c *conformance) tokenReset() {
	u, other := c.create("Ann@Example.org"), c.create("bob@example.org")
	c.noError(c.st.MarkVerified(c.Context(), u.ID))
	u.EmailVerifiedAt = new(Epoch)
	for _, email := range []string{"nobody@example.org", "not an address", "a_n@example.org", "%"} {
		tok, ok, err := c.st.IssuePasswordReset(c.Context(), email)
		c.noError(err)
		equal(c, ok, false)
		equal(c, tok, soultribe.IssuedToken{})
	}
	for _, email := range []string{"", " ", "ann\x00@example.org", "\xff", strings.Repeat("x", 255), strings.Repeat("x", 16<<20)} {
		_, ok, err := c.st.IssuePasswordReset(c.Context(), email)
		c.wantInvalid(err, "email")
		equal(c, ok, false)
	}
	tok, ok, err := c.st.IssuePasswordReset(c.Context(), " ANN@example.org ")
	c.noError(err)
	equal(c, ok, true)
	c.wantToken(tok, u.ID, "Ann@Example.org", at(time.Hour)) // the stored address
	c.wantUser(u)
	c.wantLogin(u.Email, goodPassword, "a third password")

	c.clock.Advance(time.Minute)
	got, err := c.st.ResetPassword(c.Context(), tok.Secret(), "a third password")
	c.noError(err)
	u.CredentialsChangedAt = at(time.Minute)
	equal(c, got, u)
	c.wantUser(u) // verified as of before
	c.wantLogin(u.Email, "a third password", goodPassword)
	c.wantResetError(tok.Secret(), soultribe.ErrTokenUsed)
	c.wantLogin(u.Email, "a third password", "the visitor's own")
	c.wantUser(other)
	c.wantLogin(other.Email, goodPassword, "a third password")
}

func (c *conformance) tokenResetSeveral() {
	u, other := c.create("ann@example.org"), c.create("bob@example.org")
	first, second, third, others := c.reset(u.Email), c.reset(u.Email), c.reset(u.Email), c.reset(other.Email)
	_, err := c.st.ResetPassword(c.Context(), second.Secret(), "another password")
	c.noError(err)
	for _, tok := range []soultribe.IssuedToken{first, second, third} {
		c.wantResetError(tok.Secret(), soultribe.ErrTokenUsed)
	}
	c.wantLogin(u.Email, "another password", "the visitor's own")
	_, err = c.st.ResetPassword(c.Context(), others.Secret(), "another password")
	c.noError(err)
	c.wantLogin(other.Email, "another password", goodPassword)
}

func (c *conformance) tokenResetPasswords() {
	u := c.create("ann@example.org")
	tok := c.reset(u.Email)
	for _, password := range []string{"", "1234567", strings.Repeat("x", 1025), strings.Repeat("x", 16<<20), "with a \x00 in it"} {
		_, err := c.st.ResetPassword(c.Context(), tok.Secret(), password)
		c.wantInvalid(err, "password")
		_, err = c.st.ResetPassword(c.Context(), "unknown", password)
		c.wantInvalid(err, "password")
	}
	c.noError(c.st.CheckPasswordReset(c.Context(), tok.Secret()))
	c.wantUser(u)
	_, err := c.st.ResetPassword(c.Context(), tok.Secret(), "\xff\xfe exact bytes ")
	c.noError(err)
	c.wantLogin(u.Email, "\xff\xfe exact bytes ", "\xff\xfe exact bytes")
}

func (c *conformance) tokenResetVerifies() {
	u := c.create("ann@example.org")
	tok := c.reset(u.Email)
	got, err := c.st.ResetPassword(c.Context(), tok.Secret(), "another password")
	c.noError(err)
	u.EmailVerifiedAt, u.CredentialsChangedAt = new(c.clock.Now()), c.clock.Now()
	equal(c, got, u)
	c.wantUser(u)
}

func (c *conformance) tokenChange() {
	u := c.create("old@example.org")
	c.noError(c.st.MarkVerified(c.Context(), u.ID))
	u.EmailVerifiedAt = new(Epoch)
	_, err := c.st.SetProfile(c.Context(), u.ID, soultribe.NewProfile{DisplayName: "Ann"})
	c.noError(err)
	tok, err := c.st.IssueEmailChange(c.Context(), u.ID, goodPassword, " New@Example.org ")
	c.noError(err)
	c.wantToken(tok, u.ID, "New@Example.org", at(24*time.Hour))
	c.noError(c.st.CheckEmailVerification(c.Context(), tok.Secret()))
	c.wantUser(u)
	_, err = c.st.UserByEmail(c.Context(), "new@example.org")
	c.wantError(err, soultribe.ErrNotFound)
	_, ok, err := c.st.IssuePasswordReset(c.Context(), "new@example.org")
	c.noError(err)
	equal(c, ok, false)

	c.clock.Advance(time.Hour)
	got, err := c.st.VerifyEmail(c.Context(), tok.Secret())
	c.noError(err)
	u.Email, u.EmailVerifiedAt = "New@Example.org", new(at(time.Hour))
	equal(c, got, u)
	c.wantUser(u)
	c.wantVerifyError(tok.Secret(), soultribe.ErrTokenUsed)
	_, err = c.st.UserByEmail(c.Context(), "old@example.org")
	c.wantError(err, soultribe.ErrNotFound)
	_, err = c.st.Authenticate(c.Context(), "old@example.org", goodPassword)
	c.wantError(err, soultribe.ErrInvalidCredentials)
	c.wantLogin("new@example.org", goodPassword, "another password")
	account, err := c.st.AccountByEmail(c.Context(), "new@example.org")
	c.noError(err)
	equal(c, account.Profile.DisplayName, "Ann")

	// The old address is free, and one who was never verified may change a wrong one.
	second := c.create("old@example.org")
	tok = c.change(second.ID, "right@example.org")
	second, err = c.st.VerifyEmail(c.Context(), tok.Secret())
	c.noError(err)
	equal(c, second.EmailVerifiedAt, new(c.clock.Now()))
}

func (c *conformance) tokenChangeInvalid() {
	u, other := c.create("ann@example.org"), c.create("bob@example.org")
	issue := func(id soultribe.UserID, password, email string) error {
		tok, err := c.st.IssueEmailChange(c.Context(), id, password, email)
		if err != nil {
			equal(c, tok, soultribe.IssuedToken{})
		}
		return err
	}
	for _, email := range []string{"", "ann", "Ann <ann@example.org>", "a\x00@example.org", strings.Repeat("x", 16<<20), "ann@example.org\nBcc: x@y"} {
		c.wantInvalid(issue(u.ID, goodPassword, email), "email")
	}
	c.wantInvalid(issue(0, goodPassword, ""), "user_id", "email")
	c.wantInvalid(issue(u.ID, goodPassword, " ann@example.org "), "email") // the present one
	for _, password := range []string{"", "another password", goodPassword + " "} {
		c.wantError(issue(u.ID, password, "new@example.org"), soultribe.ErrInvalidCredentials)
		c.wantError(issue(u.ID, password, "ann@example.org"), soultribe.ErrInvalidCredentials) // before all else
		c.wantError(issue(u.ID, password, "bob@example.org"), soultribe.ErrInvalidCredentials)
	}
	c.wantError(issue(u.ID, goodPassword, "bob@example.org"), soultribe.ErrEmailTaken, soultribe.ErrConflict)
	c.wantError(issue(u.ID, goodPassword, "BOB@example.org"), soultribe.ErrEmailTaken)
	// None of these began a cool-down.
	c.noError(issue(u.ID, goodPassword, "new@example.org"))
	c.wantUser(u)
	c.wantUser(other)
}

func (c *conformance) tokenChangeSpelling() {
	u := c.create("ann@example.org")
	tok := c.change(u.ID, "Ann@Example.org")
	got, err := c.st.VerifyEmail(c.Context(), tok.Secret())
	c.noError(err)
	u.Email, u.EmailVerifiedAt = "Ann@Example.org", new(c.clock.Now())
	equal(c, got, u)
	c.wantUser(u)
}

func (c *conformance) tokenChangeTaken() {
	a, b := c.create("ann@example.org"), c.create("bob@example.org")
	first, second := c.change(a.ID, "new@example.org"), c.change(b.ID, "NEW@example.org")
	b, err := c.st.VerifyEmail(c.Context(), second.Secret())
	c.noError(err)
	c.wantVerifyError(first.Secret(), soultribe.ErrEmailTaken)
	c.wantVerifyError(first.Secret(), soultribe.ErrEmailTaken)
	c.wantUser(a)
	c.wantUser(b)

	// The secret was not used: once the address is free again it works.
	third := c.change(b.ID, "other@example.org")
	_, err = c.st.VerifyEmail(c.Context(), third.Secret())
	c.noError(err)
	c.noError(c.st.CheckEmailVerification(c.Context(), first.Secret()))
	a, err = c.st.VerifyEmail(c.Context(), first.Secret())
	c.noError(err)
	equal(c, a.Email, "new@example.org")
	c.wantUser(a)

	// One who registers is one who takes it; expiry goes before that.
	tok := c.change(a.ID, "taken@example.org")
	c.create("Taken@example.org")
	c.wantVerifyError(tok.Secret(), soultribe.ErrEmailTaken)
	c.clock.Set(tok.ExpiresAt)
	c.wantVerifyError(tok.Secret(), soultribe.ErrTokenExpired)
}

func (c *conformance) tokenChangeKills() {
	u := c.create("old@example.org")
	other := c.create("bob@example.org")
	kept := c.reset(other.Email)
	plain := c.verification(u.ID)
	first, second := c.change(u.ID, "first@example.org"), c.change(u.ID, "second@example.org")
	reset := c.reset(u.Email)
	u, err := c.st.VerifyEmail(c.Context(), second.Secret())
	c.noError(err)
	equal(c, u.Email, "second@example.org")
	c.wantVerifyError(plain.Secret(), soultribe.ErrTokenUsed)
	c.wantVerifyError(first.Secret(), soultribe.ErrTokenUsed)
	c.wantResetError(reset.Secret(), soultribe.ErrTokenUsed)
	c.wantUser(u)
	c.wantLogin(u.Email, goodPassword, "the visitor's own")
	c.noError(c.st.CheckPasswordReset(c.Context(), kept.Secret()))

	// A plain verification kills a change under way, and no reset, which went to the same address.
	v := c.create("carl@example.org")
	reset, change := c.reset(v.Email), c.change(v.ID, "new@example.org")
	plain = c.verification(v.ID)
	_, err = c.st.VerifyEmail(c.Context(), plain.Secret())
	c.noError(err)
	c.wantVerifyError(change.Secret(), soultribe.ErrTokenUsed)
	c.noError(c.st.CheckPasswordReset(c.Context(), reset.Secret()))
}

func (c *conformance) tokenLooking() {
	u := c.create("ann@example.org")
	tok, change, reset := c.verification(u.ID), c.change(u.ID, "new@example.org"), c.reset(u.Email)
	for range 100 {
		c.noError(c.st.CheckEmailVerification(c.Context(), tok.Secret()))
		c.noError(c.st.CheckEmailVerification(c.Context(), change.Secret()))
		c.noError(c.st.CheckPasswordReset(c.Context(), reset.Secret()))
	}
	c.wantUser(u)
	_, err := c.st.ResetPassword(c.Context(), reset.Secret(), "another password")
	c.noError(err)
	_, err = c.st.VerifyEmail(c.Context(), tok.Secret())
	c.noError(err)
}

func (c *conformance) tokenNoSecrets() {
	u := c.create("ann@example.org")
	tok, reset := c.verification(u.ID), c.reset(u.Email)
	lower := strings.ToLower(tok.Secret())
	if lower == tok.Secret() {
		lower = strings.ToUpper(tok.Secret())
	}
	for _, secret := range []string{
		"", " ", "x", "\x00", "\xff", "%", "' OR true --", `\`, `\000`, strings.Repeat("A", 43), strings.Repeat("A", 1024), strings.Repeat("A", 1025), strings.Repeat("A", 16<<20),
		"sha256:", "sha256:" + strings.Repeat("0", 64), "SHA256:" + strings.Repeat("0", 64),
		" " + tok.Secret(), tok.Secret() + "\n", tok.Secret() + "=", tok.Secret()[:42], tok.Secret() + "\x00", lower,
		reset.Secret(), // of the other kind
	} {
		c.wantVerifyError(secret, soultribe.ErrTokenInvalid)
		if secret != reset.Secret() {
			c.wantResetError(secret, soultribe.ErrTokenInvalid)
		}
		err := c.st.CheckEmailVerification(c.Context(), secret)
		equal(c, soultribe.Code(err), "token_invalid") // and not one of those beneath it
		if len(secret) > 8 && strings.Contains(err.Error(), secret) {
			c.Fatalf("the error repeats the secret: %v", err)
		}
	}
	c.wantResetError(tok.Secret(), soultribe.ErrTokenInvalid)
	c.wantUser(u)
}

func (c *conformance) tokenDeletedUser() {
	u := c.create("ann@example.org")
	tok, change, reset := c.verification(u.ID), c.change(u.ID, "new@example.org"), c.reset(u.Email)
	_, err := c.st.DeleteUser(c.Context(), u.ID)
	c.noError(err)
	again := c.create("ann@example.org")
	for _, t := range []soultribe.IssuedToken{tok, change} {
		c.wantVerifyError(t.Secret(), soultribe.ErrTokenInvalid)
	}
	c.wantResetError(reset.Secret(), soultribe.ErrTokenInvalid)
	c.wantUser(again)
	c.reset(again.Email) // no cool-down is left of the other one
}
