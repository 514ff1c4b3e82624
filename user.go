package soultribe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/squirrel"
)

// User is an account. It carries no password hash.
type User struct {
	ID              UserID     `json:"id"`
	Email           string     `json:"email"`                       // in the spelling in which it was given
	EmailVerifiedAt *time.Time `json:"email_verified_at,omitempty"` // nil until verified
	CreatedAt       time.Time  `json:"created_at"`
	// CredentialsChangedAt is when the password was last changed, by whatever way, or else CreatedAt. A
	// service ends the sessions that are older.
	CredentialsChangedAt time.Time `json:"credentials_changed_at"`
}

// NewUser is an account to be made, with exactly one of Password and Hash. It prints as [redacted].
type NewUser struct {
	Email    string       `json:"email"`    // trimmed; 254 bytes at most
	Password string       `json:"password"` // 8 to 1024 bytes, taken as they are, without NUL; hashed by CreateUser
	Hash     PasswordHash `json:"-"`        // from HashPassword
	Profile  *NewProfile  `json:"profile"`  // made in the same statement when not nil
}

// Format implements [fmt.Formatter]: every verb prints [redacted].
func (NewUser) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (NewUser) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements [json.Marshaler].
func (NewUser) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// Account is a user with the profile, which is nil where there is none.
type Account struct {
	User    User     `json:"user"`
	Profile *Profile `json:"profile,omitempty"`
}

// Deleted says what DeleteUser removed that others must hear of.
type Deleted struct {
	UserID  UserID   `json:"user_id"`
	Matches []Match  `json:"matches"` // those pending or accepted, as they were
	Meetups []Meetup `json:"meetups"` // those proposed or confirmed, as they were
}

// Export is what is stored about a person, for the person: no hash, no secret, and of others their ids only.
type Export struct {
	User               User          `json:"user"`
	Profile            *Profile      `json:"profile,omitempty"`
	Slots              []Slot        `json:"slots"`
	EmailVerifications []TokenRecord `json:"email_verifications"`
	PasswordResets     []TokenRecord `json:"password_resets"`
	Matches            []Match       `json:"matches"`
	Meetups            []Meetup      `json:"meetups"`
}

// TokenRecord says that a secret was issued, without the secret.
type TokenRecord struct {
	Email     string     `json:"email,omitempty"` // where it was mailed to; "" in rows of other applications
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	UsedAt    *time.Time `json:"used_at,omitempty"`
}

// UserStore keeps accounts and their passwords.
//
// Hashing is meant to be slow (about a tenth of a second), and its memory is bounded, so that calls queue
// ([WithHashMemory]). No connection is held meanwhile, unless the Store is on a transaction or a
// connection: there use HashPassword first.
type UserStore interface {
	// CreateUser makes an account, and its profile if one is given, in one statement. It returns
	// ErrInvalid for an address, password or profile that breaks the rules, and ErrEmailTaken where an
	// account has the address in any ASCII case. To visitors, answer ErrEmailTaken as a new address, and
	// mail its owner at the stored address, which UserByEmail returns: else anyone could learn who has an
	// account. In a transaction use HashPassword before it begins, as hashing takes a while.
	CreateUser(ctx context.Context, u NewUser) (User, error)

	// User returns an account, or ErrNotFound.
	User(ctx context.Context, id UserID) (User, error)
	// UserByEmail returns the account with an address in any ASCII case, or ErrNotFound.
	UserByEmail(ctx context.Context, email string) (User, error)
	// Account returns an account with its profile, or ErrNotFound.
	Account(ctx context.Context, id UserID) (Account, error)
	// AccountByEmail returns the account with an address in any ASCII case, with its profile, or ErrNotFound.
	AccountByEmail(ctx context.Context, email string) (Account, error)

	// Authenticate returns the account whose address and password these are. For an unknown address, a
	// wrong password and an unusable hash it does the same work and returns ErrInvalidCredentials. It
	// does not look at verification: EmailVerifiedAt tells. A hash whose parameters lag is renewed, which
	// costs a second round trip and never fails the login.
	Authenticate(ctx context.Context, email, password string) (User, error)
	// HashPassword hashes a new password, without the database. It returns ErrInvalid for one that
	// breaks the rules of NewUser.
	HashPassword(ctx context.Context, password string) (PasswordHash, error)
	// CheckPassword returns nil if the password is the user's, ErrInvalidCredentials if it is not, and
	// ErrNotFound where there is no such user.
	CheckPassword(ctx context.Context, id UserID, password string) error
	// ChangePassword sets the password to next if current is right, kills every password reset and change
	// of address under way, and moves CredentialsChangedAt. Errors are those of CheckPassword, and ErrInvalid for next. It is
	// two round trips, as no connection is held while hashing; a change that another makes between them
	// is seen, and current is checked again.
	ChangePassword(ctx context.Context, id UserID, current, next string) error

	// DeleteUser removes the account with everything of it in the seven tables, and returns the live
	// matches and meetups that others must hear of. It returns ErrNotFound, and an *InUseError (ErrInUse)
	// where a foreign table of the host's refers to the user without ON DELETE. It locks the user, then
	// the matches, then the live meetups.
	DeleteUser(ctx context.Context, id UserID) (Deleted, error)
	// Export returns all that is stored about a person, as of one instant, or ErrNotFound.
	Export(ctx context.Context, id UserID) (Export, error)
}

