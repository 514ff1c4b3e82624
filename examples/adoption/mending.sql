-- What the owners of the application decide to do about each row that the audit has named.

-- Of two accounts with one address the older stays as it is, and the other gets a mark.
UPDATE "user" SET email = 'duplicate-3-' || email WHERE id = 3;

-- Of two slots that overlap the first grows to hold both, and one that ends before it starts goes.
UPDATE availabilityslot SET end_dt_utc = '2031-05-01 13:00', end_dt_local = '2031-05-01 15:00' WHERE id = 1;
DELETE FROM availabilityslot WHERE id IN (2, 3);

-- Times on the wall follow from those in UTC, and a zone has a name that computers know.
UPDATE availabilityslot SET timezone = 'Europe/Vienna' WHERE timezone = 'Vienna';
UPDATE availabilityslot SET start_dt_local = start_dt_utc AT TIME ZONE 'UTC' AT TIME ZONE timezone,
    end_dt_local = end_dt_utc AT TIME ZONE 'UTC' AT TIME ZONE timezone WHERE id = 4;

-- Of two matches of the same people the accepted one stays. Nobody is matched with themself.
DELETE FROM match WHERE id IN (2, 3);

-- Ann can be at one of the two meetups. The other is proposed again.
UPDATE meetup SET status = 'proposed' WHERE id = 2;

-- Who has a hash that never was one has to ask for a new password. It stays: nobody logs in with it.
