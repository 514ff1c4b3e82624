-- What the migrations of soultribe make, as far as the queries go.
CREATE TABLE "user" (
    id SERIAL PRIMARY KEY, email VARCHAR NOT NULL, password_hash VARCHAR NOT NULL, email_verified_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL, credentials_changed_at TIMESTAMP
);
CREATE TABLE profile (
    user_id INTEGER PRIMARY KEY, full_name VARCHAR NOT NULL, display_name VARCHAR NOT NULL, bio TEXT, timezone VARCHAR,
    created_at TIMESTAMP NOT NULL, updated_at TIMESTAMP NOT NULL
);
CREATE TABLE availabilityslot (
    id SERIAL PRIMARY KEY, user_id INTEGER NOT NULL, start_dt_utc TIMESTAMP NOT NULL, end_dt_utc TIMESTAMP NOT NULL,
    start_dt_local TIMESTAMP NOT NULL, end_dt_local TIMESTAMP NOT NULL, timezone VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL, updated_at TIMESTAMP NOT NULL
);
CREATE TABLE emailverificationtoken (
    id SERIAL PRIMARY KEY, user_id INTEGER NOT NULL, token VARCHAR NOT NULL UNIQUE, expires_at TIMESTAMP NOT NULL,
    used_at TIMESTAMP, created_at TIMESTAMP NOT NULL, sent_to VARCHAR
);
CREATE TABLE match (
    id SERIAL PRIMARY KEY, user1_id INTEGER NOT NULL, user2_id INTEGER NOT NULL, status VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL, updated_at TIMESTAMP NOT NULL
);
CREATE TABLE meetup (
    id SERIAL PRIMARY KEY, match_id INTEGER NOT NULL, scheduled_time TIMESTAMP NOT NULL, status VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL, updated_at TIMESTAMP NOT NULL, proposer_id INTEGER, duration_seconds INTEGER
);
CREATE TABLE soultribe_booking (
    user_id INTEGER NOT NULL, meetup_id INTEGER NOT NULL, starts_at TIMESTAMP NOT NULL, ends_at TIMESTAMP NOT NULL
);