const (
	// userRow are a user's columns, for RETURNING.
	userRow = "id, email, email_verified_at, created_at, credentials_changed_at"
	// userColumns make a User of the user u.
	userColumns = "u.id, u.email, u.email_verified_at, u.created_at, coalesce(u.credentials_changed_at, u.created_at)"
)

// byEmail finds the one account with the address $1. The collation makes lower fold ASCII only, and the
// same on every server.
const byEmail = `lower(u.email COLLATE "C") = lower($1::text COLLATE "C")`

type userStatements struct {
	createUser, user, userByEmail, account, accountByEmail statement
	credentials, credentialsByEmail                        statement
	rehash, changePassword                                 statement
	lockUser, userMatches, userMeetups, deleteUser         statement
	export                                                 statement
}

func newUserStatements(t tables) userStatements {
	users := squirrel.Select(userColumns).From(t.user + " u")
	accounts := users.Columns(profileColumns).LeftJoin(t.profile + " p ON p.user_id = u.id")
	credentials := users.Columns("u.password_hash")
	return userStatements{
		createUser:         createUser(t),
		user:               compile("User", users.Where("u.id = $1::bigint")),
		userByEmail:        compile("UserByEmail", users.Where(byEmail)),
		account:            compile("Account", accounts.Where("u.id = $1::bigint")),
		accountByEmail:     compile("AccountByEmail", accounts.Where(byEmail)),
		credentials:        compile("Credentials", credentials.Where("u.id = $1::bigint")),
		credentialsByEmail: compile("CredentialsByEmail", credentials.Where(byEmail)),
		rehash: compile("Rehash", squirrel.Update(t.user).
			Set("password_hash", squirrel.Expr("$3::text")).
			Where("id = $1::bigint AND password_hash = $2::text")),
		changePassword: changePassword(t),
		lockUser:       compile("LockUser", squirrel.Select("u.id").From(t.user+" u").Where("u.id = $1::bigint").Suffix("FOR UPDATE")),
		userMatches: compile("UserMatches", squirrel.Select(columns("m", matchColumns)).From(t.match+" m").
			Where("m.user1_id = $1::bigint OR m.user2_id = $1::bigint").OrderBy("m.id").Suffix("FOR UPDATE")),
		userMeetups: compile("UserMeetups", selectMeetups(t).
			Where("(m.user1_id = $1::bigint OR m.user2_id = $1::bigint) AND mt.status IN ('proposed', 'confirmed')").OrderBy("mt.id").
			Suffix("FOR UPDATE OF mt")), // before their bookings, as Settle, which locks no match, does
		deleteUser: deleteUser(t),
		export:     export(t),
	}
}

