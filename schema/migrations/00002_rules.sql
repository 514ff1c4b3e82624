-- Version 2: the rules that the database itself keeps, and the columns and indexes that the library
-- needs for them. Everything here adds; nothing drops, renames or rewrites.
--
-- This is a template, as 00001_contract.sql is; {{meetup_id}} is the type of meetup.id. What is guarded
-- by IF NOT EXISTS, OR REPLACE or "-- unless" may be there already, from a dump that was restored
-- without the version table. Each ALTER TABLE has one subcommand, for the sake of Citus.

-- Columns that were made nullable where nothing ever belonged but a value. A column that is NOT NULL
-- already is not scanned.

ALTER TABLE {{schema}}."user" ALTER COLUMN email SET NOT NULL;
ALTER TABLE {{schema}}."user" ALTER COLUMN password_hash SET NOT NULL;
ALTER TABLE {{schema}}."user" ALTER COLUMN created_at SET NOT NULL;

ALTER TABLE {{schema}}.profile ALTER COLUMN user_id SET NOT NULL;
ALTER TABLE {{schema}}.profile ALTER COLUMN full_name SET NOT NULL;
ALTER TABLE {{schema}}.profile ALTER COLUMN display_name SET NOT NULL;
ALTER TABLE {{schema}}.profile ALTER COLUMN created_at SET NOT NULL;
ALTER TABLE {{schema}}.profile ALTER COLUMN updated_at SET NOT NULL;

ALTER TABLE {{schema}}.availabilityslot ALTER COLUMN user_id SET NOT NULL;
ALTER TABLE {{schema}}.availabilityslot ALTER COLUMN start_dt_utc SET NOT NULL;
ALTER TABLE {{schema}}.availabilityslot ALTER COLUMN end_dt_utc SET NOT NULL;
ALTER TABLE {{schema}}.availabilityslot ALTER COLUMN start_dt_local SET NOT NULL;
ALTER TABLE {{schema}}.availabilityslot ALTER COLUMN end_dt_local SET NOT NULL;
ALTER TABLE {{schema}}.availabilityslot ALTER COLUMN timezone SET NOT NULL;
ALTER TABLE {{schema}}.availabilityslot ALTER COLUMN created_at SET NOT NULL;
ALTER TABLE {{schema}}.availabilityslot ALTER COLUMN updated_at SET NOT NULL;

ALTER TABLE {{schema}}.emailverificationtoken ALTER COLUMN user_id SET NOT NULL;
ALTER TABLE {{schema}}.emailverificationtoken ALTER COLUMN token SET NOT NULL;
ALTER TABLE {{schema}}.emailverificationtoken ALTER COLUMN expires_at SET NOT NULL;
ALTER TABLE {{schema}}.emailverificationtoken ALTER COLUMN created_at SET NOT NULL;

ALTER TABLE {{schema}}.passwordresettoken ALTER COLUMN user_id SET NOT NULL;
ALTER TABLE {{schema}}.passwordresettoken ALTER COLUMN token SET NOT NULL;
ALTER TABLE {{schema}}.passwordresettoken ALTER COLUMN expires_at SET NOT NULL;
ALTER TABLE {{schema}}.passwordresettoken ALTER COLUMN created_at SET NOT NULL;

ALTER TABLE {{schema}}.match ALTER COLUMN user1_id SET NOT NULL;
ALTER TABLE {{schema}}.match ALTER COLUMN user2_id SET NOT NULL;
ALTER TABLE {{schema}}.match ALTER COLUMN status SET NOT NULL;
ALTER TABLE {{schema}}.match ALTER COLUMN created_at SET NOT NULL;
ALTER TABLE {{schema}}.match ALTER COLUMN updated_at SET NOT NULL;

ALTER TABLE {{schema}}.meetup ALTER COLUMN match_id SET NOT NULL;
ALTER TABLE {{schema}}.meetup ALTER COLUMN scheduled_time SET NOT NULL;
ALTER TABLE {{schema}}.meetup ALTER COLUMN status SET NOT NULL;
ALTER TABLE {{schema}}.meetup ALTER COLUMN created_at SET NOT NULL;
ALTER TABLE {{schema}}.meetup ALTER COLUMN updated_at SET NOT NULL;

