package soultribe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sentinel is an error with a stable name. Specific ones wrap a base, so that errors.Is answers for both.
type sentinel struct {
	code, text string
	base       error
}

func (s *sentinel) Error() string { return s.text }
func (s *sentinel) Unwrap() error { return s.base }

// The base errors, one for each way in which a caller answers. All others wrap one of them.
var (
	// ErrInvalid means that an argument can never be right; see [ValidationError]. HTTP 422.
	ErrInvalid error = &sentinel{"invalid", "invalid argument", nil}
	// ErrNotFound means that there is no such row, or that it is not the actor's to see. HTTP 404.
	ErrNotFound error = &sentinel{"not_found", "not found", nil}
	// ErrInvalidCredentials is the one answer to a wrong password, an unknown address and an unusable hash. HTTP 401.
	ErrInvalidCredentials error = &sentinel{"invalid_credentials", "invalid credentials", nil}
	// ErrForbidden means that the actor may see the row but not take this step. HTTP 403.
	ErrForbidden error = &sentinel{"forbidden", "forbidden", nil}
	// ErrTokenInvalid means that a secret was never issued, or no longer works. HTTP 410.
	ErrTokenInvalid error = &sentinel{"token_invalid", "token is not valid", nil}
	// ErrConflict means that what is stored does not allow the step now. HTTP 409.
	ErrConflict error = &sentinel{"conflict", "conflict", nil}
	// ErrCooldown means that the step is allowed again later; see [CooldownError]. HTTP 429.
	ErrCooldown error = &sentinel{"cooldown", "too soon", nil}
	// ErrSchema means that the database lacks what this version of the library needs: the schema is
	// missing, older, newer or of another shape. HTTP 503.
	ErrSchema error = &sentinel{"schema", "database schema does not fit", nil}
)

// The specific errors, each of which wraps a base.
var (
	// ErrNonexistentTime is an ErrInvalid: clocks in the zone skip this wall time.
	ErrNonexistentTime error = &sentinel{"nonexistent_time", "wall time does not exist in this zone", ErrInvalid}
	// ErrAmbiguousTime is an ErrInvalid: clocks in the zone show this wall time twice.
	ErrAmbiguousTime error = &sentinel{"ambiguous_time", "wall time occurs twice in this zone", ErrInvalid}

	// ErrUnverified is an ErrForbidden: the actor's e-mail address is not verified.
	ErrUnverified error = &sentinel{"unverified", "e-mail address is not verified", ErrForbidden}
	// ErrWrongSide is an ErrForbidden: the step belongs to the other person.
	ErrWrongSide error = &sentinel{"wrong_side", "this step is the other person's", ErrForbidden}

	// ErrTokenUsed is an ErrTokenInvalid: the secret, or a sibling of it, has been redeemed.
	ErrTokenUsed error = &sentinel{"token_used", "token has been used", ErrTokenInvalid}
	// ErrTokenExpired is an ErrTokenInvalid: the secret was not redeemed in time.
	ErrTokenExpired error = &sentinel{"token_expired", "token has expired", ErrTokenInvalid}

	// ErrEmailTaken is an ErrConflict: another account has the address, whatever its ASCII case.
	ErrEmailTaken error = &sentinel{"email_taken", "e-mail address is taken", ErrConflict}
	// ErrAlreadyVerified is an ErrConflict: there is nothing left to verify.
	ErrAlreadyVerified error = &sentinel{"already_verified", "e-mail address is already verified", ErrConflict}
	// ErrSlotOverlap is an ErrConflict: the user has another slot in that time; see [OverlapError].
	ErrSlotOverlap error = &sentinel{"slot_overlap", "slot overlaps another", ErrConflict}
	// ErrMeetupExists is an ErrConflict: the match has a live meetup already.
	ErrMeetupExists error = &sentinel{"meetup_exists", "the match has a live meetup", ErrConflict}
	// ErrMeetupChanged is an ErrConflict: the meetup's times are no longer those that the actor saw.
	ErrMeetupChanged error = &sentinel{"meetup_changed", "the meetup's times have changed", ErrConflict}
	// ErrPast is an ErrConflict: the time in question is over.
	ErrPast error = &sentinel{"past", "the time has passed", ErrConflict}
	// ErrDoubleBooked is an ErrConflict: one of the two has another confirmed meetup in that time.
	ErrDoubleBooked error = &sentinel{"double_booked", "another confirmed meetup overlaps", ErrConflict}
	// ErrInUse is an ErrConflict: rows of a table that is not the library's point at the row.
	ErrInUse error = &sentinel{"in_use", "rows of another table refer to it", ErrConflict}
	// ErrRetry is an ErrConflict: PostgreSQL gave up this transaction for another's sake (SQLSTATE
	// 40001 or 40P01), or others changed what the call needs each time that it tried. The whole
	// transaction can be run again. A method that is no part of one, on a pool or a connection of pgx's, has been
	// made three times more before it returns this.
	ErrRetry error = &sentinel{"retry", "transaction must be retried", ErrConflict}

	errTransition error = &sentinel{"transition", "step is not possible in this status", ErrConflict}
)

