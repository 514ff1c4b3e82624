-- What SQLAlchemy makes of the models of an application: the seven tables, with no defaults and none of the rules,
-- and what stands beside them.

CREATE TABLE "user" (
	id SERIAL NOT NULL,
	email VARCHAR NOT NULL,
	password_hash VARCHAR NOT NULL,
	email_verified_at TIMESTAMP WITHOUT TIME ZONE,
	created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	PRIMARY KEY (id)
);
CREATE UNIQUE INDEX ix_user_email ON "user" (email);
CREATE TABLE profile (
	user_id INTEGER NOT NULL,
	full_name VARCHAR NOT NULL,
	display_name VARCHAR NOT NULL,
	bio TEXT,
	timezone VARCHAR,
	created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	updated_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	PRIMARY KEY (user_id),
	FOREIGN KEY(user_id) REFERENCES "user" (id) ON DELETE CASCADE
);
CREATE TABLE availabilityslot (
	id SERIAL NOT NULL,
	user_id INTEGER NOT NULL,
	start_dt_utc TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	end_dt_utc TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	start_dt_local TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	end_dt_local TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	timezone VARCHAR NOT NULL,
	created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	updated_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY(user_id) REFERENCES "user" (id) ON DELETE CASCADE
);
CREATE INDEX ix_availabilityslot_user_id ON availabilityslot (user_id);
CREATE TABLE emailverificationtoken (
	id SERIAL NOT NULL,
	user_id INTEGER NOT NULL,
	token VARCHAR NOT NULL,
	expires_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	used_at TIMESTAMP WITHOUT TIME ZONE,
	created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY(user_id) REFERENCES "user" (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX ix_emailverificationtoken_token ON emailverificationtoken (token);
CREATE INDEX ix_emailverificationtoken_user_id ON emailverificationtoken (user_id);
CREATE TABLE passwordresettoken (
	id SERIAL NOT NULL,
	user_id INTEGER NOT NULL,
	token VARCHAR NOT NULL,
	expires_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	used_at TIMESTAMP WITHOUT TIME ZONE,
	created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY(user_id) REFERENCES "user" (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX ix_passwordresettoken_token ON passwordresettoken (token);
CREATE INDEX ix_passwordresettoken_user_id ON passwordresettoken (user_id);
CREATE TABLE match (
	id SERIAL NOT NULL,
	user1_id INTEGER NOT NULL,
	user2_id INTEGER NOT NULL,
	status VARCHAR NOT NULL,
	created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	updated_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY(user1_id) REFERENCES "user" (id) ON DELETE CASCADE,
	FOREIGN KEY(user2_id) REFERENCES "user" (id) ON DELETE CASCADE
);
CREATE TABLE meetup (
	id SERIAL NOT NULL,
	match_id INTEGER NOT NULL,
	scheduled_time TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	status VARCHAR NOT NULL,
	created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	updated_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY(match_id) REFERENCES match (id) ON DELETE CASCADE
);
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
CREATE TABLE refreshtoken (
	id SERIAL NOT NULL,
	user_id INTEGER NOT NULL,
	token VARCHAR NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY(user_id) REFERENCES "user" (id)
);
ALTER TABLE "user" ADD COLUMN locale VARCHAR;
