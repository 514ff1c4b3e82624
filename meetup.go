package soultribe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/Masterminds/squirrel"
)

// MeetupStatus is where a meetup stands. A database may hold others than the constants, stored by other
// applications; they are read as they are, and never moved.
type MeetupStatus string

// The statuses that the library stores. Proposed and confirmed meetups are live.
const (
	MeetupProposed  MeetupStatus = "proposed"
	MeetupConfirmed MeetupStatus = "confirmed"
	MeetupCompleted MeetupStatus = "completed"
	MeetupCancelled MeetupStatus = "cancelled"
)

const defaultMeetup = time.Hour

// Times are when a meetup takes place. They are kept and compared to the second.
type Times struct {
	Start    time.Time     `json:"start"`
	Duration time.Duration `json:"-"` // 15 minutes to 24 hours, 0 for 60 minutes; duration_seconds in JSON
}

// End returns when the meetup is over.
func (t Times) End() time.Time { return t.Start.Add(t.Duration) }

// timesJSON is Times in JSON. Those that embed Times cannot inherit its methods, which would leave out
// all other fields, so that each has its own.
type timesJSON struct {
	Start           time.Time `json:"start"`
	DurationSeconds int64     `json:"duration_seconds"`
}

func (t Times) json() timesJSON { return timesJSON{t.Start, int64(t.Duration / time.Second)} }

// times keeps a number of seconds that no duration holds out of range, rather than wrapping it around
// into one that may be right.
func (j timesJSON) times() Times {
	const most = int64(math.MaxInt64 / time.Second)
	return Times{j.Start, time.Duration(max(-most, min(j.DurationSeconds, most))) * time.Second}
}

// MarshalJSON implements [json.Marshaler].
func (t Times) MarshalJSON() ([]byte, error) { return json.Marshal(t.json()) }

// UnmarshalJSON implements [json.Unmarshaler].
func (t *Times) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil // as encoding/json asks
	}
	var j timesJSON
	err := json.Unmarshal(b, &j)
	*t = j.times()
	return err
}

// normal returns the times as they are stored: UTC, to the second, with a duration.
func (t Times) normal() Times {
	if t.Duration == 0 {
		t.Duration = defaultMeetup
	}
	return Times{t.Start.UTC().Truncate(time.Second), t.Duration.Truncate(time.Second)}
}

func (t Times) equal(u Times) bool { return t.Start.Equal(u.Start) && t.Duration == u.Duration }

func (t Times) validate(now time.Time) error {
	switch {
	case t.Start.IsZero():
		return invalid("start", "is required")
	case t.Duration < minSpan || t.Duration > maxSpan:
		return invalid("duration_seconds", fmt.Sprintf("must be between %d and %d", minSpan/time.Second, maxSpan/time.Second))
	}
	for _, instant := range []time.Time{t.Start, t.End()} {
		if err := checkTime("start", instant); err != nil {
			return err
		}
	}
	if !t.Start.After(now) {
		return ErrPast
	}
	return nil
}

// NewMeetup is a meetup to be proposed.
type NewMeetup struct {
	MatchID MatchID
	Times
}

// MarshalJSON implements [json.Marshaler].
func (n NewMeetup) MarshalJSON() ([]byte, error) {
	return json.Marshal(newMeetupJSON{n.MatchID, n.json()})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (n *NewMeetup) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var j newMeetupJSON
	err := json.Unmarshal(b, &j)
	*n = NewMeetup{j.MatchID, j.times()}
	return err
}

type newMeetupJSON struct {
	MatchID MatchID `json:"match_id"`
	timesJSON
}

// Reschedule moves a meetup from the times that the actor saw to others.
type Reschedule struct {
	Seen Times `json:"seen"`
	To   Times `json:"to"`
}

// Meetup is a time that the two people of a match have agreed on, or may.
type Meetup struct {
	ID         MeetupID
	MatchID    MatchID
	User1ID    UserID // of the match
	User2ID    UserID
	ProposerID UserID // who proposed the times last; 0 in rows of other applications
	Times
	Status    MeetupStatus
	CreatedAt time.Time
	UpdatedAt time.Time
}

