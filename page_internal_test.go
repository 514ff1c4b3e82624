package soultribe

import (
	"encoding/base64"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestListKeys has filters that look alike when they are written one after the other.
func TestListKeys(t *testing.T) {
	t.Parallel()
	lists := [][]any{
		{},
		{""},
		{"", ""},
		{" "},
		{1},
		{"1"},
		{1, 2},
		{12},
		{"1 2"},
		{"1", "2"},
		{[]string{}},
		{[]string{""}},
		{[]string{"a b"}},
		{[]string{"a", "b"}},
		{[]string{"a"}, "b"},
		{`a", "b`},
		{UserID(1), true},
		{UserID(1), false},
		{UserID(-1), false},
	}
	seen := map[listKey][]any{}
	for _, method := range []string{"Slots", "Matches", ""} {
		for _, filters := range lists {
			key := newListKey(method, filters...)
			require.NotContains(t, seen, key, "%s %#v reads like %#v", method, filters, seen[key])
			seen[key] = filters
			require.Equal(t, key, newListKey(method, filters...))
		}
	}
}

func TestCursorPositions(t *testing.T) {
	t.Parallel()
	key, other := newListKey("Slots", UserID(1)), newListKey("Slots", UserID(2))
	c := key.encode(-1, 1<<62)
	var a, b, d int64
	later, err := key.decode(c, &a, &b)
	require.NoError(t, err)
	require.True(t, later)
	require.Equal(t, []int64{-1, 1 << 62}, []int64{a, b})
	later, err = key.decode("", &a, &b)
	require.NoError(t, err)
	require.False(t, later)
	require.Equal(t, []int64{-1, 1 << 62}, []int64{a, b}, "the first page has the position that it is given")

	refused := map[string]func() (bool, error){
		"another list":    func() (bool, error) { return other.decode(c, &a, &b) },
		"a shorter place": func() (bool, error) { return key.decode(c, &a) },
		"a longer place":  func() (bool, error) { return key.decode(c, &a, &b, &d) },
		"another version": func() (bool, error) { return key.decode("Ag"+c[2:], &a, &b) },
		"standard base64": func() (bool, error) { return key.decode(Cursor(base64.StdEncoding.EncodeToString([]byte(c))), &a, &b) },
		"a line end":      func() (bool, error) { return key.decode(c+"\n", &a, &b) },
		"padding":         func() (bool, error) { return key.decode(c+"=", &a, &b) },
		"a lost byte":     func() (bool, error) { return key.decode(c[:len(c)-1], &a, &b) },
	}
	for name, decode := range refused {
		later, err := decode()
		require.ErrorIs(t, err, ErrInvalid, name)
		require.False(t, later, name)
	}
	require.Equal(t, []int64{-1, 1 << 62, 0}, []int64{a, b, d}, "a refused cursor leaves no trace")
}

// FuzzCursor feeds decode with what callers send: it takes what encode made, byte for byte, and nothing else.
func FuzzCursor(f *testing.F) {
	key := newListKey("Slots", UserID(1))
	for _, c := range []Cursor{
		"", "x", "=", "\n", "AQ", key.encode(), key.encode(1), key.encode(1, -1), key.encode(1, 2, 3, 4, 5, 6), key.encode(1, 2) + "\n",
		newListKey("Slots", UserID(2)).encode(1, 2),
	} {
		f.Add(string(c))
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := Cursor(text)
		for _, n := range []int{0, 1, 2, 6} {
			numbers := make([]int64, n)
			position := make([]*int64, n)
			for i := range numbers {
				position[i] = &numbers[i]
			}
			later, err := key.decode(c, position...)
			switch {
			case err != nil:
				var v *ValidationError
				if !errors.As(err, &v) || v.Field != "after" || !errors.Is(err, ErrInvalid) || later {
					t.Fatalf("%q: %v, %v", text, later, err)
				}
			case !later && c != "":
				t.Fatalf("%q is taken for the first page", text)
			case later && key.encode(numbers...) != c:
				t.Fatalf("%q reads as %v, which is written %q", text, numbers, key.encode(numbers...))
			}
			for _, number := range numbers {
				if at, err := cursorTime(number); err == nil && at.UnixMicro() != number {
					t.Fatalf("%d reads as %v", number, at)
				}
				if _, err := listedTime(number); err != nil && !errors.Is(err, ErrInvalid) {
					t.Fatalf("%d: %v", number, err)
				}
			}
		}
	})
}
