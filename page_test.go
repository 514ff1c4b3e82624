package soultribe_test

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/soultribetest"
)

func TestAll(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	pages := map[soultribe.Cursor]soultribe.Page[int]{
		"":  {Items: []int{1, 2}, Next: "a"},
		"a": {Items: []int{}, Next: "b"}, // an empty page is not the end
		"b": {Items: []int{3}},
	}
	var asked []soultribe.Cursor
	list := soultribe.All(func(after soultribe.Cursor) (soultribe.Page[int], error) {
		asked = append(asked, after)
		if len(asked) > 10 {
			return soultribe.Page[int]{Items: []int{7}, Next: "c"}, broken
		}
		return pages[after], nil
	})
	walk := func(stop int) (items []int, failed error) {
		for item, err := range list {
			if err != nil {
				require.Zero(t, item)
				failed = err
				continue // the list does not
			}
			items = append(items, item)
			if item == stop {
				break
			}
		}
		return items, failed
	}

	items, err := walk(0)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 3}, items)
	require.Equal(t, []soultribe.Cursor{"", "a", "b"}, asked)

	// It begins anew, and asks for no page before it is needed.
	items, err = walk(2)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, items)
	require.Equal(t, []soultribe.Cursor{"", "a", "b", ""}, asked)

	asked = make([]soultribe.Cursor, 9)
	items, err = walk(0)
	require.ErrorIs(t, err, broken)
	require.Equal(t, []int{1, 2}, items, "what comes with an error does not count")
	require.Len(t, asked, 11)
}

// pagedList is a list in pages of one, which come as the number of items and the next cursor.
type pagedList func(after soultribe.Cursor) (int, soultribe.Cursor, error)

func counted[T any](p soultribe.Page[T], err error) (int, soultribe.Cursor, error) {
	return len(p.Items), p.Next, err
}

// allLists are the lists of the library, of someone who has at least two items in each.
func allLists(t *testing.T, db *soultribetest.DB, st soultribe.Store) map[string]pagedList {
	t.Helper()
	ctx := t.Context()
	me := db.User(t).ID
	_, err := st.AddSlots(ctx, me, []soultribe.NewSlot{spanFrom(spring, 0, 8, "UTC"), spanFrom(spring, 8, 8, "UTC"), spanFrom(spring, 40, 8, "UTC")})
	require.NoError(t, err)
	for i := range 3 {
		candidate, partner, asker := db.User(t).ID, db.User(t).ID, db.User(t).ID
		_, err := st.AddSlot(ctx, candidate, spanFrom(spring, i, 24, "UTC"))
		require.NoError(t, err)
		_, err = st.RequestMatch(ctx, asker, candidate)
		require.NoError(t, err)
		m := db.Matched(t, me, partner)
		_, err = st.ProposeMeetup(ctx, me, soultribe.NewMeetup{MatchID: m.ID, Times: soultribe.Times{Start: spring.Add(time.Duration(i) * time.Hour)}})
		require.NoError(t, err)
	}
	return map[string]pagedList{
		"Slots": func(after soultribe.Cursor) (int, soultribe.Cursor, error) {
			return counted(st.Slots(ctx, me, soultribe.SlotQuery{Limit: 1, After: after}))
		},
		"Candidates, soonest first": func(after soultribe.Cursor) (int, soultribe.Cursor, error) {
			return counted(st.Candidates(ctx, me, soultribe.CandidateQuery{From: spring, Limit: 1, After: after}))
		},
		"Candidates, most time first": func(after soultribe.Cursor) (int, soultribe.Cursor, error) {
			return counted(st.Candidates(ctx, me, soultribe.CandidateQuery{From: spring, Order: soultribe.MostTimeFirst, Limit: 1, After: after}))
		},
		"Matches": func(after soultribe.Cursor) (int, soultribe.Cursor, error) {
			return counted(st.Matches(ctx, me, soultribe.MatchQuery{Limit: 1, After: after}))
		},
		"ScanMatches": func(after soultribe.Cursor) (int, soultribe.Cursor, error) {
			return counted(st.ScanMatches(ctx, soultribe.MatchQuery{Limit: 1, After: after}))
		},
		"PendingMatches": func(after soultribe.Cursor) (int, soultribe.Cursor, error) {
			return counted(st.PendingMatches(ctx, soultribe.PageQuery{Limit: 1, After: after}))
		},
		"Meetups": func(after soultribe.Cursor) (int, soultribe.Cursor, error) {
			return counted(st.Meetups(ctx, me, soultribe.MeetupQuery{Limit: 1, After: after}))
		},
		"Meetups, latest first": func(after soultribe.Cursor) (int, soultribe.Cursor, error) {
			return counted(st.Meetups(ctx, me, soultribe.MeetupQuery{Latest: true, Limit: 1, After: after}))
		},
		"ScanMeetups": func(after soultribe.Cursor) (int, soultribe.Cursor, error) {
			return counted(st.ScanMeetups(ctx, soultribe.MeetupQuery{Limit: 1, After: after}))
		},
		"Users": func(after soultribe.Cursor) (int, soultribe.Cursor, error) {
			return counted(st.Users(ctx, soultribe.UserQuery{Limit: 1, After: after}))
		},
	}
}