// createUser looks for the address first, as a conflict costs a number of the sequence, and a visitor
// could use up the column's two billion.
func createUser(t tables) statement {
	// An address that is stored as it was given is not sent back.
	return compile("CreateUser", squirrel.Select(strings.Replace(userColumns, "u.email,", "CASE WHEN u.email <> $1::text THEN u.email END,", 1)).From("created u"),
		with{"created", squirrel.Insert(t.user).Columns("email", "password_hash", "created_at").
			Select(squirrel.Select("$1::text", "$2::text", "$3::timestamp").
				Where("NOT EXISTS (SELECT FROM " + t.user + " u WHERE " + byEmail + ")")).
			Suffix("ON CONFLICT DO NOTHING RETURNING " + userRow)},
		with{"profiled", squirrel.Insert(t.profile).
			Columns("user_id", "full_name", "display_name", "bio", "timezone", "created_at", "updated_at").
			Select(squirrel.Select("created.id", "$5::text", "$6::text", orNull("$7"), orNull("$8"), "$3::timestamp", "$3::timestamp").
				From("created").Where("$4::boolean"))})
}

// changePassword replaces the hash $4, or any where $4 is NULL. The user is locked by a statement before
// it, so that it sees, and kills, what was issued meanwhile.
func changePassword(t tables) statement {
	return compile("ChangePassword", squirrel.Select("id").From("changed"),
		with{"changed", squirrel.Update(t.user).
			Set("password_hash", squirrel.Expr("$2::text")).
			Set("credentials_changed_at", squirrel.Expr("$3::timestamp")).
			Where("id = $1::bigint AND ($4::text IS NULL OR password_hash = $4::text)").Suffix("RETURNING id")},
		with{"resets", squirrel.Update(t.reset+" s").Set("used_at", squirrel.Expr("$3::timestamp")).From("changed").
			Where("s.user_id = changed.id AND s.used_at IS NULL")},
		with{"changes", squirrel.Update(t.verification+" s").Set("used_at", squirrel.Expr("$3::timestamp")).From("changed").
			Where("s.user_id = changed.id AND s.used_at IS NULL AND s.changes_email")})
}

// deleteUser deletes from the leaves to the root, whatever the foreign keys cascade. Bookings go with their meetups,
// by a key of our own; nobody but their owner may delete them.
func deleteUser(t tables) statement {
	matches := "SELECT m.id FROM " + t.match + " m WHERE m.user1_id = $1::bigint OR m.user2_id = $1::bigint"
	mine := func(table string) squirrel.Sqlizer { return squirrel.Delete(table).Where("user_id = $1::bigint") }
	return compile("DeleteUser", squirrel.Delete(t.user).Where("id = $1::bigint"),
		with{"meetups", squirrel.Delete(t.meetup).Where("match_id IN (" + matches + ")")},
		with{"matches", squirrel.Delete(t.match).Where("user1_id = $1::bigint OR user2_id = $1::bigint")},
		with{"slots", mine(t.slot)},
		with{"verifications", mine(t.verification)},
		with{"resets", mine(t.reset)},
		with{"profiles", mine(t.profile)})
}