// meetupJSON is Meetup, and with Changed MeetupResult, in JSON.
type meetupJSON struct {
	ID         MeetupID `json:"id"`
	MatchID    MatchID  `json:"match_id"`
	User1ID    UserID   `json:"user1_id"`
	User2ID    UserID   `json:"user2_id"`
	ProposerID UserID   `json:"proposer_id,omitempty"`
	timesJSON
	Status    MeetupStatus `json:"status"`
	CreatedAt time.Time    `json:"created_at"`
	UpdatedAt time.Time    `json:"updated_at"`
	Changed   *bool        `json:"changed,omitempty"`
}

func (m Meetup) json() meetupJSON {
	return meetupJSON{m.ID, m.MatchID, m.User1ID, m.User2ID, m.ProposerID, m.Times.json(), m.Status, m.CreatedAt, m.UpdatedAt, nil}
}

func (j meetupJSON) meetup() Meetup {
	return Meetup{j.ID, j.MatchID, j.User1ID, j.User2ID, j.ProposerID, j.times(), j.Status, j.CreatedAt, j.UpdatedAt}
}

// MarshalJSON implements [json.Marshaler].
func (m Meetup) MarshalJSON() ([]byte, error) { return json.Marshal(m.json()) }

// UnmarshalJSON implements [json.Unmarshaler].
func (m *Meetup) UnmarshalJSON(b []byte) error {
	var j meetupJSON
	err := json.Unmarshal(b, &j)
	*m = j.meetup()
	return err
}

// MeetupResult is a meetup after a step, and whether the step changed it: notify people only then.
type MeetupResult struct {
	Meetup
	Changed bool
}

// MarshalJSON implements [json.Marshaler].
func (r MeetupResult) MarshalJSON() ([]byte, error) {
	j := r.json()
	j.Changed = &r.Changed
	return json.Marshal(j)
}

// UnmarshalJSON implements [json.Unmarshaler].
func (r *MeetupResult) UnmarshalJSON(b []byte) error {
	var j meetupJSON
	err := json.Unmarshal(b, &j)
	*r = MeetupResult{j.meetup(), j.Changed != nil && *j.Changed}
	return err
}

// MeetupQuery selects meetups, in order of start, by their start, which is in [From, To).
type MeetupQuery struct {
	MatchID MatchID        // 0 means of all matches
	Status  []MeetupStatus // empty means all
	From    time.Time      // the zero time means from the first
	To      time.Time      // the zero time means to the last
	Latest  bool           // the other way round: the latest first
	Limit   int            // see [PageQuery]
	After   Cursor
}

// MeetupStore keeps the meetups of accepted matches, of which each has one live meetup at most. Nobody
// has two confirmed meetups that overlap, whoever writes. Steps behave as those of [MatchStore]; they
// lock the match and the meetup, and ConfirmMeetup before them the two users in the order of their ids. A
// step towards a meetup whose start has passed is ErrPast.
type MeetupStore interface {
	// ProposeMeetup proposes a time in the future, as either of the two. A live meetup of the match that
	// has passed is settled first, as Settle does. It returns ErrInvalid and ErrPast for bad times,
	// ErrMeetupExists where the match has a live meetup, unless it is this proposal, a *TransitionError
	// where the match is not accepted, and ErrNotFound.
	ProposeMeetup(ctx context.Context, actor UserID, m NewMeetup) (MeetupResult, error)
	// ConfirmMeetup agrees to the times that the actor saw, as the one who did not propose them. It
	// returns ErrWrongSide to the one who did, ErrMeetupChanged where the times are no longer those, and
	// ErrDoubleBooked where either of the two has a confirmed meetup that overlaps. Where no proposer is
	// known, either may confirm.
	ConfirmMeetup(ctx context.Context, actor UserID, id MeetupID, seen Times) (MeetupResult, error)
	// RescheduleMeetup proposes other times for a live meetup, as either of the two, who then is its
	// proposer. It returns ErrMeetupChanged where the times are no longer those that the actor saw.
	RescheduleMeetup(ctx context.Context, actor UserID, id MeetupID, r Reschedule) (MeetupResult, error)
	// CancelMeetup calls a live meetup off, as either of the two.
	CancelMeetup(ctx context.Context, actor UserID, id MeetupID) (MeetupResult, error)
	// CompleteMeetup says that a confirmed meetup took place, as either of the two, once it is over.
	CompleteMeetup(ctx context.Context, actor UserID, id MeetupID) (MeetupResult, error)

	// Meetup returns a meetup of the actor's, or ErrNotFound.
	Meetup(ctx context.Context, actor UserID, id MeetupID) (Meetup, error)
	// Meetups returns the actor's meetups, or ErrNotFound where there is no such user.
	Meetups(ctx context.Context, actor UserID, q MeetupQuery) (Page[Meetup], error)
}