// TestForgedCursors puts every position that a cursor can have, but none has, into the cursors of every
// list. A cursor is not secret, and so anyone can: the answer is an ErrInvalid or a list that ends.
func TestForgedCursors(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			db := soultribetest.New(t)
			st := newStore(t, db, newPool(t, db.URL, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode }))
			lists := allLists(t, db, st)
			for name, page := range lists {
				_, next, err := page("")
				require.NoError(t, err, name)
				require.NotEmpty(t, next, name)
				for _, forged := range forgeries(t, next) {
					walkForged(t, name, page, forged)
				}
				for other, cursor := range lists {
					if _, after, err := cursor(""); other != name {
						require.NoError(t, err)
						_, _, err = page(after)
						require.ErrorIs(t, err, soultribe.ErrInvalid, "%s takes a cursor of %s", name, other)
					}
				}
			}
		})
	}
}

// forgeries are a cursor with other numbers in it: behind what names the list, it is numbers of 8 bytes.
func forgeries(t *testing.T, c soultribe.Cursor) []soultribe.Cursor {
	t.Helper()
	const head = 9
	genuine, err := base64.RawURLEncoding.DecodeString(string(c))
	require.NoError(t, err)
	require.Zero(t, (len(genuine)-head)%8)
	var all []soultribe.Cursor
	numbers := []int64{math.MinInt64, math.MinInt64 + 1, -1 << 60, -1 << 57, -1, 0, 1, 1 << 60, 9.223e18, math.MaxInt64 - 1, math.MaxInt64}
	for _, n := range numbers {
		every := append([]byte{}, genuine...)
		for at := head; at < len(genuine); at += 8 {
			one := append([]byte{}, genuine...)
			binary.BigEndian.PutUint64(one[at:], uint64(n))
			binary.BigEndian.PutUint64(every[at:], uint64(n))
			all = append(all, soultribe.Cursor(base64.RawURLEncoding.EncodeToString(one)))
		}
		all = append(all, soultribe.Cursor(base64.RawURLEncoding.EncodeToString(every)))
	}
	return all
}

func walkForged(t *testing.T, name string, page pagedList, forged soultribe.Cursor) {
	t.Helper()
	for pages, after := 0, forged; ; pages++ {
		items, next, err := page(after)
		if err != nil {
			require.NotErrorAs(t, err, new(*pgconn.PgError), "%s: the database is asked about %s: %v", name, forged, err)
			require.ErrorIs(t, err, soultribe.ErrInvalid, "%s after %s", name, forged)
			return
		}
		require.LessOrEqual(t, items, 1)
		require.Less(t, pages, 20, "%s has no end after %s", name, forged)
		if next == "" {
			return
		}
		after = next
	}
}
