-- Version 5: the indexes by which housekeeping finds what is due, and passes by nothing else: meetups that are
-- live, and accounts that are not verified.
--
-- This is a template, as 00001_contract.sql is.

CREATE INDEX IF NOT EXISTS meetup_live_scheduled_idx
    ON {{schema}}.meetup (scheduled_time, id) WHERE status IN ('proposed', 'confirmed');
CREATE INDEX IF NOT EXISTS user_unverified_idx
    ON {{schema}}."user" (id) WHERE email_verified_at IS NULL;
