-- Version 4: the index by which people are searched a group at a time. The groups are the last six bits of
-- a person's id, so that for any time each is a narrow range of the index, and takes little memory.
--
-- This is a template, as 00001_contract.sql is.

CREATE INDEX IF NOT EXISTS availabilityslot_group_start_idx
    ON {{schema}}.availabilityslot ((user_id & 63), start_dt_utc, end_dt_utc, user_id);
