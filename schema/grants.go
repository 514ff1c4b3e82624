package schema

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// grants makes the statements that give those who can use the application's tables what they need of the
// library's own, and never more than they have: to see bookings where they see meetups, and to see the version
// where they see users. Nobody writes or deletes bookings but the trigger and the key to meetup, with the rights
// of their owner: without a booking somebody could be in two places.
//
// An owner has its privileges whether or not they are written down. soultribe_refuse is everybody's,
// unless the host's default privileges say otherwise.
const grants = `
WITH holder AS (
	SELECT n.oid AS namespace, pg_catalog.quote_ident(n.nspname) AS nspname, c.relname, held.privilege_type, held.grantee,
		CASE held.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(held.grantee)) END AS name
	FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))) AS held
	WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')
)
SELECT pg_catalog.format('GRANT %s ON TABLE %s.%I TO %s', h.privilege_type, h.nspname, own.relname, h.name)
FROM holder h
JOIN (VALUES ('meetup', 'SELECT', 'soultribe_booking'), ('user', 'SELECT', 'soultribe_schema_version')) AS need (relname, privilege_type, own)
	ON need.relname = h.relname AND need.privilege_type = h.privilege_type
JOIN pg_catalog.pg_class own ON own.relnamespace = h.namespace AND own.relname = need.own AND own.relowner <> h.grantee
UNION
SELECT pg_catalog.format('GRANT EXECUTE ON FUNCTION %s.soultribe_refuse(text, text, text) TO %s', h.nspname, h.name)
FROM holder h
JOIN pg_catalog.pg_proc p ON p.pronamespace = h.namespace AND p.proname = 'soultribe_refuse'
	AND pg_catalog.oidvectortypes(p.proargtypes) = 'text, text, text' AND p.proacl IS NOT NULL AND p.proowner <> h.grantee
WHERE h.relname = 'user' AND h.privilege_type = 'SELECT'
ORDER BY 1`

func (c config) grant(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, grants, pgx.QueryExecModeExec, c.schema)
	if err != nil {
		return err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(statements) == 0 {
		return err
	}
	_, err = tx.Exec(ctx, strings.Join(statements, ";\n"))
	return err
}