-- Users: one account an address, whatever its ASCII case. COLLATE "C" folds ASCII alone, in every
-- database; lower() in the database's own collation would fold differently from one to the next.

ALTER TABLE {{schema}}."user" ADD COLUMN IF NOT EXISTS credentials_changed_at TIMESTAMP;
CREATE UNIQUE INDEX IF NOT EXISTS user_email_lower_key ON {{schema}}."user" (lower(email COLLATE "C"));

-- Profiles: one a user.

-- unless unique profile(user_id)
CREATE UNIQUE INDEX profile_user_id_key ON {{schema}}.profile (user_id);
-- end

-- Slots. int8range stands in for "user_id WITH =", which in a GiST index needs the extension btree_gist;
-- int4range would fail at 2147483647. greatest makes no difference to a row that the CHECK lets through;
-- but an index is also built of rows that have just been mended or deleted, while an older transaction
-- runs anywhere in the cluster, and tsrange fails for an end before its start.

-- unless constraint availabilityslot.availabilityslot_period_check
ALTER TABLE {{schema}}.availabilityslot ADD CONSTRAINT availabilityslot_period_check
    CHECK (end_dt_utc > start_dt_utc AND end_dt_utc <= start_dt_utc + interval '24 hours');
-- end
-- unless constraint availabilityslot.availabilityslot_no_overlap
ALTER TABLE {{schema}}.availabilityslot ADD CONSTRAINT availabilityslot_no_overlap
    EXCLUDE USING gist (int8range(user_id, user_id, '[]') WITH &&,
        tsrange(start_dt_utc, greatest(start_dt_utc, end_dt_utc)) WITH &&);
-- end
CREATE INDEX IF NOT EXISTS availabilityslot_user_start_idx
    ON {{schema}}.availabilityslot (user_id, start_dt_utc, id);
CREATE INDEX IF NOT EXISTS availabilityslot_start_end_user_idx
    ON {{schema}}.availabilityslot (start_dt_utc, end_dt_utc, user_id);

-- Tokens. Rows from before the library hold the secret itself; the library looks for the hash of what it
-- is given. This index finds such a row by that hash, so that one binds no secret to a query:
--
--   token NOT LIKE 'sha256:%' AND
--   ('sha256:' || encode(sha256(decode(replace(token, E'\\', E'\\\\'), 'escape')), 'hex')) = $1
--
-- decode(…, 'escape') takes each byte as it is, multibyte characters too, once backslashes are doubled:
-- the immutable way to the bytes of a text, in the database's encoding (convert_to is only stable).
-- E'' means the same whatever standard_conforming_strings says.

ALTER TABLE {{schema}}.emailverificationtoken ADD COLUMN IF NOT EXISTS sent_to VARCHAR;
ALTER TABLE {{schema}}.emailverificationtoken ADD COLUMN IF NOT EXISTS changes_email BOOLEAN;
-- unless unique emailverificationtoken(token)
CREATE UNIQUE INDEX emailverificationtoken_token_key ON {{schema}}.emailverificationtoken (token);
-- end
-- unless index emailverificationtoken(user_id)
CREATE INDEX IF NOT EXISTS ix_emailverificationtoken_user_id ON {{schema}}.emailverificationtoken (user_id);
-- end
CREATE INDEX IF NOT EXISTS emailverificationtoken_plaintext_idx ON {{schema}}.emailverificationtoken
    (('sha256:' || encode(sha256(decode(replace(token, E'\\', E'\\\\'), 'escape')), 'hex')))
    WHERE token NOT LIKE 'sha256:%';

ALTER TABLE {{schema}}.passwordresettoken ADD COLUMN IF NOT EXISTS sent_to VARCHAR;
-- unless unique passwordresettoken(token)
CREATE UNIQUE INDEX passwordresettoken_token_key ON {{schema}}.passwordresettoken (token);
-- end
-- unless index passwordresettoken(user_id)
CREATE INDEX IF NOT EXISTS ix_passwordresettoken_user_id ON {{schema}}.passwordresettoken (user_id);
-- end
CREATE INDEX IF NOT EXISTS passwordresettoken_plaintext_idx ON {{schema}}.passwordresettoken
    (('sha256:' || encode(sha256(decode(replace(token, E'\\', E'\\\\'), 'escape')), 'hex')))
    WHERE token NOT LIKE 'sha256:%';