// meetupColumns make a Meetup of the meetup mt and its match m.
const meetupColumns = "mt.id, mt.match_id, m.user1_id, m.user2_id, coalesce(mt.proposer_id, 0), date_trunc('second', mt.scheduled_time)," +
	" coalesce(mt.duration_seconds, 3600), mt.status, mt.created_at, mt.updated_at"

// meetupRow are the columns of a meetup.
const meetupRow = "id, match_id, proposer_id, scheduled_time, duration_seconds, status, created_at, updated_at"

const (
	meetupStart = "date_trunc('second', mt.scheduled_time)"
	// The end of what is at the end of PostgreSQL's calendar would be an error.
	meetupEnd = "(date_trunc('second', least(mt.scheduled_time, timestamp '9999-12-31')) + (coalesce(mt.duration_seconds, 3600) * interval '1 second'))"
)

func selectMeetups(t tables) squirrel.SelectBuilder {
	return squirrel.Select(meetupColumns).From(t.meetup + " mt").Join(t.match + " m ON m.id = mt.match_id")
}

type meetupStatements struct {
	holdPair, settleMatch, openMatch, proposeMeetup               statement
	confirmMeetup, rescheduleMeetup, cancelMeetup, completeMeetup statement
	meetup                                                        statement
}

func newMeetupStatements(t tables) meetupStatements {
	const (
		upcoming = "c.starts_at > $3::timestamp"
		seen     = "c.match_status = 'accepted' AND c.starts_at = $4::timestamp AND c.seconds = $5::bigint"
	)
	busy := "EXISTS (SELECT FROM " + t.booking + " b WHERE b.user_id IN (c.user1_id, c.user2_id) AND b.meetup_id <> c.id" +
		" AND b.starts_at < c.ends_at AND b.ends_at > c.starts_at) AS busy"
	step := squirrel.Update(t.meetup+" mt").Set("updated_at", squirrel.Expr("$3::timestamp"))
	to := func(status string) squirrel.UpdateBuilder { return step.Set("status", squirrel.Expr("'"+status+"'")) }
	return meetupStatements{
		holdPair: compile("HoldPair", squirrel.Select("a.id").
			From("(SELECT least(m.user1_id, m.user2_id) AS one, greatest(m.user1_id, m.user2_id) AS two FROM "+t.meetup+" mt"+
				" JOIN "+t.match+" m ON m.id = mt.match_id WHERE "+ofActor+" AND mt.id = $2::bigint LIMIT 1) p").
			Join(t.user+" a ON a.id = p.one").Join(t.user+" b ON b.id = p.two").Suffix("FOR NO KEY UPDATE OF a, b")),
		settleMatch: compile("SettleMatch", settle(t, "$3::timestamp").
			Where("mt.match_id = (SELECT m.id FROM "+t.match+" m WHERE "+ofActor+" AND m.id = $2::bigint)").Where(settleable("$3::timestamp"))),
		// To lock the match is a real update, which a transaction of a stricter isolation level that began before it cannot pass
		// over. A meetup that it waited for is not over, so that it need not see it.
		openMatch: compile("OpenMatch", settle(t, "$3::timestamp").From("held h").Where("mt.match_id = h.id").Where(settleable("$3::timestamp")),
			with{"held", squirrel.Update(t.match+" m").Set("updated_at", squirrel.Expr("m.updated_at")).Where(ofActor + " AND m.id = $2::bigint").
				Suffix("RETURNING m.id")}),
		proposeMeetup: proposeMeetup(t),
		confirmMeetup: moveMeetup(t, "ConfirmMeetup", to("confirmed"),
			"c.status = 'proposed' AND c.proposer_id <> $1::bigint AND NOT c.busy AND "+upcoming+" AND "+seen, busy),
		rescheduleMeetup: moveMeetup(t, "RescheduleMeetup", to("proposed").
			Set("scheduled_time", squirrel.Expr("$6::timestamp")).
			Set("duration_seconds", squirrel.Expr("$7::bigint")).
			Set("proposer_id", squirrel.Expr(theActor)),
			"c.status IN ('proposed', 'confirmed') AND "+upcoming+" AND "+seen+
				" AND NOT (c.status = 'proposed' AND c.proposer_id = $1::bigint AND c.starts_at = $6::timestamp AND c.seconds = $7::bigint)"),
		cancelMeetup:   moveMeetup(t, "CancelMeetup", to("cancelled"), "c.status IN ('proposed', 'confirmed') AND "+upcoming),
		completeMeetup: moveMeetup(t, "CompleteMeetup", to("completed"), "c.status = 'confirmed' AND c.ends_at <= $3::timestamp"),
		meetup:         compile("Meetup", selectMeetups(t).Where(ofActor+" AND mt.id = $2::bigint")),
	}
}

