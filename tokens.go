package soultribe

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/Masterminds/squirrel"
)

// IssuedToken is a secret to be mailed. It prints as [redacted].
type IssuedToken struct {
	UserID    UserID
	Email     string    // where to mail the secret: the stored address, or the new one of a change
	ExpiresAt time.Time // UTC
	secret    hidden
}

// Secret returns the secret: 32 random bytes as 43 characters of URL-safe base64. It is not stored, and
// cannot be had again.
func (t IssuedToken) Secret() string { return t.secret.reveal() }

// Format implements [fmt.Formatter]: every verb prints [redacted].
func (IssuedToken) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (IssuedToken) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements [json.Marshaler].
func (IssuedToken) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// TokenStore issues and redeems the secrets that are mailed to people. Only a SHA-256 of a secret is
// stored, or sent to the database. A secret works once, until it expires; of any number of calls with it
// at one time one succeeds.
//
// Mail from a job, not in the handler: the time that mailing takes would tell who has an account.
//
// The methods that redeem lock the user, then the tokens. They return ErrTokenInvalid for a secret that
// was never issued, and ErrTokenUsed or ErrTokenExpired, which both are ErrTokenInvalid.
type TokenStore interface {
	// IssueEmailVerification makes a secret that verifies the user's address within 24 hours. It returns
	// ErrAlreadyVerified, a *CooldownError (ErrCooldown) within 60 seconds of the one before, whichever
	// process issued it, and ErrNotFound.
	IssueEmailVerification(ctx context.Context, id UserID) (IssuedToken, error)
	// IssueEmailChange makes a secret that changes the user's address to email, to which it is to be
	// mailed. Nothing changes until VerifyEmail redeems it, and a change of password kills it. It returns ErrInvalidCredentials unless the
	// password is the user's, ErrInvalid for a bad address or the present one, ErrEmailTaken (which to
	// the user should look like success), a *CooldownError as IssueEmailVerification, and ErrNotFound.
	IssueEmailChange(ctx context.Context, id UserID, password, email string) (IssuedToken, error)
	// VerifyEmail redeems a secret of IssueEmailVerification or IssueEmailChange: the address it was
	// mailed to is the user's, and verified, and the user's other verification secrets die with it. An
	// address that changed also kills the password resets that went to the old one. It returns
	// ErrEmailTaken, and does not use the secret, where another account has taken the address meanwhile.
	VerifyEmail(ctx context.Context, secret string) (User, error)

	// IssuePasswordReset makes a secret that allows a new password within an hour. For an unknown
	// address, and within 60 seconds of the one before, ok is false and err is nil: the visitor is told
	// the same in all three cases. A job that could not send the mail keeps the token for its next try: a
	// new one within the cool-down is not issued. It returns ErrInvalid for what cannot be an address.
	IssuePasswordReset(ctx context.Context, email string) (tok IssuedToken, ok bool, err error)
	// ResetPassword redeems a secret of IssuePasswordReset: it sets the password, kills every other reset
	// and change of address of the user, moves CredentialsChangedAt, and verifies the address to which the secret was mailed if
	// that is still the user's. It returns ErrInvalid for a password that breaks the rules of NewUser,
	// which does not use the secret. It is two round trips, as the secret is looked at before the password is
	// hashed, and no connection is held meanwhile.
	ResetPassword(ctx context.Context, secret, password string) (User, error)

	// CheckEmailVerification returns what VerifyEmail would say of the secret, and changes nothing: a page
	// that a link scanner opens calls this, and the button on it VerifyEmail.
	CheckEmailVerification(ctx context.Context, secret string) error
	// CheckPasswordReset returns what ResetPassword would say of the secret, and changes nothing.
	CheckPasswordReset(ctx context.Context, secret string) error
}

const (
	secretBytes = 32

	// hashMark begins every stored hash, so that a stored value is told from a secret in plain text.
	hashMark = "sha256:"

	// maxSecretBytes bounds the work for what a visitor calls a secret.
	maxSecretBytes = 1024
)

// newSecret returns a secret and what is stored of it. SHA-256 without a salt suffices for 256 random bits.
func newSecret() (secret, stored string) {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails
	secret = base64.RawURLEncoding.EncodeToString(b)
	return secret, hashSecret(secret)
}

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hashMark + hex.EncodeToString(sum[:])
}

// checkSecret refuses what is no secret without a look at the database.
func checkSecret(secret string) error {
	if secret == "" || len(secret) > maxSecretBytes || strings.HasPrefix(secret, hashMark) {
		return ErrTokenInvalid
	}
	return nil
}