-- Matches: one row a pair in either direction, nobody with themself.

-- unless constraint match.match_not_self_check
ALTER TABLE {{schema}}.match ADD CONSTRAINT match_not_self_check CHECK (user1_id <> user2_id);
-- end
CREATE UNIQUE INDEX IF NOT EXISTS match_pair_key
    ON {{schema}}.match (least(user1_id, user2_id), greatest(user1_id, user2_id));
CREATE INDEX IF NOT EXISTS match_user1_created_idx ON {{schema}}.match (user1_id, created_at, id);
CREATE INDEX IF NOT EXISTS match_user2_created_idx ON {{schema}}.match (user2_id, created_at, id);
CREATE INDEX IF NOT EXISTS match_created_idx ON {{schema}}.match (created_at, id);
CREATE INDEX IF NOT EXISTS match_pending_idx ON {{schema}}.match (created_at, id) WHERE status = 'pending';

-- Meetups: one that is live a match.

ALTER TABLE {{schema}}.meetup ADD COLUMN IF NOT EXISTS proposer_id {{user_id}};
ALTER TABLE {{schema}}.meetup ADD COLUMN IF NOT EXISTS duration_seconds INTEGER;
-- unless constraint meetup.meetup_duration_check
ALTER TABLE {{schema}}.meetup ADD CONSTRAINT meetup_duration_check
    CHECK (duration_seconds BETWEEN 900 AND 86400);
-- end
CREATE UNIQUE INDEX IF NOT EXISTS meetup_live_key ON {{schema}}.meetup (match_id)
    WHERE status IN ('proposed', 'confirmed');
CREATE INDEX IF NOT EXISTS meetup_match_scheduled_idx ON {{schema}}.meetup (match_id, scheduled_time, id);
CREATE INDEX IF NOT EXISTS meetup_scheduled_idx ON {{schema}}.meetup (scheduled_time, id);

-- Bookings: the time that a confirmed meetup takes of each of its two people, so that nobody has two
-- that overlap, whichever matches they belong to. Times are those to the second, as the library compares
-- them: another application may have stored fractions. Only the trigger below writes here.

-- unless table soultribe_booking
CREATE TABLE {{schema}}.soultribe_booking (
    user_id {{user_id}} NOT NULL,
    meetup_id {{meetup_id}} NOT NULL,
    starts_at TIMESTAMP NOT NULL,
    ends_at TIMESTAMP NOT NULL,
    PRIMARY KEY (user_id, meetup_id),
    CONSTRAINT soultribe_booking_meetup_id_fkey
        FOREIGN KEY (meetup_id) REFERENCES {{schema}}.meetup (id) ON DELETE CASCADE,
    CONSTRAINT soultribe_booking_period_check CHECK (ends_at > starts_at),
    CONSTRAINT soultribe_booking_no_overlap
        EXCLUDE USING gist (int8range(user_id, user_id, '[]') WITH &&, tsrange(starts_at, ends_at) WITH &&)
);
-- end
CREATE INDEX IF NOT EXISTS soultribe_booking_meetup_idx ON {{schema}}.soultribe_booking (meetup_id);

INSERT INTO {{schema}}.soultribe_booking (user_id, meetup_id, starts_at, ends_at)
SELECT person.id, mt.id, date_trunc('second', mt.scheduled_time),
    date_trunc('second', mt.scheduled_time) + coalesce(mt.duration_seconds, 3600) * interval '1 second'
FROM {{schema}}.meetup AS mt
JOIN {{schema}}.match AS m ON m.id = mt.match_id
CROSS JOIN LATERAL (VALUES (m.user1_id), (m.user2_id)) AS person (id)
WHERE mt.status = 'confirmed'
ON CONFLICT (user_id, meetup_id) DO NOTHING;

-- soultribe_book_meetup keeps the bookings in step with meetup, whoever writes there. An UPDATE that moves
-- nothing writes nothing. It compares the rows itself, for a trigger's column list would miss what another
-- trigger of the host's changes. Its names are qualified and its search_path is its own, so that the
-- session's makes no difference.
--
-- It runs with the rights of its owner, so that a role that may write meetups needs none to write bookings,
-- with which it could make them say anything. Nobody can call a trigger function; but whoever may EXECUTE it
-- could make it the trigger of a table of their own, whose rows would pass for meetups: hence the REVOKE. To
-- fire a trigger takes no right to EXECUTE.

