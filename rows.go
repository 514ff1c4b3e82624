package soultribe

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// rowReader reads the columns of a row, one after the other; NULL reads as the zero value. After the first
// mistake all columns read as that, and err says which it was.
//
// It decodes them itself, by which a list takes no more memory than its items: pgx needs a pointer to each
// column, and so each value on the heap. Nor would pgx do for timestamps: the pool may have a codec that takes them
// for local time, which cannot be undone where that time does not exist.
type rowReader struct {
	row    pgx.CollectableRow
	values [][]byte
	column int // the next
	number int // of the row, from 1
	err    error
}

// collect has scan read every row.
func collect[T any](scan func(r *rowReader) T) pgx.RowToFunc[T] {
	var r rowReader // one for all, as scan has it on the heap
	return func(row pgx.CollectableRow) (T, error) {
		r = rowReader{row: row, values: row.RawValues(), number: r.number + 1}
		item := scan(&r)
		return item, r.err
	}
}

// one has scan read the row of a statement, and closes it. It is pgx.CollectOneRow without the function that collect makes.
func one[T any](rows pgx.Rows, scan func(r *rowReader) T) (item T, err error) {
	defer rows.Close()
	if !rows.Next() {
		return item, cmp.Or(rows.Err(), pgx.ErrNoRows)
	}
	r := rowReader{row: rows, values: rows.RawValues(), number: 1}
	item = scan(&r)
	rows.Close()
	return item, cmp.Or(r.err, rows.Err())
}

// null tells whether the next column is NULL.
func (r *rowReader) null() bool { return r.values[r.column] == nil }

// next returns the next column, and whether it is in PostgreSQL's binary format. It returns nil for NULL.
func (r *rowReader) next() (raw []byte, isBinary bool) {
	i := r.column
	r.column++
	if r.err != nil || r.values[i] == nil {
		return nil, false
	}
	return r.values[i], r.row.FieldDescriptions()[i].Format == pgx.BinaryFormatCode
}

// fail says that the column read last is not what it should be. It does not say what it is, which may be a secret.
func (r *rowReader) fail(want string) {
	r.err = fmt.Errorf("column %q is no %s", r.row.FieldDescriptions()[r.column-1].Name, want)
}

func (r *rowReader) text() string {
	raw, _ := r.next()
	return string(raw)
}

func (r *rowReader) boolean() bool {
	raw, isBinary := r.next()
	switch {
	case raw == nil:
		return false
	case isBinary && len(raw) == 1:
		return raw[0] != 0
	case !isBinary && (string(raw) == "t" || string(raw) == "f"):
		return raw[0] == 't'
	}
	r.fail("boolean")
	return false
}

// integer reads a bigint, and an integer as such.
func (r *rowReader) integer() int64 {
	raw, isBinary := r.next()
	switch {
	case raw == nil:
		return 0
	case isBinary && len(raw) == 8:
		return int64(binary.BigEndian.Uint64(raw)) //nolint:gosec // two's complement, as PostgreSQL sends it
	case isBinary && len(raw) == 4:
		return int64(int32(binary.BigEndian.Uint32(raw))) //nolint:gosec // likewise
	case !isBinary:
		if v, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
			return v
		}
	}
	r.fail("integer")
	return 0
}

// The times that can be stored: those that JSON can show. A time beyond them, such as an infinity that
// another client stored, reads as the nearer of the two.
var (
	firstTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
)

// year2000 is PostgreSQL's epoch in microseconds since 1970.
const year2000 = 946_684_800_000_000

// time reads a timestamp without time zone as UTC.
func (r *rowReader) time() time.Time {
	if r.null() {
		r.column++
		return time.Time{}
	}
	return toTime(r.micros())
}

func toTime(micros int64) time.Time {
	return time.UnixMicro(min(max(micros, firstTime.UnixMicro()-year2000), lastTime.UnixMicro()-year2000) + year2000).UTC()
}

// optionalTime is time with nil for NULL.
func (r *rowReader) optionalTime() *time.Time {
	if r.null() {
		r.column++
		return nil
	}
	t := r.time()
	return &t
}

// micros reads a timestamp as PostgreSQL stores it, in microseconds since 2000, of which the first and the
// last are the infinities.
func (r *rowReader) micros() int64 {
	raw, isBinary := r.next()
	if raw == nil {
		return 0
	}
	micros, ok := parseMicros(raw, isBinary)
	if !ok {
		r.fail("timestamp")
	}
	return micros
}

var timestampCodec pgtype.TimestampCodec

func parseMicros(raw []byte, isBinary bool) (micros int64, ok bool) {
	if isBinary {
		if len(raw) != 8 {
			return 0, false
		}
		return int64(binary.BigEndian.Uint64(raw)), true //nolint:gosec // two's complement, as PostgreSQL sends it
	}
	var ts pgtype.Timestamp
	if err := timestampCodec.PlanScan(nil, pgtype.TimestampOID, pgx.TextFormatCode, &ts).Scan(raw, &ts); err != nil {
		return 0, false
	}
	switch ts.InfinityModifier {
	case pgtype.Infinity:
		return math.MaxInt64, true
	case pgtype.NegativeInfinity:
		return math.MinInt64, true
	}
	return ts.Time.UnixMicro() - year2000, true
}

// microsAt is micros of a column that is read at another place, too.
func (r *rowReader) microsAt(column int) int64 {
	next := r.column
	r.column = column
	micros := r.micros()
	r.column = next
	return micros
}

// times reads an array of timestamps, none of which is NULL.
func (r *rowReader) times() []time.Time {
	// In the binary format there are the number of dimensions, a flag, the type, and of the one dimension its length and
	// first index, each of four bytes. Then comes each element behind its length. An empty array has no dimension.
	const empty, head, length, element = 12, 20, 4, 12
	raw, isBinary := r.next()
	var texts []string
	count := max(0, len(raw)-head) / element
	switch {
	case isBinary && len(raw) != empty && len(raw) != head+count*element:
		r.fail("array of timestamps")
		return nil
	case !isBinary && len(raw) > len("{}"):
		texts = strings.Split(string(raw[1:len(raw)-1]), ",")
		count = len(texts)
	case !isBinary:
		count = 0
	}
	times := make([]time.Time, count)
	for i := range times {
		var micros int64
		var ok bool
		if isBinary {
			at := head + i*element
			micros, ok = parseMicros(raw[at+length:at+element], true)
			ok = ok && binary.BigEndian.Uint32(raw[at:]) == element-length
		} else {
			micros, ok = parseMicros([]byte(strings.Trim(texts[i], `"`)), false)
		}
		if !ok {
			r.fail("array of timestamps")
			return nil
		}
		times[i] = toTime(micros)
	}
	return times
}