type tokenStatements struct {
	issueVerification, issueEmailChange, issueReset statement
	holdUserByEmail, holdUserByReset                statement
	checkVerification, checkReset                   statement
	verifyEmail, resetPassword                      statement
}

func newTokenStatements(t tables, plaintext bool) tokenStatements {
	return tokenStatements{
		issueVerification: issueToken(t, "IssueEmailVerification", t.verification, "u.id = $1::bigint", "u.email_verified_at IS NULL",
			"u.email", "false"),
		issueEmailChange: issueToken(t, "IssueEmailChange", t.verification, "u.id = $1::bigint AND u.password_hash = $7::text",
			"NOT EXISTS (SELECT FROM "+t.user+` o WHERE o.id <> u.id AND lower(o.email COLLATE "C") = lower($6::text COLLATE "C"))`,
			"$6::text", "true"),
		issueReset:      issueToken(t, "IssuePasswordReset", t.reset, byEmail, "true", "u.email", ""),
		holdUserByEmail: compile("HoldUserByEmail", squirrel.Select("u.id").From(t.user+" u").Where(byEmail).Suffix("FOR NO KEY UPDATE")),
		holdUserByReset: compile("HoldUserByReset", squirrel.Select("u.id").From(t.user+" u").
			Where("u.id = ("+bySecret(t.reset, "t.user_id", plaintext)+")").Suffix("FOR NO KEY UPDATE")),
		checkVerification: checkToken(t, "CheckEmailVerification", t.verification, plaintext),
		checkReset:        checkToken(t, "CheckPasswordReset", t.reset, plaintext),
		verifyEmail:       verifyEmail(t, plaintext),
		resetPassword:     resetPassword(t, plaintext),
	}
}

// The secret of a token is compared by its hash, $1. Rows that hold plain text are found by the hash of that, of
// which there is an index, so that no secret is sent to the database.
const (
	byHash      = "t.token = $1::text"
	byPlaintext = "t.token NOT LIKE 'sha256:%' AND " +
		`('sha256:' || encode(sha256(decode(replace(t.token, E'\\', E'\\\\'), 'escape')), 'hex')) = $1::text`
)

// bySecret finds the token of a secret. That it is one at most shows a plan for any values that it need not read
// everyone to whom a token could belong.
func bySecret(table, columns string, plaintext bool) string {
	list := squirrel.Select(columns).From(table + " t")
	text := constant(list.Where(byHash))
	if plaintext {
		text += " UNION ALL " + constant(list.Where(byPlaintext))
	}
	return text + " LIMIT 1"
}

// issueToken stores a token, unless the user has one from within the cool-down ($5 to $4). The user is
// locked by the statement before it, so that this one sees what others stored. A token that another
// application dated far ahead is no reason to wait.
func issueToken(t tables, name, table, user, condition, sentTo, changesEmail string) statement {
	insert := squirrel.Insert(table).Columns("user_id", "token", "expires_at", "created_at", "sent_to")
	row := squirrel.Select("u.id", "$2::text", "$3::timestamp", "$4::timestamp", sentTo)
	if changesEmail != "" {
		insert, row = insert.Columns("changes_email"), row.Column(changesEmail)
	}
	return compile(name, squirrel.Select("u.id", "u.email", "u.email_verified_at", "recent.at", condition, "i.id IS NOT NULL").
		From("person u").CrossJoin("recent").LeftJoin("issued i ON true"),
		with{"person", squirrel.Select("u.id", "u.email", "u.email_verified_at").From(t.user + " u").Where(user)},
		with{"recent", squirrel.Select("max(r.created_at) AS at").From(table + " r").
			Where("r.user_id = (SELECT u.id FROM person u) AND r.created_at > $5::timestamp" +
				" AND r.created_at <= ($4::timestamp + ($4::timestamp - $5::timestamp))")},
		with{"issued", insert.Select(row.From("person u").CrossJoin("recent").Where("recent.at IS NULL AND " + condition)).Suffix("RETURNING id")})
}

// checkToken also looks at what made the token worthless without marking it.
func checkToken(t tables, name, table string, plaintext bool) statement {
	dead, taken := outdated, "false"
	if table == t.verification {
		dead = worthless
		taken = addressTaken(t)
	}
	return compile(name, squirrel.Select("t.used_at IS NOT NULL OR "+dead, "t.expires_at", taken).
		From("("+bySecret(table, "t.*", plaintext)+") t").Join(t.user+" u ON u.id = t.user_id"))
}