CREATE OR REPLACE FUNCTION {{schema}}.soultribe_book_meetup() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    moved boolean := true;
    person1 bigint;
    person2 bigint;
    starts timestamp;
    ends timestamp;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        moved := (NEW.match_id, NEW.status, NEW.scheduled_time, NEW.duration_seconds)
            IS DISTINCT FROM (OLD.match_id, OLD.status, OLD.scheduled_time, OLD.duration_seconds);
        IF NOT moved AND NEW.proposer_id IS NOT DISTINCT FROM OLD.proposer_id THEN
            RETURN NULL;
        END IF;
    END IF;

    IF moved AND TG_OP = 'UPDATE' AND OLD.status = 'confirmed' THEN
        SELECT m.user1_id, m.user2_id INTO person1, person2
        FROM {{schema}}.match AS m WHERE m.id = OLD.match_id;
        DELETE FROM {{schema}}.soultribe_booking AS b
        WHERE b.user_id IN (person1, person2) AND b.meetup_id = OLD.id;
    END IF;

    SELECT m.user1_id, m.user2_id INTO person1, person2
    FROM {{schema}}.match AS m WHERE m.id = NEW.match_id;

    -- A proposer who was let in before is not judged again, so that the row can still be moved.
    IF NEW.proposer_id IS NOT NULL
        AND (TG_OP = 'INSERT' OR (NEW.proposer_id, NEW.match_id) IS DISTINCT FROM (OLD.proposer_id, OLD.match_id))
        AND (NEW.proposer_id IN (person1, person2)) IS NOT TRUE
    THEN
        RAISE EXCEPTION USING
            ERRCODE = 'check_violation',
            MESSAGE = 'the proposer of a meetup must be one of the two people of its match',
            SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'meetup_proposer_check';
    END IF;

    -- In ascending order, so that two confirmations of the same people cannot deadlock.
    IF moved AND NEW.status = 'confirmed' AND person1 IS NOT NULL THEN
        starts := date_trunc('second', NEW.scheduled_time);
        ends := starts + coalesce(NEW.duration_seconds, 3600) * interval '1 second';
        INSERT INTO {{schema}}.soultribe_booking (user_id, meetup_id, starts_at, ends_at)
        VALUES (least(person1, person2), NEW.id, starts, ends);
        INSERT INTO {{schema}}.soultribe_booking (user_id, meetup_id, starts_at, ends_at)
        VALUES (greatest(person1, person2), NEW.id, starts, ends);
    END IF;
    RETURN NULL;
END
$function$;

REVOKE EXECUTE ON FUNCTION {{schema}}.soultribe_book_meetup() FROM PUBLIC;

CREATE OR REPLACE TRIGGER soultribe_book_meetup AFTER INSERT OR UPDATE ON {{schema}}.meetup
    FOR EACH ROW EXECUTE FUNCTION {{schema}}.soultribe_book_meetup();

-- soultribe_keep_pair refuses to give a match to other people, whose bookings would then be missing. The
-- two may trade places.

CREATE OR REPLACE FUNCTION {{schema}}.soultribe_keep_pair() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'check_violation',
        MESSAGE = 'the two people of a match do not change',
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'match_pair_kept_check';
END
$function$;

CREATE OR REPLACE TRIGGER soultribe_keep_pair AFTER UPDATE ON {{schema}}.match
    FOR EACH ROW
    WHEN (least(OLD.user1_id, OLD.user2_id) <> least(NEW.user1_id, NEW.user2_id)
        OR greatest(OLD.user1_id, OLD.user2_id) <> greatest(NEW.user1_id, NEW.user2_id))
    EXECUTE FUNCTION {{schema}}.soultribe_keep_pair();

-- soultribe_refuse is how a statement of the library undoes itself: it raises the error that it is given.

CREATE OR REPLACE FUNCTION {{schema}}.soultribe_refuse(errcode text, constraint_name text, detail text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = errcode,
        MESSAGE = 'refused by ' || constraint_name,
        CONSTRAINT = constraint_name,
        DETAIL = coalesce(detail, '');
END
$function$;