// settleable says that the live meetup mt is over: a proposal when its start has come, for nobody can
// confirm it any more, and a confirmed one when it has ended.
func settleable(now string) string {
	return "(mt.status = 'proposed' AND " + meetupStart + " <= " + now + " OR mt.status = 'confirmed' AND " + meetupEnd + " <= " + now + ")"
}

func settle(t tables, now string) squirrel.UpdateBuilder {
	return squirrel.Update(t.meetup+" mt").
		Set("status", squirrel.Expr("CASE WHEN mt.status = 'proposed' THEN 'cancelled' ELSE 'completed' END")).
		Set("updated_at", squirrel.Expr(now))
}

// theActor is the actor's id as the match c has it: a cast of $1 to the column's type would fail for an id
// beyond its range, even where no row comes of it.
const theActor = "CASE WHEN c.user1_id = $1::bigint THEN c.user1_id ELSE c.user2_id END"

// stepRow are the columns of a meetup mt that a step reads and returns.
const stepRow = "mt.id, coalesce(mt.proposer_id, 0) AS proposer_id, " + meetupStart + " AS starts_at, " + meetupEnd + " AS ends_at," +
	" coalesce(mt.duration_seconds, 3600) AS seconds, mt.status, mt.created_at, mt.updated_at"

// stepColumns are the columns of scanStep: the match c, and the meetup as format makes it of its columns.
func stepColumns(changed, format string) []string {
	of := func(column string) string { return fmt.Sprintf(format, column) }
	return []string{changed, "c.match_status", "coalesce(" + of("id") + ", 0)", "c.match_id", "c.user1_id", "c.user2_id",
		"coalesce(" + of("proposer_id") + ", 0)", of("starts_at"), "coalesce(" + of("seconds") + ", 0)", "coalesce(" + of("status") + ", '')",
		of("created_at"), of("updated_at")}
}

// moveMeetup makes a step with the meetup $2 where condition holds. It decides by the rows that it has
// locked, the match first, and returns the meetup as it then is. What else is judged is read by the snapshot of the
// statement: where that looks at bookings, the two people are locked by one before it.
func moveMeetup(t tables, name string, step squirrel.UpdateBuilder, condition string, judged ...string) statement {
	current := squirrel.Select(stepRow, "mt.match_id", "m.user1_id", "m.user2_id", "m.status AS match_status").
		From(t.meetup + " mt").Join(t.match + " m ON m.id = mt.match_id").Where("mt.id = $2::bigint AND " + ofActor).Suffix("FOR NO KEY UPDATE OF m, mt")
	return compile(name, squirrel.Select(stepColumns("v.id IS NOT NULL", "coalesce(v.%[1]s, c.%[1]s)")...).
		From("judged c").LeftJoin("moved v ON true"),
		with{"judged", squirrel.Select("c.*").Columns(judged...).From("(" + constant(current) + ") c")},
		with{"moved", step.From("judged c").Where("mt.id = c.id").Where(condition).Suffix("RETURNING " + stepRow)})
}

// proposeMeetup inserts a meetup unless the match, which is locked and settled, has a live one.
func proposeMeetup(t tables) statement {
	return compile("ProposeMeetup", squirrel.Select(stepColumns("v.id IS NOT NULL", "coalesce(v.%[1]s, l.%[1]s)")...).
		From("held c").LeftJoin("live l ON true").LeftJoin("made v ON true"),
		with{"held", squirrel.Select("m.id AS match_id", "m.user1_id", "m.user2_id", "m.status AS match_status").From(t.match + " m").
			Where(ofActor + " AND m.id = $2::bigint")},
		with{"live", squirrel.Select(stepRow).From(t.meetup + " mt").Join("held c ON c.match_id = mt.match_id").
			Where("mt.status IN ('proposed', 'confirmed')")},
		with{"made", squirrel.Insert(t.meetup+" AS mt").
			Columns("match_id", "scheduled_time", "duration_seconds", "proposer_id", "status", "created_at", "updated_at").
			Select(squirrel.Select("c.match_id", "$4::timestamp", "$5::bigint", theActor, "'proposed'", "$3::timestamp", "$3::timestamp").
				From("held c").Where("c.match_status = 'accepted' AND NOT EXISTS (SELECT FROM live)")).
			Suffix("ON CONFLICT DO NOTHING RETURNING " + stepRow)})
}