// export is one statement, and so one snapshot, whatever the isolation level. It makes the JSON of the
// types that Export is made of.
func export(t tables) statement {
	// What JSON cannot show, such as an infinity, reads as rowReader has it. NULL must stay NULL,
	// which greatest and least would pass over.
	at := func(column string) string {
		return "to_char(CASE WHEN " + column + " IS NOT NULL THEN greatest(least(" + column +
			`, '9999-12-31 23:59:59.999999'), '0001-01-01') END, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
	}
	list := func(object, from string) string {
		return "(SELECT coalesce(json_agg(json_build_object(" + object + ") ORDER BY x.id), '[]') FROM " + from + ")"
	}
	times := "'created_at', " + at("x.created_at") + ", 'updated_at', " + at("x.updated_at")
	tokens := func(table string) string {
		return list("'email', x.sent_to, 'created_at', "+at("x.created_at")+", 'expires_at', "+at("x.expires_at")+", 'used_at', "+at("x.used_at"),
			table+" x WHERE x.user_id = u.id")
	}
	return compile("Export", squirrel.Select("json_build_object("+
		"'user', json_build_object('id', u.id, 'email', u.email, 'email_verified_at', "+at("u.email_verified_at")+
		", 'created_at', "+at("u.created_at")+", 'credentials_changed_at', "+at("coalesce(u.credentials_changed_at, u.created_at)")+
		"), 'profile', (SELECT json_build_object('user_id', x.user_id, 'full_name', x.full_name, 'display_name', x.display_name,"+
		" 'bio', coalesce(x.bio, ''), 'timezone', coalesce(x.timezone, ''), "+times+") FROM "+t.profile+" x WHERE x.user_id = u.id)"+
		", 'slots', "+list("'id', x.id, 'user_id', x.user_id, 'start', "+at("x.start_dt_utc")+", 'end', "+at("x.end_dt_utc")+
		", 'timezone', x.timezone, "+times, t.slot+" x WHERE x.user_id = u.id")+
		", 'email_verifications', "+tokens(t.verification)+
		", 'password_resets', "+tokens(t.reset)+
		", 'matches', "+list("'id', x.id, 'user1_id', x.user1_id, 'user2_id', x.user2_id, 'status', x.status, "+times,
		t.match+" x WHERE x.user1_id = u.id OR x.user2_id = u.id")+
		", 'meetups', "+list("'id', x.id, 'match_id', x.match_id, 'user1_id', m.user1_id, 'user2_id', m.user2_id,"+
		" 'proposer_id', coalesce(x.proposer_id, 0), 'start', "+at("date_trunc('second', x.scheduled_time)")+
		", 'duration_seconds', coalesce(x.duration_seconds, 3600), 'status', x.status, "+times,
		t.meetup+" x JOIN "+t.match+" m ON m.id = x.match_id WHERE m.user1_id = u.id OR m.user2_id = u.id")+
		")::text").From(t.user+" u").Where("u.id = $1::bigint"))
}

func scanUser(r *rowReader) User {
	return User{ID: UserID(r.integer()), Email: r.text(), EmailVerifiedAt: r.optionalTime(), CreatedAt: r.time(), CredentialsChangedAt: r.time()}
}

func scanAccount(r *rowReader) Account {
	a := Account{User: scanUser(r)}
	if !r.null() {
		p := scanProfile(r)
		a.Profile = &p
	}
	return a
}

// credentials are a user with what the password is checked against.
type credentials struct {
	User
	hash string
}

func scanCredentials(r *rowReader) credentials { return credentials{scanUser(r), r.text()} }

// CreateUser implements [UserStore].
func (p *Postgres) CreateUser(ctx context.Context, u NewUser) (User, error) {
	const op = "CreateUser"
	email, errEmail := newEmail(u.Email)
	var errPassword error
	switch {
	case u.Hash.phc.reveal() == "":
		errPassword = checkNewPassword(u.Password)
	case u.Password != "":
		errPassword = invalid("password", "must not be given together with a hash")
	}
	var profile NewProfile
	var errProfile error
	if u.Profile != nil {
		profile, errProfile = newProfile(*u.Profile)
	}
	if err := errors.Join(errEmail, errPassword, errProfile); err != nil {
		return User{}, opError(op, err)
	}
	hash := u.Hash
	if hash.phc.reveal() == "" {
		var err error
		if hash, err = p.hasher.hash(ctx, u.Password); err != nil {
			return User{}, opError(op, err)
		}
	}
	user, err := queryOne(ctx, p, op, p.sql.createUser, scanUser, email, hash.phc.reveal(), timestamp(p.now()),
		u.Profile != nil, profile.FullName, profile.DisplayName, profile.Bio, profile.Timezone)
	if errors.Is(err, ErrNotFound) {
		return User{}, opError(op, ErrEmailTaken)
	}
	if err == nil {
		user.Email = cmp.Or(user.Email, email)
	}
	return user, err
}

// User implements [UserStore].
func (p *Postgres) User(ctx context.Context, id UserID) (User, error) {
	if err := checkID("user_id", id); err != nil {
		return User{}, opError("User", err)
	}
	return queryOne(ctx, p, "User", p.sql.user, scanUser, int64(id))
}

// UserByEmail implements [UserStore].
func (p *Postgres) UserByEmail(ctx context.Context, email string) (User, error) {
	email, err := lookupEmail(email)
	if err != nil {
		return User{}, opError("UserByEmail", err)
	}
	return queryOne(ctx, p, "UserByEmail", p.sql.userByEmail, scanUser, email)
}

// Account implements [UserStore].
func (p *Postgres) Account(ctx context.Context, id UserID) (Account, error) {
	if err := checkID("user_id", id); err != nil {
		return Account{}, opError("Account", err)
	}
	return queryOne(ctx, p, "Account", p.sql.account, scanAccount, int64(id))
}

// AccountByEmail implements [UserStore].
func (p *Postgres) AccountByEmail(ctx context.Context, email string) (Account, error) {
	email, err := lookupEmail(email)
	if err != nil {
		return Account{}, opError("AccountByEmail", err)
	}
	return queryOne(ctx, p, "AccountByEmail", p.sql.accountByEmail, scanAccount, email)
}

// Authenticate implements [UserStore].
func (p *Postgres) Authenticate(ctx context.Context, email, password string) (User, error) {
	const op = "Authenticate"
	email, err := lookupEmail(email)
	var c credentials
	if err == nil {
		c, err = queryOne(ctx, p, op, p.sql.credentialsByEmail, scanCredentials, email)
	}
	switch {
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrNotFound):
		if err := p.hasher.waste(ctx, password); err != nil {
			return User{}, opError(op, err)
		}
		return User{}, opError(op, ErrInvalidCredentials)
	case err != nil:
		return User{}, err
	}
	lags, err := p.verify(ctx, c, password)
	if err != nil {
		return User{}, opError(op, err)
	}
	if lags {
		p.rehash(ctx, c, password)
	}
	return c.User, nil
}

// verify returns ErrInvalidCredentials unless the password is the one of c.
func (p *Postgres) verify(ctx context.Context, c credentials, password string) (lags bool, err error) {
	match, lags, err := p.hasher.verify(ctx, password, c.hash)
	switch {
	case errors.Is(err, errUnusableHash):
		p.config.log.WarnContext(ctx, "soultribe: stored password hash cannot be used", slog.Int64("user_id", int64(c.ID)))
		return false, ErrInvalidCredentials
	case err != nil:
		return false, err
	case !match:
		return false, ErrInvalidCredentials
	}
	return lags, nil
}

// rehash renews a hash whose parameters lag. It compares with the hash that was verified, so that it
// never undoes a change of password meanwhile. A failure costs nothing but another try at the next login,
// but for a caller's transaction: there the statement runs in a savepoint.
func (p *Postgres) rehash(ctx context.Context, c credentials, password string) {
	hash, err := p.hasher.hash(ctx, password)
	if err == nil {
		err = p.sendGuarded(ctx, "Authenticate", func(b *batch) { b.exec(p.sql.rehash, int64(c.ID), c.hash, hash.phc.reveal()) })
	}
	if err != nil && ctx.Err() == nil {
		p.config.log.WarnContext(ctx, "soultribe: password hash not renewed", slog.Int64("user_id", int64(c.ID)), slog.Any("error", err))
	}
}

// HashPassword implements [UserStore].
func (p *Postgres) HashPassword(ctx context.Context, password string) (PasswordHash, error) {
	if err := checkNewPassword(password); err != nil {
		return PasswordHash{}, opError("HashPassword", err)
	}
	hash, err := p.hasher.hash(ctx, password)
	return hash, opError("HashPassword", err)
}

// CheckPassword implements [UserStore].
func (p *Postgres) CheckPassword(ctx context.Context, id UserID, password string) error {
	_, err := p.checkPassword(ctx, "CheckPassword", id, password)
	return err
}

func (p *Postgres) checkPassword(ctx context.Context, op string, id UserID, password string) (credentials, error) {
	if err := checkID("user_id", id); err != nil {
		return credentials{}, opError(op, err)
	}
	c, err := queryOne(ctx, p, op, p.sql.credentials, scanCredentials, int64(id))
	if err != nil {
		return credentials{}, err
	}
	_, err = p.verify(ctx, c, password)
	return c, opError(op, err)
}

// maxTries bounds the tries of a call that checks a hash, holds no connection, and finds it changed. Each
// time another call has succeeded.
const maxTries = 10

// ChangePassword implements [UserStore].
func (p *Postgres) ChangePassword(ctx context.Context, id UserID, current, next string) error {
	const op = "ChangePassword"
	if err := errors.Join(checkID("user_id", id), checkNewPassword(next)); err != nil {
		return opError(op, err)
	}
	// The hash may change between the two statements: by a login that renews it, or by a reset.
	for range maxTries {
		c, err := p.checkPassword(ctx, op, id, current)
		if err != nil {
			return err
		}
		hash, err := p.hasher.hash(ctx, next)
		if err != nil {
			return opError(op, err)
		}
		err = p.setPassword(ctx, op, id, hash, &c.hash)
		if !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return opError(op, ErrRetry)
}

// setPassword stores a hash in the place of old, or of any where old is nil. It returns ErrNotFound
// where there is no such user with that hash.
func (p *Postgres) setPassword(ctx context.Context, op string, id UserID, hash PasswordHash, old *string) error {
	var changed int64
	var found bool
	err := p.send(ctx, op, func(b *batch) {
		b.exec(p.sql.holdUser, int64(id))
		queueOne(b, p.sql.changePassword, (*rowReader).integer, &changed, &found, int64(id), hash.phc.reveal(), timestamp(p.now()), old)
	})
	if err == nil && !found {
		err = opError(op, ErrNotFound)
	}
	return err
}

// DeleteUser implements [UserStore].
func (p *Postgres) DeleteUser(ctx context.Context, id UserID) (Deleted, error) {
	const op = "DeleteUser"
	if err := checkID("user_id", id); err != nil {
		return Deleted{}, opError(op, err)
	}
	var found bool
	var locked int64
	matches, meetups := []Match{}, []Meetup{}
	err := p.sendGuarded(ctx, op, func(b *batch) {
		queueOne(b, p.sql.lockUser, (*rowReader).integer, &locked, &found, int64(id))
		queueAll(b, p.sql.userMatches, scanMatch, &matches, int64(id))
		queueAll(b, p.sql.userMeetups, scanMeetup, &meetups, int64(id))
		b.exec(p.sql.deleteUser, int64(id))
	})
	if err == nil && !found {
		err = opError(op, ErrNotFound)
	}
	if err != nil {
		return Deleted{}, err
	}
	live := func(m Match) bool { return m.Status == MatchPending || m.Status == MatchAccepted }
	return Deleted{UserID: id, Matches: slices.DeleteFunc(matches, func(m Match) bool { return !live(m) }), Meetups: meetups}, nil
}

// Export implements [UserStore].
func (p *Postgres) Export(ctx context.Context, id UserID) (Export, error) {
	if err := checkID("user_id", id); err != nil {
		return Export{}, opError("Export", err)
	}
	document, err := queryOne(ctx, p, "Export", p.sql.export, (*rowReader).text, int64(id))
	if err != nil {
		return Export{}, err
	}
	var e Export
	err = json.Unmarshal([]byte(document), &e)
	return e, opError("Export", err)
}
