package soultribe

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

const (
	defaultLimit = 50
	maxLimit     = 200
)

// Cursor says where in a list the next page begins. It is opaque, and belongs to the list that gave it:
// with another actor or other filters it is [ErrInvalid]. The limit may differ from page to page. It
// holds no secret; it grants nothing.
type Cursor string

// Page is a part of a list.
type Page[T any] struct {
	Items []T    `json:"items"`          // never nil; may be empty although Next is not
	Next  Cursor `json:"next,omitempty"` // where the next page begins; only "" is the end
	// Covered is, for [MostTimeFirst], the share of all people that the search looked at; else it is 0.
	Covered float64 `json:"covered,omitempty"`
}

// PageQuery asks for one page of a list without filters.
type PageQuery struct {
	Limit int    // at most so many items: 1 to 200; 0 means 50
	After Cursor // [Page.Next] of the page before; "" for the first
}

// All walks a list from its first page to its last. It ends after the first error.
//
//	for slot, err := range soultribe.All(func(after soultribe.Cursor) (soultribe.Page[soultribe.Slot], error) {
//		return store.Slots(ctx, user, soultribe.SlotQuery{After: after})
//	}) { … }
func All[T any](page func(after Cursor) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for after := Cursor(""); ; {
			p, err := page(after)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, item := range p.Items {
				if !yield(item, nil) {
					return
				}
			}
			if p.Next == "" {
				return
			}
			after = p.Next
		}
	}
}

func pageLimit(limit int) (int, error) {
	switch {
	case limit == 0:
		return defaultLimit, nil
	case limit < 0 || limit > maxLimit:
		return 0, invalid("limit", fmt.Sprintf("must be between 1 and %d, or 0 for %d", maxLimit, defaultLimit))
	}
	return limit, nil
}

// newPage makes a page of rows that were asked for with one more than limit.
func newPage[T any](rows []T, limit int, cursor func(last T) Cursor) Page[T] {
	if len(rows) <= limit {
		return Page[T]{Items: rows}
	}
	rows = rows[:limit:limit]
	return Page[T]{Items: rows, Next: cursor(rows[limit-1])}
}

// place is where a row is in a list by time and id: the time as it is stored, which may be one that cannot be
// read, so that the list goes on from there, and ends.
type place struct{ at, id int64 }

// untilLast is scan without the places, but for that of the last row that is on a page of so many. It counts no
// rows itself, as a call that is made again reads them from the first on.
func untilLast[T any](limit int, last *place, scan func(r *rowReader) (T, place)) func(r *rowReader) T {
	return func(r *rowReader) T {
		item, at := scan(r)
		if r.number == limit {
			*last = at
		}
		return item
	}
}

// newListedPage is newPage for rows of which the last one on the page has a place.
func newListedPage[T any](rows []T, limit int, last place, key listKey) Page[T] {
	return newPage(rows, limit, func(T) Cursor { return key.encode(last.at, last.id) })
}

// listKey identifies a list: the method, the actor and the filters.
type listKey [8]byte

func newListKey(method string, filters ...any) listKey {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %#v", method, filters)) // in Go's syntax no two filters read alike
	return listKey(sum[:8])
}

var errBadCursor = invalid("after", "is not a cursor of this list")

// cursorVersion is the first byte of every cursor.
const cursorVersion = 1

// encode makes a cursor of a position in the list.
func (k listKey) encode(position ...int64) Cursor {
	b := append([]byte{cursorVersion}, k[:]...)
	for _, v := range position {
		b = binary.BigEndian.AppendUint64(b, uint64(v)) //nolint:gosec // decode reverses it
	}
	return Cursor(base64.RawURLEncoding.EncodeToString(b))
}

// decode stores the position that encode was given. It reports false for the first page.
func (k listKey) decode(c Cursor, position ...*int64) (bool, error) {
	if c == "" {
		return false, nil
	}
	size := 1 + len(k) + 8*len(position)
	// The length comes first: nothing else looks at megabytes. It also leaves no room for the line ends
	// that the decoder would pass over.
	if len(c) != base64.RawURLEncoding.EncodedLen(size) {
		return false, errBadCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(c))
	if err != nil || len(b) != size || b[0] != cursorVersion || listKey(b[1:1+len(k)]) != k {
		return false, errBadCursor
	}
	for i, v := range position {
		*v = int64(binary.BigEndian.Uint64(b[1+len(k)+8*i:])) //nolint:gosec // encode reverses it
	}
	return true, nil
}

// cursorTime is a time of a cursor's position, which anyone could have made up.
func cursorTime(micros int64) (time.Time, error) {
	t := time.UnixMicro(micros).UTC()
	if t.Before(firstTime) || t.After(lastTime) {
		return time.Time{}, errBadCursor
	}
	return t, nil
}

// listedTime is the time of a listed row's place, which anyone could have made up, as a parameter.
func listedTime(at int64) (pgtype.Timestamp, error) {
	switch {
	case at == math.MaxInt64:
		return pgtype.Timestamp{InfinityModifier: pgtype.Infinity, Valid: true}, nil
	case at == math.MinInt64:
		return pgtype.Timestamp{InfinityModifier: pgtype.NegativeInfinity, Valid: true}, nil
	case at < earliest || at >= latest:
		return pgtype.Timestamp{}, errBadCursor
	}
	// The sum of the two could be beyond what an int64 holds.
	return timestamp(time.UnixMicro(at).Add(year2000 * time.Microsecond)), nil
}

// PostgreSQL's finite timestamps are from earliest on and before latest, in microseconds since 2000.
var (
	earliest = time.Date(-4712, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - year2000
	latest   = time.Date(294277, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - year2000
)
