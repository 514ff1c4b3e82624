-- Version 1: the seven tables.
--
-- This is a template. Before it runs, {{schema}} becomes the quoted name of the PostgreSQL schema, and
-- {{user_id}} and {{match_id}} the types of "user".id and match.id, integer unless the database has
-- bigint. What stands between "-- unless" and "-- end" is left out where the database has the thing named.
-- It runs inside a transaction whose search_path is pg_catalog.
--
-- No column but a serial one has a default, and the indexes bear SQLAlchemy's names: a database made
-- here and one that was taken over look alike.

-- unless table user
CREATE TABLE {{schema}}."user" (
    id SERIAL PRIMARY KEY,
    email VARCHAR NOT NULL,
    password_hash VARCHAR NOT NULL,
    email_verified_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX ix_user_email ON {{schema}}."user" (email);
-- end

-- unless table profile
CREATE TABLE {{schema}}.profile (
    user_id {{user_id}} PRIMARY KEY REFERENCES {{schema}}."user" (id) ON DELETE CASCADE,
    full_name VARCHAR NOT NULL,
    display_name VARCHAR NOT NULL,
    bio TEXT,
    timezone VARCHAR,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
-- end

-- unless table availabilityslot
CREATE TABLE {{schema}}.availabilityslot (
    id SERIAL PRIMARY KEY,
    user_id {{user_id}} NOT NULL REFERENCES {{schema}}."user" (id) ON DELETE CASCADE,
    start_dt_utc TIMESTAMP NOT NULL,
    end_dt_utc TIMESTAMP NOT NULL,
    start_dt_local TIMESTAMP NOT NULL,
    end_dt_local TIMESTAMP NOT NULL,
    timezone VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
CREATE INDEX ix_availabilityslot_user_id ON {{schema}}.availabilityslot (user_id);
-- end

-- unless table emailverificationtoken
CREATE TABLE {{schema}}.emailverificationtoken (
    id SERIAL PRIMARY KEY,
    user_id {{user_id}} NOT NULL REFERENCES {{schema}}."user" (id) ON DELETE CASCADE,
    token VARCHAR NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    used_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX ix_emailverificationtoken_token ON {{schema}}.emailverificationtoken (token);
CREATE INDEX ix_emailverificationtoken_user_id ON {{schema}}.emailverificationtoken (user_id);
-- end

-- unless table passwordresettoken
CREATE TABLE {{schema}}.passwordresettoken (
    id SERIAL PRIMARY KEY,
    user_id {{user_id}} NOT NULL REFERENCES {{schema}}."user" (id) ON DELETE CASCADE,
    token VARCHAR NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    used_at TIMESTAMP,
    created_at TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX ix_passwordresettoken_token ON {{schema}}.passwordresettoken (token);
CREATE INDEX ix_passwordresettoken_user_id ON {{schema}}.passwordresettoken (user_id);
-- end

-- unless table match
CREATE TABLE {{schema}}.match (
    id SERIAL PRIMARY KEY,
    user1_id {{user_id}} NOT NULL REFERENCES {{schema}}."user" (id) ON DELETE CASCADE,
    user2_id {{user_id}} NOT NULL REFERENCES {{schema}}."user" (id) ON DELETE CASCADE,
    status VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
-- end

-- unless table meetup
CREATE TABLE {{schema}}.meetup (
    id SERIAL PRIMARY KEY,
    match_id {{match_id}} NOT NULL REFERENCES {{schema}}.match (id) ON DELETE CASCADE,
    scheduled_time TIMESTAMP NOT NULL,
    status VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
-- end