// Error is what the methods of [Postgres] return: the operation, and the reason, which errors.Is and
// errors.As find. Where the database gave the reason, its *pgconn.PgError is found by errors.As.
// The text never holds a password, a secret, a hash or an e-mail address.
type Error struct {
	Op    string // the method, e.g. "CreateUser"
	Err   error  // one of this package's errors, or nil when the database's error fits none of them
	Cause error  // the error of pgx beneath it, if any
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("soultribe: ")
	b.WriteString(e.Op)
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	if e.Cause != nil {
		b.WriteString(": ")
		b.WriteString(causeText(e.Cause))
	}
	return b.String()
}

// MarshalJSON implements [json.Marshaler]: it is the text, as the database's error beneath may quote rows.
func (e *Error) MarshalJSON() ([]byte, error) { return json.Marshal(e.Error()) }

// Unwrap returns the reason and the cause.
func (e *Error) Unwrap() []error {
	switch {
	case e.Err == nil:
		return []error{e.Cause}
	case e.Cause == nil:
		return []error{e.Err}
	}
	return []error{e.Err, e.Cause}
}

// causeText has PostgreSQL's message only in those classes in which it quotes names and no values: a
// trigger of the host's may raise any other class with a row's contents in it.
func causeText(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err.Error()
	}
	text := "SQLSTATE " + pg.Code
	if pg.ConstraintName != "" {
		text += ", constraint " + pg.ConstraintName
	}
	if pg.TableName != "" {
		text += ", table " + pg.TableName
	}
	if pg.Where != "" { // raised in a function, maybe the host's, which may raise any class
		return text
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57":
		return pg.Message + " (" + text + ")"
	}
	return text
}

// ValidationError is an [ErrInvalid] that names the argument. When several are wrong, their errors are
// joined: errors.As finds the first, [ValidationErrors] all of them.
type ValidationError struct {
	Field  string // in snake_case, as in JSON
	Reason string // a phrase that follows the field's name, e.g. "is required"
	err    error  // a specific error beneath ErrInvalid, if any
}

// Error implements error.
func (e *ValidationError) Error() string { return e.Field + " " + e.Reason }

// Unwrap returns ErrInvalid, or a specific error that wraps it.
func (e *ValidationError) Unwrap() error {
	if e.err != nil {
		return e.err
	}
	return ErrInvalid
}

// ValidationErrors returns every [ValidationError] in err's tree, in order.
func ValidationErrors(err error) []*ValidationError {
	if v, ok := err.(*ValidationError); ok { //nolint:errorlint // this walk is what errors.As does, but for all of them
		return []*ValidationError{v}
	}
	var all []*ValidationError
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			all = append(all, ValidationErrors(err)...)
		}
	case interface{ Unwrap() error }:
		return ValidationErrors(e.Unwrap())
	}
	return all
}

func invalid(field, reason string) error {
	return &ValidationError{Field: field, Reason: reason}
}

// OverlapError is an [ErrSlotOverlap] that says which of several slots could not be stored.
type OverlapError struct {
	Index int // in the slice that was passed; 0 for a single slot
}

// Error implements error.
func (e *OverlapError) Error() string {
	return fmt.Sprintf("%v (slot %d)", ErrSlotOverlap, e.Index)
}

// Unwrap returns ErrSlotOverlap.
func (e *OverlapError) Unwrap() error { return ErrSlotOverlap }

// TransitionError is an [ErrConflict]: the row's status does not allow the step.
type TransitionError struct {
	From string // the status that is stored
	To   string // the status that the step leads to
}

// Error implements error.
func (e *TransitionError) Error() string {
	return fmt.Sprintf("no step leads from %q to %q", e.From, e.To)
}

// Unwrap returns an error that wraps ErrConflict.
func (e *TransitionError) Unwrap() error { return errTransition }

// CooldownError is an [ErrCooldown] that says when the step is allowed again.
type CooldownError struct {
	Until time.Time // UTC
}

