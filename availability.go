package soultribe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	minSpan  = 15 * time.Minute // of slots and of meetups
	maxSpan  = 24 * time.Hour
	maxSlots = 2000 // in one call: more than a year of five a day
)

// NewSlot is a time in which a person is free: the half-open span [Start, End) of instants, in any
// Location, and the IANA zone in which the person thinks of it. It lasts 15 minutes to 24 hours.
type NewSlot struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	Timezone string    `json:"timezone"`
}

// Slot is a stored [NewSlot]. Its times are UTC.
type Slot struct {
	ID        SlotID    `json:"id"`
	UserID    UserID    `json:"user_id"`
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
	Timezone  string    `json:"timezone"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// LocalStart returns Start in the slot's zone, or in UTC where the zone is not known, which only a row of
// another application can have.
func (s Slot) LocalStart() time.Time { return inZone(s.Start, s.Timezone) }

// LocalEnd returns End in the slot's zone, as LocalStart does.
func (s Slot) LocalEnd() time.Time { return inZone(s.End, s.Timezone) }

func inZone(t time.Time, zone string) time.Time {
	loc, err := loadZone(zone)
	if err != nil {
		return t.UTC()
	}
	return t.In(loc)
}

// SlotQuery selects slots by their start, which is in [From, To).
type SlotQuery struct {
	From  time.Time // the zero time means after now
	To    time.Time // the zero time means no end
	Limit int       // see [PageQuery]
	After Cursor
}

// MutualQuery says where to look for the time that two people have in common.
type MutualQuery struct {
	From    time.Time     // the zero time means now
	To      time.Time     // the zero time means 14 days after From; 366 days after it at most
	AtLeast time.Duration // shorter windows do not count; 0 counts all
}

// AvailabilityStore keeps the times when people are free. No two slots of one user overlap, whoever
// writes; adjacent ones are fine.
type AvailabilityStore interface {
	// AddSlot stores a slot. It returns ErrInvalid for one that breaks the rules of NewSlot, ErrPast for
	// one that is over, ErrSlotOverlap where the user has another in that time, and ErrNotFound where
	// there is no such user. It takes no lock that another slot of the user would wait for.
	AddSlot(ctx context.Context, actor UserID, slot NewSlot) (Slot, error)
	// AddSlots stores all of the slots or none, and returns them in the given order. Errors are those of
	// AddSlot; an *OverlapError says which slot overlaps one stored, or one given before
	// it, but for one that only another transaction sees, in REPEATABLE READ: that is ErrSlotOverlap alone. It takes 2,000 slots at most. It locks the user.
	AddSlots(ctx context.Context, actor UserID, slots []NewSlot) ([]Slot, error)
	// ReplaceSlots deletes the user's slots that start in the window, and stores the given ones, which
	// must start in it: all or nothing, and with the same times, under new ids, when it is repeated. With no
	// slots it clears the window. A window best begins at a start or end of day that lies ahead: a slot that is
	// running began before now, stays, and may overlap a new one, and one that is over is ErrPast. Errors
	// are those of AddSlots. It locks the user.
	ReplaceSlots(ctx context.Context, actor UserID, window Window, slots []NewSlot) ([]Slot, error)
	// UpdateSlot gives a slot other times. Errors are those of AddSlot, and ErrNotFound where the slot is
	// not the user's. It locks the user.
	UpdateSlot(ctx context.Context, actor UserID, id SlotID, slot NewSlot) (Slot, error)
	// DeleteSlot removes a slot, or returns ErrNotFound.
	DeleteSlot(ctx context.Context, actor UserID, id SlotID) error
	// Slot returns a slot of the user's, or ErrNotFound.
	Slot(ctx context.Context, actor UserID, id SlotID) (Slot, error)
	// Slots returns the user's slots in order of start; the zero query those that start after now. It returns
	// ErrNotFound where there is no such user.
	Slots(ctx context.Context, actor UserID, q SlotQuery) (Page[Slot], error)
	// MutualAvailability returns the windows in which both people are free, in order: adjacent slots are
	// one, confirmed meetups of either are cut out, and what is left is clipped to the horizon. It
	// returns ErrNotFound unless both users exist, and with [WithMatchedAvailability] unless they have an
	// accepted match. Without it a stranger learns from it when somebody is free, within the stranger's own slots.
	MutualAvailability(ctx context.Context, actor, other UserID, q MutualQuery) ([]Window, error)
}

const slotColumns = "id, user_id, start_dt_utc, end_dt_utc, timezone, created_at, updated_at"

type slotStatements struct {
	addSlot, addSlots, replaceSlots statement
	holdUser, clearSlots            statement
	updateSlot, deleteSlot          statement
	slot, slots                     statement
	mutualTime                      statement
}

func newSlotStatements(t tables, matchedOnly bool) slotStatements {
	slots := squirrel.Select(columns("s", slotColumns)).From(t.slot + " s")
	both := "u.id = ANY(ARRAY[$1::bigint, $2::bigint])"
	if matchedOnly {
		both += " AND EXISTS (SELECT FROM " + t.match + " m WHERE " + ofPair + " AND m.status = 'accepted')"
	}
	return slotStatements{
		addSlot:      addSlot(t),
		addSlots:     addSlots(t, "AddSlots"),
		replaceSlots: addSlots(t, "ReplaceSlots"),
		// It keeps out others who store, move or replace several slots of the user: each could wait for a row of the
		// other's while it holds one that the other waits for. An AddSlot, which has but one row, and everything that only
		// wants the user to stay go on beside it.
		holdUser: compile("HoldUser", squirrel.Select("u.id").From(t.user+" u").Where("u.id = $1::bigint").Suffix("FOR NO KEY UPDATE")),
		clearSlots: compile("ClearSlots", squirrel.Delete(t.slot).
			Where("user_id = $1::bigint AND start_dt_utc >= $2::timestamp AND start_dt_utc < $3::timestamp")),
		updateSlot: updateSlot(t),
		deleteSlot: compile("DeleteSlot", squirrel.Delete(t.slot).Where("user_id = $1::bigint AND id = $2::bigint").Suffix("RETURNING id")),
		slot:       compile("Slot", slots.Where("s.user_id = $1::bigint AND s.id = $2::bigint")),
		// The row comparison begins with the user so that a plan for any values, which takes a time between two bounds for
		// rare, does not read everybody's slots from the index on start.
		slots: compile("Slots", listOf(t.user, constant(slots.
			Where("s.user_id = $1::bigint AND (s.user_id, s.start_dt_utc, s.id) > ($1::bigint, $2::timestamp, $3::bigint) AND s.start_dt_utc < $4::timestamp").
			OrderBy("s.start_dt_utc", "s.id").Suffix("LIMIT $5::bigint"))).
			Where("u.id = $1::bigint")),
		mutualTime: compile("MutualTime", union(thatExist(t, both),
			freeTime(t, "$1::bigint", "$3::timestamp", "$4::timestamp"), freeTime(t, "$2::bigint", "$3::timestamp", "$4::timestamp"),
			busyTime(t, "$1::bigint", "$3::timestamp", "$4::timestamp"), busyTime(t, "$2::bigint", "$3::timestamp", "$4::timestamp"))),
	}
}

// addSlot leaves the verdict to the exclusion constraint, which ON CONFLICT asks without an error: no
// lock, no deadlock, no aborted transaction. What is seen to be in the way refuses a slot before anything is
// written, be it a lock or the sequence. Without a slot the row has the user, if there still is one.
func addSlot(t tables) statement {
	user := squirrel.Select("u.id").From(t.user + " u").Where("u.id = $1::bigint")
	return compile("AddSlot", squirrel.Select("CASE WHEN a.id IS NOT NULL THEN a.user_id WHEN EXISTS (SELECT FROM clash) THEN $1::bigint"+
		" ELSE ("+constant(user.Suffix("FOR KEY SHARE"))+") END", columns("a", slotColumns)).From("(SELECT) p").LeftJoin("added a ON true"),
		with{"clash", squirrel.Select("s.id").From(t.slot + " s").
			Where("s.user_id = $1::bigint AND " + meets("s", "$2::timestamp", "$3::timestamp")).Limit(1)},
		with{"added", insertSlots(t).
			Select(user.Columns("$2::timestamp", "$3::timestamp", "$4::timestamp", "$5::timestamp", "$6::text", "$7::timestamp", "$7::timestamp").
				Where("NOT EXISTS (SELECT FROM clash)").Suffix("FOR KEY SHARE OF u")).
			Suffix("ON CONFLICT ON CONSTRAINT availabilityslot_no_overlap DO NOTHING RETURNING " + slotColumns)})
}

// meets says that a slot has some of the time from start to end. A slot lasts 24 hours at most, so that
// those are a narrow range of the index on start.
func meets(slot, start, end string) string {
	return slot + ".start_dt_utc < " + end + " AND " + slot + ".start_dt_utc > (" + start + " - interval '24 hours') AND " + slot + ".end_dt_utc > " + start
}

func insertSlots(t tables) squirrel.InsertBuilder {
	return squirrel.Insert(t.slot).
		Columns("user_id", "start_dt_utc", "end_dt_utc", "start_dt_local", "end_dt_local", "timezone", "created_at", "updated_at")
}

// slotsApart says that no two slots of a user can overlap, as the constraint is there.
func slotsApart(t tables) string {
	return "EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = " + regclass(t.slot) + " AND c.conname = 'availabilityslot_no_overlap' AND c.contype = 'x')"
}

// addSlots adds none where a slot is in the way: the function raises an exclusion violation whose detail is the
// new slot's place in the arrays. To look first saves numbers of the sequence, of which a visitor could use
// up the column's two billion. The user is locked by a statement before it, so that it sees what others stored at once.
//
// Where an AddSlot comes between, the constraint itself raises the violation. ON CONFLICT would search the index
// twice for each row, and is not needed against a deadlock, as an AddSlot waits before it has stored anything. It would
// miss the constraint, which this has to do itself.
func addSlots(t tables, name string) statement {
	// The slots of either kind are apart. So where one is in the way of another, in order of start one of those comes right
	// behind it, and the first of these is the first of all: to join them would be to compare each with each.
	own := squirrel.Select("NULL::bigint", "s.start_dt_utc", "s.end_dt_utc").From(t.slot+" s").
		Where("s.user_id = $1::bigint AND s.start_dt_utc < s.end_dt_utc AND "+meets("s", "(SELECT min(w.start_dt_utc) FROM wanted w)", "(SELECT max(w.end_dt_utc) FROM wanted w)")).
		OrderBy("s.start_dt_utc", "s.id")
	both := squirrel.Select("b.place", "b.start_dt_utc", "lag(b.place) OVER (ORDER BY b.start_dt_utc) AS place_before", "lag(b.end_dt_utc) OVER (ORDER BY b.start_dt_utc) AS end_before").
		From("(SELECT w.place, w.start_dt_utc, w.end_dt_utc FROM wanted w UNION ALL (" + constant(own) + ")) b")
	return compile(name, squirrel.Select("o.id", columns("a", slotColumns)).From("owner o").LeftJoin("added a ON true").
		Where("CASE WHEN NOT "+slotsApart(t)+" THEN "+t.refuse+"('42704', 'availabilityslot_no_overlap', 'it is missing') WHEN (SELECT c.place FROM clash c) IS NOT NULL"+
			" THEN "+t.refuse+"('23P01', 'availabilityslot_no_overlap', (SELECT c.place FROM clash c)::text) ELSE true END"),
		with{"owner", squirrel.Select("u.id").From(t.user + " u").Where("u.id = $1::bigint")},
		with{"wanted", squirrel.Select("*").From(unnest("$2::timestamp[]", "$3::timestamp[]", "$4::timestamp[]", "$5::timestamp[]", "$6::text[]") +
			" WITH ORDINALITY AS w (start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, place)")},
		with{"clash", squirrel.Select("min(coalesce(b.place, b.place_before)) AS place").
			From("(" + constant(both) + ") b").Where("b.end_before > b.start_dt_utc")},
		with{"added", insertSlots(t).
			Select(squirrel.Select("o.id", "w.start_dt_utc", "w.end_dt_utc", "w.start_dt_local", "w.end_dt_local", "w.timezone", "$7::timestamp", "$7::timestamp").
				From("owner o").CrossJoin("wanted w").CrossJoin("clash c").Where("c.place IS NULL").OrderBy("w.start_dt_utc")).
			Suffix("RETURNING " + slotColumns)})
}

// updateSlot looks for an overlap itself, as an UPDATE cannot leave that to ON CONFLICT. It locks the slot
// first, so that one that is deleted meanwhile is not found, rather than taken for one that overlaps.
func updateSlot(t tables) statement {
	return compile("UpdateSlot", squirrel.Select("c.id", columns("a", slotColumns)).From("current c").LeftJoin("changed a ON true"),
		with{"current", squirrel.Select("s.id").From(t.slot + " s").Where("s.user_id = $1::bigint AND s.id = $8::bigint").Suffix("FOR NO KEY UPDATE")},
		with{"changed", squirrel.Update(t.slot+" s").
			Set("start_dt_utc", squirrel.Expr("$2::timestamp")).
			Set("end_dt_utc", squirrel.Expr("$3::timestamp")).
			Set("start_dt_local", squirrel.Expr("$4::timestamp")).
			Set("end_dt_local", squirrel.Expr("$5::timestamp")).
			Set("timezone", squirrel.Expr("$6::text")).
			Set("updated_at", squirrel.Expr("$7::timestamp")).
			From("current c").
			Where("s.user_id = $1::bigint AND s.id = c.id AND NOT EXISTS (SELECT FROM " + t.slot + " o WHERE o.user_id = $1::bigint AND o.id <> $8::bigint AND " +
				meets("o", "$2::timestamp", "$3::timestamp") + ")").
			Suffix("RETURNING " + columns("s", slotColumns))})
}

func scanSlot(r *rowReader) Slot {
	return Slot{ID: SlotID(r.integer()), UserID: UserID(r.integer()), Start: r.time(), End: r.time(), Timezone: r.text(),
		CreatedAt: r.time(), UpdatedAt: r.time()}
}

// scanStored reads a slot behind the id of its owner. Where there is no slot its id is 0.
func scanStored(r *rowReader) Slot {
	r.integer()
	return scanSlot(r)
}

// slotRow is a slot as it goes in.
type slotRow struct {
	index                            int // in the caller's slice
	start, end, startLocal, endLocal pgtype.Timestamp
	zone                             string
}

// newSlotRow checks a slot, and derives its wall-clock times. It does not look at the clock: what can
// never be right comes before what is over.
func newSlotRow(n NewSlot) (slotRow, error) {
	r := slotRow{start: timestamp(n.Start), end: timestamp(n.End), zone: n.Timezone}
	length := r.end.Time.Sub(r.start.Time)
	loc, err := loadZone(n.Timezone)
	switch err := errors.Join(checkTime("start", r.start.Time), checkTime("end", r.end.Time), err); {
	case err != nil:
		return r, err
	case length <= 0:
		return r, invalid("end", "must be after start")
	case length < minSpan:
		return r, invalid("end", "must be at least 15 minutes after start")
	case length > maxSpan:
		return r, invalid("end", "must be at most 24 hours after start")
	}
	r.startLocal, r.endLocal = wallTimestamp(r.start.Time, loc), wallTimestamp(r.end.Time, loc)
	return r, nil
}

func (r slotRow) checkAhead(now time.Time) error {
	if !r.end.Time.After(now) {
		return ErrPast
	}
	return nil
}

// newSlotRows checks slots, which must start in window unless that is nil, each for itself.
func newSlotRows(slots []NewSlot, window *Window) ([]slotRow, error) {
	if len(slots) > maxSlots {
		return nil, invalid("slots", fmt.Sprintf("must be at most %d", maxSlots))
	}
	rows := make([]slotRow, len(slots))
	var errs []error
	for i, n := range slots {
		r, err := newSlotRow(n)
		if err == nil && window != nil && (r.start.Time.Before(window.Start) || !r.start.Time.Before(window.End)) {
			err = invalid("start", "must be in the window")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("slot %d: %w", i, err))
		}
		r.index = i
		rows[i] = r
	}
	return rows, errors.Join(errs...)
}

// arrange sorts rows by start. None may be over, or overlap another.
func arrange(rows []slotRow, now time.Time) error {
	for i, r := range rows {
		if err := r.checkAhead(now); err != nil {
			return fmt.Errorf("slot %d: %w", i, err)
		}
	}
	slices.SortStableFunc(rows, func(a, b slotRow) int { return a.start.Time.Compare(b.start.Time) })
	for i := 1; i < len(rows); i++ {
		if rows[i].start.Time.Before(rows[i-1].end.Time) {
			return &OverlapError{Index: max(rows[i].index, rows[i-1].index)}
		}
	}
	return nil
}

// slotArrays are rows as the parameters of addSlots.
func slotArrays(rows []slotRow) []any {
	start, end := make([]pgtype.Timestamp, len(rows)), make([]pgtype.Timestamp, len(rows))
	startLocal, endLocal := make([]pgtype.Timestamp, len(rows)), make([]pgtype.Timestamp, len(rows))
	zone := make([]string, len(rows))
	for i, r := range rows {
		start[i], end[i], startLocal[i], endLocal[i], zone[i] = r.start, r.end, r.startLocal, r.endLocal, r.zone
	}
	return []any{start, end, startLocal, endLocal, zone}
}

// AddSlot implements [AvailabilityStore].
func (p *Postgres) AddSlot(ctx context.Context, actor UserID, n NewSlot) (Slot, error) {
	const op = "AddSlot"
	now := p.now()
	r, err := newSlotRow(n)
	if err := cmp.Or(errors.Join(checkID("actor", actor), err), r.checkAhead(now)); err != nil {
		return Slot{}, opError(op, err)
	}
	var isUser bool
	s, err := queryOne(ctx, p, op, p.sql.addSlot, func(r *rowReader) Slot {
		isUser = !r.null()
		return scanStored(r)
	}, int64(actor), r.start, r.end, r.startLocal, r.endLocal, r.zone, timestamp(now))
	switch {
	case err != nil:
		return Slot{}, err
	case !isUser:
		return Slot{}, opError(op, ErrNotFound)
	case s.ID == 0:
		return Slot{}, opError(op, &OverlapError{})
	}
	return s, nil
}

// AddSlots implements [AvailabilityStore].
func (p *Postgres) AddSlots(ctx context.Context, actor UserID, slots []NewSlot) ([]Slot, error) {
	const op = "AddSlots"
	now := p.now()
	rows, err := newSlotRows(slots, nil)
	if err = errors.Join(checkID("actor", actor), err); err == nil {
		err = arrange(rows, now)
	}
	if err != nil {
		return nil, opError(op, err)
	}
	return p.storeSlots(ctx, op, p.sql.addSlots, actor, rows, now, func(*batch) {})
}

// ReplaceSlots implements [AvailabilityStore].
func (p *Postgres) ReplaceSlots(ctx context.Context, actor UserID, window Window, slots []NewSlot) ([]Slot, error) {
	const op = "ReplaceSlots"
	now := p.now()
	from, to := timestamp(window.Start), timestamp(window.End)
	errs := []error{checkID("actor", actor), checkTime("window", window.Start), checkTime("window", window.End)}
	if !from.Time.Before(to.Time) {
		errs = append(errs, invalid("window", "must end after its start"))
	}
	rows, err := newSlotRows(slots, &Window{from.Time, to.Time})
	if err = errors.Join(append(errs, err)...); err == nil {
		err = arrange(rows, now)
	}
	if err != nil {
		return nil, opError(op, err)
	}
	return p.storeSlots(ctx, op, p.sql.replaceSlots, actor, rows, now, func(b *batch) {
		b.exec(p.sql.clearSlots, int64(actor), from, to)
	})
}

// storeSlots locks the user, and stores rows, which are in order of start, by s, after what before queues. It returns
// them in the caller's order.
func (p *Postgres) storeSlots(ctx context.Context, op string, s statement, actor UserID, rows []slotRow, now time.Time, before func(b *batch)) ([]Slot, error) {
	stored := make([]Slot, 0, len(rows))
	args := slices.Concat([]any{int64(actor)}, slotArrays(rows), []any{timestamp(now)})
	var err error
	// A slot that was stored while the statement ran does not tell which of the rows it is in the way of. The next
	// look does, unless the caller's transaction does not see it.
	for range 3 {
		err = p.sendGuarded(ctx, op, func(b *batch) {
			b.exec(p.sql.holdUser, int64(actor))
			before(b)
			queueAll(b, s, scanStored, &stored, args...)
		})
		if !errors.Is(err, ErrSlotOverlap) {
			break
		}
		if place, ok := placeOf(err); ok && place <= len(rows) {
			return nil, opError(op, &OverlapError{Index: rows[place-1].index})
		}
		stored = stored[:0]
	}
	switch {
	case err != nil:
		return nil, err
	case len(stored) == 0:
		return nil, opError(op, ErrNotFound)
	}
	if len(rows) == 0 { // there is one row, without a slot
		return []Slot{}, nil
	}
	// No two start at one time, so that both are in the same order.
	slices.SortFunc(stored, func(a, b Slot) int { return a.Start.Compare(b.Start) })
	if slices.IsSortedFunc(rows, func(a, b slotRow) int { return cmp.Compare(a.index, b.index) }) {
		return stored, nil
	}
	slots := make([]Slot, len(rows))
	for i, r := range rows {
		slots[r.index] = stored[i]
	}
	return slots, nil
}

// placeOf is the place, from 1, that addSlots raised.
func placeOf(err error) (int, bool) {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return 0, false
	}
	place, err := strconv.Atoi(pg.Detail)
	return place, err == nil && place > 0
}

// UpdateSlot implements [AvailabilityStore].
func (p *Postgres) UpdateSlot(ctx context.Context, actor UserID, id SlotID, n NewSlot) (Slot, error) {
	const op = "UpdateSlot"
	now := p.now()
	r, err := newSlotRow(n)
	if err := cmp.Or(errors.Join(checkID("actor", actor), checkID("slot_id", id), err), r.checkAhead(now)); err != nil {
		return Slot{}, opError(op, err)
	}
	var s Slot
	var found bool
	err = p.sendGuarded(ctx, op, func(b *batch) {
		b.exec(p.sql.holdUser, int64(actor))
		queueOne(b, p.sql.updateSlot, scanStored, &s, &found,
			int64(actor), r.start, r.end, r.startLocal, r.endLocal, r.zone, timestamp(now), int64(id))
	})
	switch {
	case errors.Is(err, ErrSlotOverlap), err == nil && found && s.ID == 0:
		return Slot{}, opError(op, &OverlapError{})
	case err != nil:
		return Slot{}, err
	case !found:
		return Slot{}, opError(op, ErrNotFound)
	}
	return s, nil
}

// DeleteSlot implements [AvailabilityStore].
func (p *Postgres) DeleteSlot(ctx context.Context, actor UserID, id SlotID) error {
	if err := errors.Join(checkID("actor", actor), checkID("slot_id", id)); err != nil {
		return opError("DeleteSlot", err)
	}
	_, err := queryOne(ctx, p, "DeleteSlot", p.sql.deleteSlot, (*rowReader).integer, int64(actor), int64(id))
	return err
}

// Slot implements [AvailabilityStore].
func (p *Postgres) Slot(ctx context.Context, actor UserID, id SlotID) (Slot, error) {
	if err := errors.Join(checkID("actor", actor), checkID("slot_id", id)); err != nil {
		return Slot{}, opError("Slot", err)
	}
	return queryOne(ctx, p, "Slot", p.sql.slot, scanSlot, int64(actor), int64(id))
}

// Slots implements [AvailabilityStore].
func (p *Postgres) Slots(ctx context.Context, actor UserID, q SlotQuery) (Page[Slot], error) {
	const op = "Slots"
	limit, err := pageLimit(q.Limit)
	from, to := q.From, q.To
	if from.IsZero() {
		// After now: the next time that a column can hold.
		from = p.now().Add(time.Microsecond)
	}
	if to.IsZero() {
		to = lastTime
	}
	key := newListKey(op, actor, q.From.UnixMicro(), q.To.UnixMicro())
	var start, id int64
	after := from
	later, errCursor := key.decode(q.After, &start, &id)
	if later {
		after, errCursor = cursorTime(start)
	}
	if err := errors.Join(checkID("actor", actor), err, checkTime("from", from), checkTime("to", to), errCursor); err != nil {
		return Page[Slot]{}, opError(op, err)
	}
	slots, err := queryListOf(ctx, p, op, p.sql.slots, limit+1, scanSlot, int64(actor), timestamp(after), id, timestamp(to), limit+1)
	// They come in this order, as the list is joined to one row, but SQL does not promise that.
	slices.SortFunc(slots, func(a, b Slot) int { return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID)) })
	return newPage(slots, limit, func(s Slot) Cursor { return key.encode(s.Start.UnixMicro(), int64(s.ID)) }), err
}

// MutualAvailability implements [AvailabilityStore].
func (p *Postgres) MutualAvailability(ctx context.Context, actor, other UserID, q MutualQuery) ([]Window, error) {
	const op = "MutualAvailability"
	span, err := horizon(q.From, q.To, p.now(), defaultHorizon)
	errs := []error{checkID("actor", actor), checkID("other", other), err}
	if actor == other {
		errs = append(errs, invalid("other", "must be another person"))
	}
	if q.AtLeast < 0 {
		errs = append(errs, invalid("at_least", "must not be negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, opError(op, err)
	}
	known, err := queryAll(ctx, p, op, p.sql.mutualTime, scanEntry, int64(actor), int64(other), timestamp(span.Start), timestamp(span.End))
	switch {
	case err != nil:
		return nil, err
	case countOf(known, isThere) < 2:
		return nil, opError(op, ErrNotFound)
	}
	both := intersect(mergeWindows(windowsOf(known, isFree, actor)), mergeWindows(windowsOf(known, isFree, other)))
	busy := append(windowsOf(known, isBusy, actor), windowsOf(known, isBusy, other)...)
	return dropShort(subtract(clip(both, span), mergeWindows(busy)), q.AtLeast), nil
}