func scanMeetup(r *rowReader) Meetup {
	return Meetup{ID: MeetupID(r.integer()), MatchID: MatchID(r.integer()), User1ID: UserID(r.integer()), User2ID: UserID(r.integer()),
		ProposerID: UserID(r.integer()), Times: Times{Start: r.time(), Duration: time.Duration(r.integer()) * time.Second},
		Status: MeetupStatus(r.text()), CreatedAt: r.time(), UpdatedAt: r.time()}
}

// step is what a step came to: the meetup as it is, and whether it was changed.
type step struct {
	changed     bool
	matchStatus string
	meetup      Meetup
}

func scanStep(r *rowReader) step {
	return step{changed: r.boolean(), matchStatus: r.text(), meetup: scanMeetup(r)}
}

// ProposeMeetup implements [MeetupStore].
func (p *Postgres) ProposeMeetup(ctx context.Context, actor UserID, n NewMeetup) (MeetupResult, error) {
	const op = "ProposeMeetup"
	now := p.now()
	times := n.Times.normal()
	if err := errors.Join(checkID("actor", actor), checkID("match_id", n.MatchID), times.validate(now)); err != nil {
		return MeetupResult{}, opError(op, err)
	}
	var s step
	var found bool
	err := p.send(ctx, op, func(b *batch) {
		// A statement of its own, so that the next one sees what this one waited for.
		b.exec(p.sql.openMatch, int64(actor), int64(n.MatchID), timestamp(now))
		queueOne(b, p.sql.proposeMeetup, scanStep, &s, &found, int64(actor), int64(n.MatchID), timestamp(now),
			timestamp(times.Start), int64(times.Duration/time.Second))
	})
	switch {
	case err != nil:
		return MeetupResult{}, err
	case !found:
		return MeetupResult{}, opError(op, ErrNotFound)
	case s.matchStatus != string(MatchAccepted):
		return MeetupResult{}, opError(op, &TransitionError{From: s.matchStatus, To: string(MeetupProposed)})
	case s.changed, s.meetup.Status == MeetupProposed && s.meetup.ProposerID == actor && s.meetup.equal(times):
		return MeetupResult{s.meetup, s.changed}, nil
	}
	return MeetupResult{}, opError(op, ErrMeetupExists)
}

// ConfirmMeetup implements [MeetupStore].
func (p *Postgres) ConfirmMeetup(ctx context.Context, actor UserID, id MeetupID, seen Times) (MeetupResult, error) {
	const op = "ConfirmMeetup"
	now := p.now()
	seen = seen.normal()
	if err := errors.Join(checkID("actor", actor), checkID("meetup_id", id), checkTime("start", seen.Start)); err != nil {
		return MeetupResult{}, opError(op, err)
	}
	var s step
	var found bool
	err := p.sendGuarded(ctx, op, func(b *batch) {
		b.exec(p.sql.holdPair, int64(actor), int64(id))
		queueOne(b, p.sql.confirmMeetup, scanStep, &s, &found, int64(actor), int64(id), timestamp(now),
			timestamp(seen.Start), int64(seen.Duration/time.Second))
	})
	m := s.meetup
	entitled := m.ProposerID != actor
	switch {
	case err != nil:
		return MeetupResult{}, err
	case !found:
		return MeetupResult{}, opError(op, ErrNotFound)
	case s.changed, m.Status == MeetupConfirmed && entitled && m.equal(seen):
		return MeetupResult{m, s.changed}, nil
	case m.Status == MeetupConfirmed && entitled:
		return MeetupResult{}, opError(op, ErrMeetupChanged)
	case m.Status != MeetupProposed:
		return MeetupResult{}, opError(op, &TransitionError{From: string(m.Status), To: string(MeetupConfirmed)})
	case !entitled:
		return MeetupResult{}, opError(op, ErrWrongSide)
	}
	if err := s.refused(seen, now, MeetupConfirmed); err != nil {
		return MeetupResult{}, opError(op, err)
	}
	return MeetupResult{}, opError(op, ErrDoubleBooked)
}

