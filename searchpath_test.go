package soultribe_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/soultribe-chat/soultribe/soultribetest"
)

// layTraps makes a schema named trap with all that a plain name could find in it: each operator of
// pg_catalog, those for varchar that pg_catalog does not have, each function under its own name and arguments,
// and the types, the collation and the tables. Whatever is called there fails.
func layTraps(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, `
CREATE SCHEMA trap;
GRANT USAGE ON SCHEMA trap TO public;

CREATE FUNCTION trap.spring() RETURNS void LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the search path led into the trap' USING ERRCODE = 'ZZ001'; END $$;

DO $do$
DECLARE
	o record;
	made text;
BEGIN
	FOR o IN
		SELECT oprname AS name, format_type(oprleft, NULL) AS l, format_type(oprright, NULL) AS r, format_type(oprresult, NULL) AS result
		FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b' AND oprcode <> 0
			AND NOT 'internal'::regtype = ANY (ARRAY[oprleft, oprright, oprresult])
		UNION
		SELECT name, l, r, CASE name WHEN '||' THEN 'text' ELSE 'boolean' END
		FROM unnest(ARRAY['=', '<>', '<', '>', '<=', '>=', '~~', '!~~', '||']) AS name,
			unnest(ARRAY['character varying', 'text']) AS l, unnest(ARRAY['character varying', 'text']) AS r
		WHERE 'character varying' IN (l, r)
		UNION
		SELECT name, 'integer', 'bigint', 'boolean' FROM unnest(ARRAY['=', '<>', '<', '>']) AS name
	LOOP
		made := 'trap_' || md5(o.name || o.l || o.r);
		BEGIN
			EXECUTE format('CREATE FUNCTION trap.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.spring(); END $$',
				made, o.l, o.r, o.result);
			EXECUTE format('CREATE OPERATOR trap.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = trap.%I)', o.name, o.l, o.r, made);
		EXCEPTION WHEN feature_not_supported OR invalid_function_definition OR datatype_mismatch OR duplicate_function THEN
			NULL; -- of pseudo-types that plpgsql does not take
		END;
	END LOOP;
	FOR o IN
		SELECT DISTINCT proname AS name, pg_get_function_identity_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
		FROM pg_proc p WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a', 'w') AND pg_get_function_result(p.oid) IS NOT NULL
			AND proname ~ '^[a-z_0-9]+$' AND oidvectortypes(proargtypes) !~ 'internal' AND pg_get_function_result(p.oid) !~ 'internal|trigger|handler'
	LOOP
		BEGIN
			EXECUTE format('CREATE FUNCTION trap.%I(%s) RETURNS %s LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.spring(); END $$', o.name,
				regexp_replace(o.arguments, ' ORDER BY.*', ''), o.result);
		EXCEPTION WHEN OTHERS THEN
			NULL; -- of pseudo-types that plpgsql does not take
		END;
	END LOOP;
END $do$;
CREATE FUNCTION trap.lower(varchar) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.spring(); END $$;

CREATE DOMAIN trap.text AS pg_catalog.text CHECK (false);
CREATE COLLATION trap."C" FROM pg_catalog."POSIX";
`)
	if err != nil {
		return err
	}
	_, err = pool.Exec(ctx, `
DO $do$
DECLARE t name;
BEGIN
	FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
		EXECUTE format('CREATE TABLE trap.%I (id integer)', t);
	END LOOP;
END $do$`)
	return err
}

// trapped is a session in which plain names lead into the trap.
func trapped(c *pgxpool.Config) {
	c.ConnConfig.RuntimeParams["search_path"] = "trap, pg_catalog, public"
}

// TestTraps makes sure that plain names lead into the trap, in the session that a lane of TestConformance has.
func TestTraps(t *testing.T) {
	t.Parallel()
	db := soultribetest.New(t, soultribetest.WithSetup("traps", layTraps))
	db.Matched(t, db.User(t).ID, db.User(t).ID)
	pool := newPool(t, db.URL, trapped)
	for _, sql := range []string{
		`SELECT FROM public."user" WHERE id = 1::bigint`,
		`SELECT FROM public."user" WHERE email = 'a'`,
		`SELECT FROM public."user" WHERE email LIKE 'a'`,
		`SELECT FROM public."user" WHERE created_at > timestamp '2026-01-01'`,
		`SELECT lower(email) FROM public."user"`,
		`SELECT max(version_id) FROM public.soultribe_schema_version`,
		`SELECT FROM public.match WHERE status IN ('accepted', 'pending')`,
		`SELECT nullif(status, 'pending') FROM public.match`,
		`SELECT CASE status WHEN 'pending' THEN 1 END FROM public.match`,
		`SELECT status || 'a' FROM public.match`,
		`SELECT unnest(ARRAY[1, 2])`,
		`SELECT timestamp '2026-01-01' + interval '1 hour'`,
		`SELECT date_trunc('second', timestamp '2026-01-01')`,
		`SELECT set_config('soultribe.idle', '', true)`,
	} {
		_, err := pool.Exec(t.Context(), sql)
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg, sql)
		require.Equal(t, "ZZ001", pg.Code, "%s: %v", sql, err)
	}
	_, err := pool.Exec(t.Context(), `SELECT count(*) FROM public.match`)
	require.ErrorContains(t, err, "is not an aggregate function")
	_, err = pool.Exec(t.Context(), `SELECT 'a'::text`)
	require.ErrorContains(t, err, "violates check constraint")
	_, err = pool.Exec(t.Context(), `SELECT email FROM "user"`)
	require.ErrorContains(t, err, "does not exist")
}
