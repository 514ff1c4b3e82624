package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe"
	"github.com/soultribe-chat/soultribe/schema"
)

// TestPlan has Plan say, before each Migrate, what that does, and change nothing.
func TestPlan(t *testing.T) {
	t.Parallel()
	contract := []string{"user", "profile", "availabilityslot", "emailverificationtoken", "passwordresettoken", "match", "meetup"}
	for _, c := range []struct {
		name       string
		statements []string
		to         []int
		found      [][]string
	}{
		{"fresh", nil, []int{soultribe.SchemaVersion}, [][]string{nil}},
		{"by versions", nil, []int{1, 2, 2, soultribe.SchemaVersion},
			[][]string{nil, contract, nil, append(contract[:7:7], "soultribe_booking")}},
		{"taken over", []string{sqlalchemy, people}, []int{soultribe.SchemaVersion}, [][]string{contract}},
		{"dirt that no rule of the version is about", []string{sqlalchemy, people,
			`INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) VALUES (1, 1, '', '2024-01-01', '2024-01-01')`}, []int{1}, [][]string{contract}},
		{"partly there", []string{sqlalchemy, `DROP TABLE meetup`}, []int{1}, [][]string{contract[:6]}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t, c.statements...)
			for i, to := range c.to {
				before, err := schema.Status(t.Context(), pool)
				require.NoError(t, err)
				want := dump(t, pool)
				plan, err := schema.Plan(t.Context(), pool, schema.To(to))
				require.NoError(t, err)
				require.Equal(t, want, dump(t, pool))

				require.NoError(t, schema.Migrate(t.Context(), pool, schema.To(to)))
				after, err := schema.Status(t.Context(), pool)
				require.NoError(t, err)
				require.Equal(t, []int{before.Version, after.Version}, []int{plan.Have, plan.Want})
				require.Equal(t, c.found[i], plan.Found)
				require.Len(t, plan.Steps, len(after.Applied)-len(before.Applied))
				for i, a := range after.Applied[len(before.Applied):] {
					require.Equal(t, a.Version, plan.Steps[i].Version)
				}
			}
			plan, err := schema.Plan(t.Context(), pool, schema.To(c.to[len(c.to)-1]))
			require.NoError(t, err)
			require.Empty(t, plan.Steps)
		})
	}
}

// TestPlanSaysWhatItAdds reads the heads of the migrations.
func TestPlanSaysWhatItAdds(t *testing.T) {
	t.Parallel()
	plan, err := schema.Plan(t.Context(), newPool(t), schema.In("other"))
	require.NoError(t, err)
	require.Len(t, plan.Steps, soultribe.SchemaVersion)
	require.Equal(t, schema.Step{Version: 1, Text: "the seven tables"}, plan.Steps[0])
	for _, step := range plan.Steps {
		require.NotEmpty(t, step.Text)
		require.NotContains(t, step.Text, "--")
		require.False(t, strings.HasSuffix(step.Text, "."))
	}
}

// TestPlanStopsAsMigrate has a plan end with the error that the run would end with.
func TestPlanStopsAsMigrate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		statement string
		opts      []schema.Option
		is        error
		says      string
	}{
		{"dirt", `INSERT INTO match (user1_id, user2_id, status, created_at, updated_at) VALUES (1, 1, '', '2024-01-01', '2024-01-01'),
			(2, 2, '', '2024-01-01', '2024-01-01')`, nil, soultribe.ErrSchema, "match_not_self_check): 101, 102"},
		{"another shape", `ALTER TABLE match RENAME COLUMN user1_id TO a_user_id`, nil, soultribe.ErrSchema, "column match.user1_id is missing"},
		{"newer", `CREATE TABLE soultribe_schema_version (id int GENERATED ALWAYS AS IDENTITY, version_id bigint, is_applied bool, tstamp timestamp);
			INSERT INTO soultribe_schema_version (version_id, is_applied, tstamp) VALUES (99, true, '2024-01-01')`, nil, soultribe.ErrSchema, "upgrade the library"},
		{"no such version", ``, []schema.Option{schema.To(soultribe.SchemaVersion + 1)}, soultribe.ErrInvalid, "to must be between 1 and " + latest},
		{"version zero", ``, []schema.Option{schema.To(0)}, soultribe.ErrInvalid, "to must be between 1 and " + latest},
		{"no way back", `CREATE TABLE soultribe_schema_version (id int GENERATED ALWAYS AS IDENTITY, version_id bigint, is_applied bool, tstamp timestamp);
			INSERT INTO soultribe_schema_version (version_id, is_applied, tstamp) VALUES (2, true, '2024-01-01')`, []schema.Option{schema.To(1)}, soultribe.ErrInvalid,
			"to is below the database's version, 2, and no migration goes back"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t, sqlalchemy, people, c.statement)
			before := dump(t, pool)
			plan, err := schema.Plan(t.Context(), pool, c.opts...)
			require.Zero(t, plan)
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.says)
			run := schema.Migrate(t.Context(), pool, c.opts...)
			require.EqualError(t, run, err.Error())
			require.Equal(t, fmt.Sprintf("%T", run), fmt.Sprintf("%T", err))
			require.Equal(t, before, dump(t, pool))
		})
	}
	_, err := schema.Plan(t.Context(), nil)
	require.ErrorIs(t, err, soultribe.ErrInvalid)
}

// TestPlanWaitsForNobody has writers in the midst of their transactions.
func TestPlanWaitsForNobody(t *testing.T) {
	t.Parallel()
	pool := newPool(t, sqlalchemy, people)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	exec(t, tx, `UPDATE "user" SET email = email`, `LOCK TABLE meetup IN ROW EXCLUSIVE MODE`)
	plan, err := schema.Plan(t.Context(), pool)
	require.NoError(t, err)
	require.Len(t, plan.Steps, soultribe.SchemaVersion)
	require.NoError(t, tx.Rollback(t.Context()))
}

// TestEarlierVersionsAreReadWhateverTo has To make no difference where nothing migrates.
func TestEarlierVersionsAreReadWhateverTo(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	require.NoError(t, schema.Migrate(t.Context(), pool))
	require.NoError(t, schema.Check(t.Context(), pool, schema.To(1)))
	broken, err := schema.Audit(t.Context(), pool, schema.To(1))
	require.NoError(t, err)
	require.Empty(t, broken)
	state, err := schema.Status(t.Context(), pool, schema.To(1))
	require.NoError(t, err)
	require.Equal(t, soultribe.SchemaVersion, state.Latest)
}