// Error implements error.
func (e *CooldownError) Error() string {
	return fmt.Sprintf("%v: allowed from %s", ErrCooldown, e.Until.UTC().Format(time.RFC3339))
}

// Unwrap returns ErrCooldown.
func (e *CooldownError) Unwrap() error { return ErrCooldown }

// InUseError is an [ErrInUse] that names the table whose rows stand in the way.
type InUseError struct {
	Schema, Table, Constraint string
}

// Error implements error.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%v: %s.%s (%s)", ErrInUse, e.Schema, e.Table, e.Constraint)
}

// Unwrap returns ErrInUse.
func (e *InUseError) Unwrap() error { return ErrInUse }

// Code returns the stable name of err for use in an API: that of the most specific error of this
// package in its tree, "canceled" or "timeout" for a context that ended (the caller's doing, and nothing to
// alarm an operator), "internal" for any other error and "" for nil.
func Code(err error) string {
	var s *sentinel
	switch {
	case err == nil:
		return ""
	case errors.As(err, &s):
		return s.code
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "internal"
}

// constraintErrors says what it means when a constraint of ours refuses a row. Those of the contract are
// here too, in the names that other applications gave them.
var constraintErrors = map[string]error{
	"user_email_lower_key": ErrEmailTaken,
	"ix_user_email":        ErrEmailTaken,
	"user_email_key":       ErrEmailTaken,

	"profile_user_id_key": ErrConflict,

	"availabilityslot_no_overlap":   ErrSlotOverlap,
	"availabilityslot_period_check": invalid("end", "must be after start, by 24 hours at most"),

	// 256 random bits do not occur twice: another client stored them.
	"ix_emailverificationtoken_token":  ErrConflict,
	"emailverificationtoken_token_key": ErrConflict,
	"ix_passwordresettoken_token":      ErrConflict,
	"passwordresettoken_token_key":     ErrConflict,

	"match_pair_key":        ErrConflict,
	"match_not_self_check":  invalid("user_id", "must be another person's"),
	"match_pair_kept_check": invalid("user_id", "must stay one of the two"),

	"meetup_live_key":       ErrMeetupExists,
	"meetup_duration_check": invalid("duration_seconds", "must be between 900 and 86400"),
	"meetup_proposer_check": invalid("proposer_id", "must be one of the match's two"),

	"soultribe_booking_no_overlap":   ErrDoubleBooked,
	"soultribe_booking_period_check": invalid("duration_seconds", "must be positive"),
}

// errNotPrepared is what an operator must know, and callers can do nothing about: it has no base.
var errNotPrepared = errors.New("the statement was prepared in another session: behind a pooler in transaction mode, " +
	"such as PgBouncer, set default_query_exec_mode=cache_describe (or exec) in the URL, " +
	"or max_prepared_statements in PgBouncer 1.21 or later")

// citusSuffix is what a Citus worker appends to a constraint's name: the number of the shard.
var citusSuffix = regexp.MustCompile(`_\d+$`)

// classify finds this package's error for one that pgx returned, or nil.
func classify(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return nil
	}
	switch pg.Code {
	case "40001", "40P01":
		return ErrRetry
	case "26000", "42P05":
		return errNotPrepared
	case "08P01":
		// Of an unnamed statement the server knows only that its parameters are others. PgBouncer has this code for
		// errors of its own.
		if pg.Routine == "exec_bind_message" {
			return errNotPrepared
		}
	case "42P01", "42703", "42704", "42883", "42P10", "3F000":
		return ErrSchema
	case "23505", "23514", "23P01":
		if e, ok := constraintErrors[pg.ConstraintName]; ok {
			return e
		}
		return constraintErrors[citusSuffix.ReplaceAllString(pg.ConstraintName, "")]
	case "23503":
		return &InUseError{Schema: pg.SchemaName, Table: pg.TableName, Constraint: pg.ConstraintName}
	}
	return nil
}

// callError is opError for a call of the database. A statement that the server cancelled for the
// context's sake ended as the context did.
func callError(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "57014" && ctx.Err() != nil {
		return &Error{Op: op, Err: ctx.Err(), Cause: err}
	}
	return opError(op, err)
}

// opError dresses any error for the caller of op. It returns nil for nil.
func opError(op string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	var s *sentinel
	switch {
	case errors.As(err, &s):
		return &Error{Op: op, Err: err}
	case errors.Is(err, pgx.ErrNoRows):
		return &Error{Op: op, Err: ErrNotFound}
	}
	return &Error{Op: op, Err: classify(err), Cause: err}
}
