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
		times    []time.Time
	}
	read := collect(func(r *rowReader) everything {
		return everything{r.text(), r.boolean(), r.integer(), r.integer(), r.time(), r.optionalTime(), r.micros(), r.times()}
	})
	const columns = 8
	noon := time.Date(2026, 3, 29, 12, 0, 0, 1000, time.UTC)
	// An array of one dimension, of two timestamps, the second of which is infinity. One byte is a quote.
	twoTimes := []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0x5a, 0, 0, 0, 2, 0, 0, 0, 1,
		0, 0, 0, 8, 0, 2, 0xf1, 0x91, 0xba, 0x07, 0xb0, '"', 0, 0, 0, 8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	soon := time.UnixMicro(0x2f191ba07b022 + year2000).UTC()
	tests := []struct {
		name string
		row  storedRow
		want everything
	}{
		{"NULL", storedRow{values: make([][]byte, columns), format: pgx.BinaryFormatCode}, everything{times: []time.Time{}}},
		{"binary", storedRow{[][]byte{
			[]byte("héllo"), {1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}, {0xff, 0xff, 0xff, 0xfd},
			{0, 2, 0xf1, 0x91, 0xba, 0x07, 0xb0, 0x01}, {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0, 0, 0, 0, 0}, twoTimes,
		}, pgx.BinaryFormatCode}, everything{"héllo", true, -2, -3, time.UnixMicro(0x2f191ba07b001 + year2000).UTC(), &lastTime, -1 << 63, []time.Time{soon, lastTime}}},
		{"text", storedRow{[][]byte{
			[]byte("héllo"), []byte("t"), []byte("-9223372036854775808"), []byte("7"),
			[]byte("2026-03-29 12:00:00.000001"), []byte("-infinity"), []byte("infinity"),
			[]byte(`{"2026-03-29 12:00:00.000001",infinity}`),
		}, pgx.TextFormatCode}, everything{"héllo", true, -1 << 63, 7, noon, &firstTime, 1<<63 - 1, []time.Time{noon, lastTime}}},
		{"empty arrays, binary", storedRow{append(make([][]byte, columns-1), make([]byte, 12)), pgx.BinaryFormatCode}, everything{times: []time.Time{}}},
		{"empty arrays, text", storedRow{append(make([][]byte, columns-1), []byte("{}")), pgx.TextFormatCode}, everything{times: []time.Time{}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := collect(func(r *rowReader) everything {
				return everything{r.text(), r.boolean(), r.integer(), r.integer(), r.time(), r.optionalTime(), r.micros(), r.times()}
			})(test.row)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}

	// What it is not is an error, which names the column and not what is in it.
	for _, row := range []storedRow{
		{[][]byte{nil, []byte("secret"), nil, nil, nil, nil, nil, nil}, pgx.BinaryFormatCode},
		{[][]byte{nil, []byte("secret"), nil, nil, nil, nil, nil, nil}, pgx.TextFormatCode},
		{[][]byte{nil, nil, []byte("secret"), nil, nil, nil, nil, nil}, pgx.BinaryFormatCode},
		{[][]byte{nil, nil, []byte("secret"), nil, nil, nil, nil, nil}, pgx.TextFormatCode},
		{[][]byte{nil, nil, nil, nil, []byte("secret"), nil, nil, nil}, pgx.BinaryFormatCode},
		{[][]byte{nil, nil, nil, nil, nil, []byte("secret"), nil, nil}, pgx.TextFormatCode},
		{[][]byte{nil, nil, nil, nil, nil, nil, nil, []byte("secret")}, pgx.TextFormatCode},
		{[][]byte{nil, nil, nil, nil, nil, nil, nil, []byte("secret, secret, secret, secret")}, pgx.BinaryFormatCode},
	} {
		_, err := read(row)
		require.ErrorContains(t, err, "column")
		require.NotContains(t, err.Error(), "secret")
	}
	// One mistake does not show in the next row.
	_, err := read(storedRow{values: make([][]byte, columns)})
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
