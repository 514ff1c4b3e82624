-- What the application has stored over the years.

INSERT INTO "user" (id, email, password_hash, email_verified_at, created_at, locale) VALUES
    (1, 'Ann@example.org', '', '2024-01-02', '2024-01-01', 'de'),
    (2, 'Bo@example.org', 'argon2$dev', '2024-01-02', '2024-01-01', NULL),
    (3, 'bo@example.org', 'argon2$dev', NULL, '2024-02-01', NULL),
    (4, 'dee@example.org', 'argon2$dev', '2024-01-02', '2024-01-01', NULL);
INSERT INTO profile (user_id, full_name, display_name, timezone, created_at, updated_at) VALUES
    (1, 'Ann Example', 'Ann', 'Europe/Vienna', '2024-01-01', '2024-01-01');
INSERT INTO availabilityslot (id, user_id, start_dt_utc, end_dt_utc, start_dt_local, end_dt_local, timezone, created_at, updated_at) VALUES
    (1, 1, '2031-05-01 10:00', '2031-05-01 12:00', '2031-05-01 12:00', '2031-05-01 14:00', 'Europe/Vienna', '2024-01-01', '2024-01-01'),
    (2, 1, '2031-05-01 11:00', '2031-05-01 13:00', '2031-05-01 13:00', '2031-05-01 15:00', 'Europe/Vienna', '2024-01-01', '2024-01-01'),
    (3, 2, '2031-05-01 12:00', '2031-05-01 10:00', '2031-05-01 14:00', '2031-05-01 12:00', 'Europe/Vienna', '2024-01-01', '2024-01-01'),
    (4, 4, '2031-05-01 10:00', '2031-05-01 12:00', '2031-05-01 11:00', '2031-05-01 13:00', 'Europe/Vienna', '2024-01-01', '2024-01-01'),
    (5, 4, '2031-05-02 10:00', '2031-05-02 12:00', '2031-05-02 12:00', '2031-05-02 14:00', 'Vienna', '2024-01-01', '2024-01-01');
INSERT INTO match (id, user1_id, user2_id, status, created_at, updated_at) VALUES
    (1, 1, 2, 'accepted', '2024-01-01', '2024-01-01'),
    (2, 2, 1, 'pending', '2024-01-02', '2024-01-02'),
    (3, 2, 2, 'pending', '2024-01-02', '2024-01-02'),
    (4, 1, 4, 'suggested', '2024-01-01', '2024-01-01'),
    (5, 1, 3, 'accepted', '2024-01-01', '2024-01-01');
INSERT INTO meetup (id, match_id, scheduled_time, status, created_at, updated_at) VALUES
    (1, 1, '2031-05-01 10:00', 'confirmed', '2024-01-01', '2024-01-01'),
    (2, 5, '2031-05-01 10:30', 'confirmed', '2024-01-01', '2024-01-01');
INSERT INTO refreshtoken (user_id, token) VALUES (1, 'of the application alone');
INSERT INTO alembic_version (version_num) VALUES ('one of the application''s');
SELECT setval('user_id_seq', 100), setval('availabilityslot_id_seq', 100), setval('match_id_seq', 100), setval('meetup_id_seq', 100);