// refused says why the meetup, whose status allows it, was not moved on from the times seen.
func (s step) refused(seen Times, now time.Time, to MeetupStatus) error {
	switch {
	case s.matchStatus != string(MatchAccepted):
		return &TransitionError{From: s.matchStatus, To: string(to)}
	case !s.meetup.Start.After(now):
		return ErrPast
	case !s.meetup.equal(seen):
		return ErrMeetupChanged
	}
	return nil
}

// RescheduleMeetup implements [MeetupStore].
func (p *Postgres) RescheduleMeetup(ctx context.Context, actor UserID, id MeetupID, r Reschedule) (MeetupResult, error) {
	const op = "RescheduleMeetup"
	now := p.now()
	seen, to := r.Seen.normal(), r.To.normal()
	if err := errors.Join(checkID("actor", actor), checkID("meetup_id", id), checkTime("start", seen.Start), to.validate(now)); err != nil {
		return MeetupResult{}, opError(op, err)
	}
	s, err := queryOne(ctx, p, op, p.sql.rescheduleMeetup, scanStep, int64(actor), int64(id), timestamp(now),
		timestamp(seen.Start), int64(seen.Duration/time.Second), timestamp(to.Start), int64(to.Duration/time.Second))
	m := s.meetup
	switch {
	case err != nil:
		return MeetupResult{}, err
	case s.changed, m.Status == MeetupProposed && m.ProposerID == actor && m.equal(to):
		return MeetupResult{m, s.changed}, nil
	case m.Status != MeetupProposed && m.Status != MeetupConfirmed:
		return MeetupResult{}, opError(op, &TransitionError{From: string(m.Status), To: string(MeetupProposed)})
	}
	if err := s.refused(seen, now, MeetupProposed); err != nil {
		return MeetupResult{}, opError(op, err)
	}
	return MeetupResult{}, opError(op, ErrMeetupChanged)
}

// CancelMeetup implements [MeetupStore].
func (p *Postgres) CancelMeetup(ctx context.Context, actor UserID, id MeetupID) (MeetupResult, error) {
	return p.endMeetup(ctx, "CancelMeetup", p.sql.cancelMeetup, actor, id, MeetupCancelled)
}

// CompleteMeetup implements [MeetupStore].
func (p *Postgres) CompleteMeetup(ctx context.Context, actor UserID, id MeetupID) (MeetupResult, error) {
	return p.endMeetup(ctx, "CompleteMeetup", p.sql.completeMeetup, actor, id, MeetupCompleted)
}

func (p *Postgres) endMeetup(ctx context.Context, op string, s statement, actor UserID, id MeetupID, to MeetupStatus) (MeetupResult, error) {
	if err := errors.Join(checkID("actor", actor), checkID("meetup_id", id)); err != nil {
		return MeetupResult{}, opError(op, err)
	}
	end, err := queryOne(ctx, p, op, s, scanStep, int64(actor), int64(id), timestamp(p.now()))
	m := end.meetup
	switch {
	case err != nil:
		return MeetupResult{}, err
	case end.changed, m.Status == to:
		return MeetupResult{m, end.changed}, nil
	case to == MeetupCancelled && (m.Status == MeetupProposed || m.Status == MeetupConfirmed):
		return MeetupResult{}, opError(op, ErrPast)
	}
	return MeetupResult{}, opError(op, &TransitionError{From: string(m.Status), To: string(to)})
}

// Meetup implements [MeetupStore].
func (p *Postgres) Meetup(ctx context.Context, actor UserID, id MeetupID) (Meetup, error) {
	if err := errors.Join(checkID("actor", actor), checkID("meetup_id", id)); err != nil {
		return Meetup{}, opError("Meetup", err)
	}
	return queryOne(ctx, p, "Meetup", p.sql.meetup, scanMeetup, int64(actor), int64(id))
}

// Meetups implements [MeetupStore].
func (p *Postgres) Meetups(ctx context.Context, actor UserID, q MeetupQuery) (Page[Meetup], error) {
	if err := checkID("actor", actor); err != nil {
		return Page[Meetup]{}, opError("Meetups", err)
	}
	return p.meetups(ctx, "Meetups", actor, q)
}