// outdated means that a reset is from before the last change of password, or was mailed to an address
// that is no longer the user's: what changed either did not see a row that was not committed.
const outdated = "(" + beforeChange + " OR " + sentElsewhere + ")"

// worthless is the same of a verification. One that changes the address is asked for by password.
const worthless = "(CASE WHEN coalesce(t.changes_email, false) THEN " + beforeChange + " ELSE " + sentElsewhere + " END)"

// addressTaken means that a verification would change the address to one that another account has.
func addressTaken(t tables) string {
	return "(coalesce(t.changes_email, false) AND EXISTS (SELECT FROM " + t.user +
		` o WHERE o.id <> t.user_id AND lower(o.email COLLATE "C") = lower(t.sent_to COLLATE "C")))`
}

const beforeChange = "coalesce(t.created_at < u.credentials_changed_at, false)"

// sentElsewhere means that the token was mailed to an address that is no longer the user's. Rows of other
// applications do not tell, and go to the present one.
const sentElsewhere = `(t.sent_to IS NOT NULL AND lower(t.sent_to COLLATE "C") <> lower(u.email COLLATE "C"))`

// verifyEmail redeems and verifies in one statement, so that of any number of racers one wins: each waits
// for the user, and then its update looks at the token as the last one left it.
func verifyEmail(t tables, plaintext bool) statement {
	return compile("VerifyEmail", squirrel.Select(redemptionColumns...).From("known k").LeftJoin("verified v ON true"),
		with{"token", squirrel.Expr(bySecret(t.verification, redeemedRow+", coalesce(t.changes_email, false) AS changes_email", plaintext))},
		with{"known", squirrel.Select("t.*", worthless+" AS dead", addressTaken(t)+" AS taken").From("token t").Join(t.user + " u ON u.id = t.user_id").
			Suffix("FOR NO KEY UPDATE OF u")},
		with{"redeemed", redeem(t.verification, "k.sent_to", "k.changes_email")},
		with{"siblings", siblings(t.verification)},
		with{"resets", squirrel.Update(t.reset+" s").Set("used_at", squirrel.Expr("$2::timestamp")).From("redeemed r").
			Where("r.changes_email AND s.user_id = r.user_id AND s.used_at IS NULL")},
		with{"verified", squirrel.Update(t.user+" u").
			Set("email", squirrel.Expr("CASE WHEN r.changes_email THEN r.sent_to ELSE u.email END")).
			Set("email_verified_at", squirrel.Expr("CASE WHEN r.changes_email THEN $2::timestamp ELSE coalesce(u.email_verified_at, $2::timestamp) END")).
			From("redeemed r").Where("u.id = r.user_id").
			Suffix("RETURNING u.id, u.email, u.email_verified_at, u.created_at, u.credentials_changed_at")})
}

// resetPassword is to passwords what verifyEmail is to addresses. The user is locked by a statement before
// it, so that it sees, and kills, what was issued meanwhile.
func resetPassword(t tables, plaintext bool) statement {
	return compile("ResetPassword", squirrel.Select(redemptionColumns...).From("known k").LeftJoin("changed v ON true"),
		with{"token", squirrel.Expr(bySecret(t.reset, redeemedRow, plaintext))},
		with{"known", squirrel.Select("t.*", outdated+" AS dead", "false AS taken").From("token t").Join(t.user + " u ON u.id = t.user_id")},
		with{"redeemed", redeem(t.reset, "k.sent_to IS NOT NULL AS verifies")},
		with{"siblings", siblings(t.reset)},
		with{"changes", squirrel.Update(t.verification+" s").Set("used_at", squirrel.Expr("$2::timestamp")).From("redeemed r").
			Where("s.user_id = r.user_id AND s.used_at IS NULL AND s.changes_email")},
		with{"changed", squirrel.Update(t.user+" u").
			Set("password_hash", squirrel.Expr("$3::text")).
			Set("credentials_changed_at", squirrel.Expr("$2::timestamp")).
			Set("email_verified_at", squirrel.Expr("CASE WHEN r.verifies THEN coalesce(u.email_verified_at, $2::timestamp) ELSE u.email_verified_at END")).
			From("redeemed r").Where("u.id = r.user_id").
			Suffix("RETURNING u.id, u.email, u.email_verified_at, u.created_at, u.credentials_changed_at")})
}

