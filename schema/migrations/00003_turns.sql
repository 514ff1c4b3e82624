-- Version 3: those who confirm when people meet take turns, and a match that is cancelled takes its meetup with it,
-- also by plain SQL.
--
-- This is a template, as 00001_contract.sql is.

-- soultribe_book_meetup is that of version 2, but that it locks the people whose time it books: else two who do so
-- for one person could each wait for what the other has not committed, which is a deadlock. Transactions that
-- confirm meetups of several people can still have one, as they take their locks one after the other. It refuses
-- a confirmed meetup whose match is not there, for that would have no bookings.
--
-- The locks are advisory ones. Whoever may connect to the database may take them too, and make others wait.

CREATE OR REPLACE FUNCTION {{schema}}.soultribe_book_meetup() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    moved boolean := true;
    person1 bigint;
    person2 bigint;
    starts timestamp;
    ends timestamp;
    turn integer;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        moved := (NEW.match_id, NEW.status, NEW.scheduled_time, NEW.duration_seconds)
            IS DISTINCT FROM (OLD.match_id, OLD.status, OLD.scheduled_time, OLD.duration_seconds);
        IF NOT moved AND NEW.proposer_id IS NOT DISTINCT FROM OLD.proposer_id THEN
            RETURN NULL;
        END IF;
    END IF;

    -- The locks, in one order for all, before anything is given up. There are 1,024, so that a statement of many rows
    -- has no more.
    IF moved AND NEW.status = 'confirmed' THEN
        FOR turn IN
            SELECT DISTINCT (person.id & 1023)::integer
            FROM {{schema}}.match AS m CROSS JOIN LATERAL (VALUES (m.user1_id), (m.user2_id)) AS person (id)
            WHERE m.id = NEW.match_id OR TG_OP = 'UPDATE' AND m.id = OLD.match_id
            ORDER BY 1
        LOOP
            PERFORM pg_advisory_xact_lock(hashtext('soultribe booking ' || TG_TABLE_SCHEMA), turn);
        END LOOP;
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

    IF moved AND NEW.status = 'confirmed' THEN
        -- The key to match may be one that is checked at the end of the transaction, or not there.
        IF person1 IS NULL THEN
            RAISE EXCEPTION USING
                ERRCODE = 'foreign_key_violation',
                MESSAGE = 'a meetup is confirmed in a match',
                SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'meetup_match_id_fkey';
        END IF;
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

-- soultribe_cancel_meetup cancels the live meetup of a match that is cancelled, or completes it if it is over: the time of the change is the match's updated_at, as whoever writes has a clock of their own. It runs with
-- the rights of its owner, so that a role that may write matches needs none to write meetups.

CREATE OR REPLACE FUNCTION {{schema}}.soultribe_cancel_meetup() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    UPDATE {{schema}}.meetup AS mt
    SET updated_at = NEW.updated_at,
        status = CASE
            WHEN mt.status = 'confirmed' AND isfinite(mt.scheduled_time) AND mt.scheduled_time < timestamp '9999-12-31'
                AND date_trunc('second', mt.scheduled_time) + coalesce(mt.duration_seconds, 3600) * interval '1 second' <= NEW.updated_at
            THEN 'completed' ELSE 'cancelled' END
    WHERE mt.match_id = NEW.id AND mt.status IN ('proposed', 'confirmed');
    RETURN NULL;
END
$function$;

REVOKE EXECUTE ON FUNCTION {{schema}}.soultribe_cancel_meetup() FROM PUBLIC;

CREATE OR REPLACE TRIGGER soultribe_cancel_meetup AFTER UPDATE ON {{schema}}.match
    FOR EACH ROW
    WHEN (OLD.status = 'accepted' AND NEW.status IN ('cancelled', 'canceled'))
    EXECUTE FUNCTION {{schema}}.soultribe_cancel_meetup();