// meetups lists the meetups of the actor.
func (p *Postgres) meetups(ctx context.Context, op string, actor UserID, q MeetupQuery) (Page[Meetup], error) {
	limit, err := pageLimit(q.Limit)
	status := statusList(q.Status)
	key := newListKey(op, actor, q.MatchID, statusKey(status), q.From.UnixMicro(), q.To.UnixMicro(), q.Latest)
	var start, id int64
	later, errCursor := key.decode(q.After, &start, &id)
	after, errTime := listedTime(start)
	if err := errors.Join(err, errCursor, errTime, q.validate()); err != nil {
		return Page[Meetup]{}, opError(op, err)
	}
	// The column itself, with what it may have beyond the second, is the order.
	direction, beyond := " ASC", ">"
	if q.Latest {
		direction, beyond = " DESC", "<"
	}
	liveOnly := len(status) > 0 && !slices.ContainsFunc(status, func(s string) bool { return s != string(MeetupProposed) && s != string(MeetupConfirmed) })
	filter := func(list squirrel.SelectBuilder) squirrel.SelectBuilder {
		if len(status) > 0 {
			list = list.Where("mt.status = ANY(?::text[])", status)
		}
		if liveOnly {
			list = list.Where("mt.status IN ('proposed', 'confirmed')") // of which there is an index
		}
		if !q.From.IsZero() {
			list = list.Where("mt.scheduled_time >= ?::timestamp", timestamp(q.From))
		}
		if !q.To.IsZero() {
			list = list.Where("mt.scheduled_time < ?::timestamp", timestamp(q.To))
		}
		if later {
			list = list.Where("(mt.scheduled_time, mt.id) "+beyond+" (?::timestamp, ?::bigint)", after, id)
		}
		return list.OrderBy("mt.scheduled_time"+direction, "mt.id"+direction).Suffix("LIMIT ?::bigint", limit+1)
	}
	list := squirrel.Select(meetupColumns, "mt.scheduled_time")
	if q.MatchID != 0 {
		list = list.Where("m.id = ?::bigint", int64(q.MatchID))
	}
	var last place
	if actor == everyone {
		list = filter(list.From(p.sql.lists.meetup + " mt").Join(p.sql.lists.match + " m ON m.id = mt.match_id"))
		rows, err := queryList(ctx, p, op, list, limit+1, untilLast(limit, &last, scanListedMeetup))
		return newListedPage(rows, limit, last, key), err
	}
	// Each match is read by itself. As one join, a plan for any values would go through everybody's meetups in order.
	ofMatch, args, err := filter(squirrel.Select(columns("mt", meetupRow)).From(p.sql.lists.meetup + " mt").Where("mt.match_id = m.id")).ToSql()
	if err != nil {
		return Page[Meetup]{}, opError(op, err)
	}
	text, args, err := list.From(p.sql.lists.match+" m").CrossJoin("LATERAL ("+ofMatch+") mt", args...).
		Where("(m.user1_id = ?::bigint OR m.user2_id = ?::bigint)", int64(actor), int64(actor)).
		OrderBy("mt.scheduled_time"+direction, "mt.id"+direction).Suffix("LIMIT ?::bigint", limit+1).ToSql()
	if err != nil {
		return Page[Meetup]{}, opError(op, err)
	}
	s, args, err := buildList(op, listOf(p.sql.lists.user, text, args...).Where("u.id = ?::bigint", int64(actor)).
		OrderBy("list.scheduled_time"+direction, "list.id"+direction))
	if err != nil {
		return Page[Meetup]{}, opError(op, err)
	}
	rows, err := queryListOf(ctx, p, op, s, limit+1, untilLast(limit, &last, scanListedMeetup), args...)
	return newListedPage(rows, limit, last, key), err
}

func scanListedMeetup(r *rowReader) (Meetup, place) {
	m := scanMeetup(r)
	return m, place{r.micros(), int64(m.ID)}
}

func (q MeetupQuery) validate() error {
	errs := []error{checkStatuses(statusList(q.Status))}
	if !q.From.IsZero() {
		errs = append(errs, checkTime("from", q.From))
	}
	if !q.To.IsZero() {
		errs = append(errs, checkTime("to", q.To))
	}
	return errors.Join(errs...)
}
