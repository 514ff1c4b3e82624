-- Version 5: the index by which meetups that are due are found, and no others: the index on all meetups also has
-- those that took place years ago.
--
-- This is a template, as 00001_contract.sql is.

CREATE INDEX IF NOT EXISTS meetup_live_scheduled_idx
    ON {{schema}}.meetup (scheduled_time, id) WHERE status IN ('proposed', 'confirmed');