const redeemedRow = "t.id, t.user_id, t.sent_to, t.used_at, t.expires_at, t.created_at"

// redemptionColumns are the columns of scanRedemption, of the token k and of the user v, who is there if it was redeemed.
var redemptionColumns = []string{"k.used_at IS NOT NULL OR k.dead", "k.expires_at", "k.taken", "v.id IS NOT NULL",
	"k.user_id", "coalesce(v.email, '')", "v.email_verified_at", "v.created_at", "coalesce(v.credentials_changed_at, v.created_at)"}

// redeem marks the token k, whose row may have changed meanwhile.
func redeem(table string, more ...string) squirrel.UpdateBuilder {
	return squirrel.Update(table+" r").Set("used_at", squirrel.Expr("$2::timestamp")).From("known k").
		Where("r.id = k.id AND r.used_at IS NULL AND r.expires_at > $2::timestamp AND NOT k.dead AND NOT k.taken").
		Suffix("RETURNING " + strings.Join(append([]string{"r.id", "r.user_id"}, more...), ", "))
}

// siblings marks the others of the user, which die with the token that is redeemed.
func siblings(table string) squirrel.UpdateBuilder {
	return squirrel.Update(table+" s").Set("used_at", squirrel.Expr("$2::timestamp")).From("redeemed r").
		Where("s.user_id = r.user_id AND s.id <> r.id AND s.used_at IS NULL")
}

// issue is what issueToken says.
type issue struct {
	user       UserID
	email      string
	verifiedAt *time.Time
	recentAt   *time.Time
	free       bool // the condition holds
	done       bool
}

func scanIssue(r *rowReader) issue {
	return issue{UserID(r.integer()), r.text(), r.optionalTime(), r.optionalTime(), r.boolean(), r.boolean()}
}

// issueToken locks the user by one statement, and issues by the next, in one round trip.
func (p *Postgres) issueToken(ctx context.Context, op string, lock, s statement, user any, lifetime time.Duration, more ...any) (tok IssuedToken, i issue, err error) {
	now := p.now()
	secret, stored := newSecret()
	expires := now.Add(lifetime)
	cooldown := max(0, p.config.cooldowns.Token)
	var found bool
	err = p.send(ctx, op, func(b *batch) {
		b.exec(lock, user)
		args := []any{user, stored, timestamp(expires), timestamp(now), timestamp(now.Add(-cooldown))}
		queueOne(b, s, scanIssue, &i, &found, append(args, more...)...)
	})
	switch {
	case err != nil:
	case !found:
		err = opError(op, ErrNotFound)
	case i.done:
		tok = IssuedToken{UserID: i.user, Email: i.email, ExpiresAt: expires, secret: hide(secret)}
	case i.free && i.recentAt != nil:
		err = opError(op, &CooldownError{Until: i.recentAt.Add(cooldown)})
	}
	return tok, i, err
}

// IssueEmailVerification implements [TokenStore].
func (p *Postgres) IssueEmailVerification(ctx context.Context, id UserID) (IssuedToken, error) {
	const op = "IssueEmailVerification"
	if err := checkID("user_id", id); err != nil {
		return IssuedToken{}, opError(op, err)
	}
	tok, i, err := p.issueToken(ctx, op, p.sql.holdUser, p.sql.issueVerification, int64(id), p.config.lifetimes.EmailVerification)
	if err == nil && !i.done {
		err = opError(op, ErrAlreadyVerified)
	}
	return tok, err
}

// IssueEmailChange implements [TokenStore].
func (p *Postgres) IssueEmailChange(ctx context.Context, id UserID, password, email string) (IssuedToken, error) {
	const op = "IssueEmailChange"
	email, err := newEmail(email)
	if err := errors.Join(checkID("user_id", id), err); err != nil {
		return IssuedToken{}, opError(op, err)
	}
	// The hash may change between the two statements, as in ChangePassword.
	for range maxTries {
		c, err := p.checkPassword(ctx, op, id, password)
		if err != nil {
			return IssuedToken{}, err
		}
		if c.Email == email {
			return IssuedToken{}, opError(op, invalid("email", "is the present address"))
		}
		tok, i, err := p.issueToken(ctx, op, p.sql.holdUser, p.sql.issueEmailChange, int64(id), p.config.lifetimes.EmailVerification, email, c.hash)
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			return IssuedToken{}, err
		case !i.done:
			return IssuedToken{}, opError(op, ErrEmailTaken)
		}
		tok.Email = email
		return tok, nil
	}
	return IssuedToken{}, opError(op, ErrRetry)
}

