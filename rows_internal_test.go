package soultribe

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// storedRow is a row as it comes from the server. Columns are in the binary format.
type storedRow struct {
	values [][]byte
	format int16
}

func (r storedRow) FieldDescriptions() []pgconn.FieldDescription {
	fields := make([]pgconn.FieldDescription, len(r.values))
	for i := range fields {
		fields[i] = pgconn.FieldDescription{Name: "column" + string(rune('a'+i)), Format: r.format}
	}
	return fields
}
func (r storedRow) RawValues() [][]byte    { return r.values }
func (r storedRow) Values() ([]any, error) { return nil, errors.New("not needed") }
func (r storedRow) Scan(...any) error      { return errors.New("not needed") }

// TestRowReader reads what the server may send, in both formats.
func TestRowReader(t *testing.T) {
	t.Parallel()
	type everything struct {
		text     string
		boolean  bool
		integer  int64
		small    int64
		time     time.Time
		optional *time.Time
		micros   int64
	}
	read := collect(func(r *rowReader) everything {
		return everything{r.text(), r.boolean(), r.integer(), r.integer(), r.time(), r.optionalTime(), r.micros()}
	})
	noon := time.Date(2026, 3, 29, 12, 0, 0, 1000, time.UTC)
	tests := []struct {
		name string
		row  storedRow
		want everything
	}{
		{"NULL", storedRow{values: make([][]byte, 7), format: pgx.BinaryFormatCode}, everything{}},
		{"binary", storedRow{[][]byte{
			[]byte("héllo"), {1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}, {0xff, 0xff, 0xff, 0xfd},
			{0, 2, 0xf1, 0x91, 0xba, 0x07, 0xb0, 0x01}, {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0, 0, 0, 0, 0},
		}, pgx.BinaryFormatCode}, everything{"héllo", true, -2, -3, time.UnixMicro(0x2f191ba07b001 + year2000).UTC(), &lastTime, -1 << 63}},
		{"text", storedRow{[][]byte{
			[]byte("héllo"), []byte("t"), []byte("-9223372036854775808"), []byte("7"),
			[]byte("2026-03-29 12:00:00.000001"), []byte("-infinity"), []byte("infinity"),
		}, pgx.TextFormatCode}, everything{"héllo", true, -1 << 63, 7, noon, &firstTime, 1<<63 - 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := collect(func(r *rowReader) everything {
				return everything{r.text(), r.boolean(), r.integer(), r.integer(), r.time(), r.optionalTime(), r.micros()}
			})(test.row)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}

	// What it is not is an error, which names the column and not what is in it.
	for _, row := range []storedRow{
		{[][]byte{nil, []byte("secret"), nil, nil, nil, nil, nil}, pgx.BinaryFormatCode},
		{[][]byte{nil, []byte("secret"), nil, nil, nil, nil, nil}, pgx.TextFormatCode},
		{[][]byte{nil, nil, []byte("secret"), nil, nil, nil, nil}, pgx.BinaryFormatCode},
		{[][]byte{nil, nil, []byte("secret"), nil, nil, nil, nil}, pgx.TextFormatCode},
		{[][]byte{nil, nil, nil, nil, []byte("secret"), nil, nil}, pgx.BinaryFormatCode},
		{[][]byte{nil, nil, nil, nil, nil, []byte("secret"), nil}, pgx.TextFormatCode},
	} {
		_, err := read(row)
		require.ErrorContains(t, err, "column")
		require.NotContains(t, err.Error(), "secret")
	}
	// One mistake does not show in the next row.
	_, err := read(storedRow{values: make([][]byte, 7)})
	require.NoError(t, err)
}

// TestPlaceOfACallMadeAgain has a call end amid its rows, and be made again.
func TestPlaceOfACallMadeAgain(t *testing.T) {
	t.Parallel()
	var last place
	scan := untilLast(2, &last, func(r *rowReader) (int64, place) {
		id := r.integer()
		return id, place{id: id}
	})
	for _, ids := range [][]string{{"1"}, {"1", "2", "3"}} {
		read := collect(scan)
		for _, id := range ids {
			_, err := read(storedRow{[][]byte{[]byte(id)}, pgx.TextFormatCode})
			require.NoError(t, err)
		}
	}
	require.Equal(t, int64(2), last.id)
}
