-- Version 3: those who confirm meetups of one person take turns, also by plain SQL.
--
-- This is a template, as 00001_contract.sql is. The function is that of version 2, but for the two locks.

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

    -- Who books the time of a person waits for who is at it: else two could each wait for the other's booking to
    -- be settled, which is a deadlock. In ascending order, so that the locks themselves are none.
    IF moved AND NEW.status = 'confirmed' AND person1 IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('soultribe booking ' || TG_TABLE_SCHEMA, least(person1, person2)));
        PERFORM pg_advisory_xact_lock(hashtextextended('soultribe booking ' || TG_TABLE_SCHEMA, greatest(person1, person2)));
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