// IssuePasswordReset implements [TokenStore].
func (p *Postgres) IssuePasswordReset(ctx context.Context, email string) (tok IssuedToken, ok bool, err error) {
	const op = "IssuePasswordReset"
	email, err = lookupEmail(email)
	if err != nil {
		return IssuedToken{}, false, opError(op, err)
	}
	tok, _, err = p.issueToken(ctx, op, p.sql.holdUserByEmail, p.sql.issueReset, email, p.config.lifetimes.PasswordReset)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrCooldown):
		return IssuedToken{}, false, nil
	case err != nil:
		return IssuedToken{}, false, err
	}
	return tok, true, nil
}

// redemption is what checkToken, verifyEmail and resetPassword say.
type redemption struct {
	used, taken, done bool
	expires           time.Time
	user              User
}

func scanRedemption(r *rowReader) redemption {
	return redemption{used: r.boolean(), expires: r.time(), taken: r.boolean(), done: r.boolean(), user: scanUser(r)}
}

// redeem runs a statement that redeems $1 at $2, after one that locks the owner of $1 unless that is "".
func (p *Postgres) redeem(ctx context.Context, op string, lock, s statement, secret string, more ...any) (User, error) {
	now := p.now()
	stored := hashSecret(secret)
	args := append([]any{stored, timestamp(now)}, more...)
	var r redemption
	var err error
	if lock == "" && !p.inTransaction() {
		r, err = queryOne(ctx, p, op, s, scanRedemption, args...)
	} else {
		var found bool
		err = p.sendGuarded(ctx, op, func(b *batch) {
			if lock != "" {
				b.exec(lock, stored)
			}
			queueOne(b, s, scanRedemption, &r, &found, args...)
		})
		if err == nil && !found {
			err = ErrNotFound
		}
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return User{}, opError(op, ErrTokenInvalid)
	case err != nil:
		return User{}, err
	case r.done:
		return r.user, nil
	}
	if err := r.judge(now); err != nil {
		return User{}, opError(op, err)
	}
	// The token was good when the statement began: another redeemed it first.
	return User{}, opError(op, ErrTokenUsed)
}

// judge says what is wrong with a token.
func (r redemption) judge(now time.Time) error {
	switch {
	case r.used:
		return ErrTokenUsed
	case !r.expires.After(now):
		return ErrTokenExpired
	case r.taken:
		return ErrEmailTaken
	}
	return nil
}

// VerifyEmail implements [TokenStore].
func (p *Postgres) VerifyEmail(ctx context.Context, secret string) (User, error) {
	if err := checkSecret(secret); err != nil {
		return User{}, opError("VerifyEmail", err)
	}
	return p.redeem(ctx, "VerifyEmail", "", p.sql.verifyEmail, secret)
}

// ResetPassword implements [TokenStore].
func (p *Postgres) ResetPassword(ctx context.Context, secret, password string) (User, error) {
	const op = "ResetPassword"
	if err := checkNewPassword(password); err != nil {
		return User{}, opError(op, err)
	}
	if err := p.checkToken(ctx, op, p.sql.checkReset, secret); err != nil {
		return User{}, err
	}
	hash, err := p.hasher.hash(ctx, password)
	if err != nil {
		return User{}, opError(op, err)
	}
	return p.redeem(ctx, op, p.sql.holdUserByReset, p.sql.resetPassword, secret, hash.phc.reveal())
}

// CheckEmailVerification implements [TokenStore].
func (p *Postgres) CheckEmailVerification(ctx context.Context, secret string) error {
	return p.checkToken(ctx, "CheckEmailVerification", p.sql.checkVerification, secret)
}

// CheckPasswordReset implements [TokenStore].
func (p *Postgres) CheckPasswordReset(ctx context.Context, secret string) error {
	return p.checkToken(ctx, "CheckPasswordReset", p.sql.checkReset, secret)
}

func (p *Postgres) checkToken(ctx context.Context, op string, s statement, secret string) error {
	if err := checkSecret(secret); err != nil {
		return opError(op, err)
	}
	r, err := queryOne(ctx, p, op, s, func(r *rowReader) redemption {
		return redemption{used: r.boolean(), expires: r.time(), taken: r.boolean()}
	}, hashSecret(secret))
	switch {
	case errors.Is(err, ErrNotFound):
		return opError(op, ErrTokenInvalid)
	case err != nil:
		return err
	}
	return opError(op, r.judge(p.now()))
}
