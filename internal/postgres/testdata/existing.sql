-- The database of an older backend as pg_dump --inserts wrote it (comments and psql commands left out).

CREATE FUNCTION public.update_updated_at_column() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.updated_at = NOW();
    RETURN NEW;
END;
$$;

CREATE TABLE public.schema_migrations (
    version bigint NOT NULL,
    dirty boolean NOT NULL
);

CREATE TABLE public.users (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    email character varying(255) NOT NULL,
    password_hash text NOT NULL,
    first_name character varying(100) NOT NULL,
    last_name character varying(100) NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    last_login_at timestamp with time zone,
    is_active boolean DEFAULT true NOT NULL,
    is_verified boolean DEFAULT false NOT NULL
);

INSERT INTO public.schema_migrations VALUES (1, false);

INSERT INTO public.users VALUES ('8ec8b43e-446a-4980-9c2c-49eec45b0dee', 'nora5@example.com', '$argon2id$v=19$m=65536,t=3,p=2$ZXH1kc1ejc7DW0EnlWxDbg$eI+QzrabyGunQUrkgdO6+b2AVoHtnQ/JsuqDvvdUXpk', 'Mary Jane', 'Lee', '2026-11-24 02:51:19.664048+00', '2026-11-24 02:51:19.664048+00', NULL, true, false);
INSERT INTO public.users VALUES ('8a887278-16b7-455b-8e14-11e7a72fb152', 'nora6@example.com', '$argon2id$v=19$m=65536,t=3,p=2$0jPkI+cirjWtovMFagyMSQ$TT3RdcDRqovdP7+O1aHpksPYxvp2SR0JWapCl+E+ED0', 'O''Neil', 'Lee', '2026-11-24 02:51:19.757352+00', '2026-11-24 02:51:19.757352+00', NULL, true, false);
INSERT INTO public.users VALUES ('4123f28c-9ef4-4de0-ae37-956d31926327', 'Case.nora@Example.com', '$argon2id$v=19$m=65536,t=3,p=2$/1m/DwBjP+kHpMbWsDiDfw$Zf9fjTiab1HqQpLX4hWkyqyb3No9Osc6inLrtdtd+UE', 'Case', 'Upper', '2026-11-24 02:51:19.962316+00', '2026-11-24 02:51:19.962316+00', NULL, true, false);
INSERT INTO public.users VALUES ('fc5c31a0-fa13-4201-955e-18d61c7a88ae', 'case.nora@example.com', '$argon2id$v=19$m=65536,t=3,p=2$b4Hy4gcUTlNyN3BafxC86w$2da2+BC9C1CG5g6NaYtfzvTO/zMVPTVkUAM1zsGWbFc', 'Case', 'Lower', '2026-11-24 02:51:20.063873+00', '2026-11-24 02:51:20.063873+00', NULL, true, false);
INSERT INTO public.users VALUES ('7ace48f2-6c9d-41b4-906b-aa65219f830c', 'Only.Upper.nora@Example.com', '$argon2id$v=19$m=65536,t=3,p=2$VjQopC14OrgLbBrEml11Jg$FoMZJuWLROU5DJ1K7WLpLl8qz3/r47OtnO3ggcb14BQ', 'Only', 'Upper', '2026-11-24 02:51:20.173187+00', '2026-11-24 02:51:20.173187+00', NULL, true, false);
INSERT INTO public.users VALUES ('4098cffe-e9f4-4147-b388-f30460d1cc34', 'nora0@example.com', '$argon2id$v=19$m=65536,t=3,p=2$kfJ+n3FOVtLL8IIpnrxWWA$b6iLF+nraIXrshjCzNbh6opIhu3yfGzBS88KEt9wX7I', 'Ana', 'Lee', '2026-11-24 02:51:19.031234+00', '2026-11-24 02:51:20.278654+00', '2026-11-24 02:51:20.278654+00', true, false);
INSERT INTO public.users VALUES ('f1cfba16-4e9e-4971-a715-25ea113b2d66', 'nora1@example.com', '$argon2id$v=19$m=65536,t=3,p=2$d1H599uXvzk0QjfbeiVVag$B9mFxq/VlsJ2EIXc1RhL8C5cxohRGdeM5b1xnhJ5Ao0', 'Mary Jane', 'Lee', '2026-11-24 02:51:19.267899+00', '2026-11-24 02:51:20.397267+00', '2026-11-24 02:51:20.397267+00', true, false);
INSERT INTO public.users VALUES ('0bf3031d-cb62-4d36-8e31-6df79dfe7d37', 'nora3@example.com', '$argon2id$v=19$m=65536,t=3,p=2$LAn+8M2KNcfFU4CJgZp4iA$eu5uFKUqjIWpfCsA63zOuHcbG5EOSUUZcORi6lvqVL8', 'Jean-Luc', 'Lee', '2026-11-24 02:51:19.459396+00', '2026-11-24 02:51:20.641295+00', '2026-11-24 02:51:20.641295+00', true, false);
INSERT INTO public.users VALUES ('a1680998-84f3-4d26-b42d-dbfc5974078b', 'nora4@example.com', '$argon2id$v=19$m=65536,t=3,p=2$QQj/bOBuGoejCPRnoe4dtg$RUMCN1Tr9uiWYaymzs0EwVSpIBDyv88NiPntsP5LZc0', 'Ana', 'Lee', '2026-11-24 02:51:19.567424+00', '2026-11-24 02:51:20.758194+00', '2026-11-24 02:51:20.758194+00', true, false);
INSERT INTO public.users VALUES ('566c55ca-2a5c-450e-bf10-0d9498e2c7f2', 'rust0.nora@example.org', '$argon2id$v=19$m=19456,t=2,p=1$YzdkYzlkOTI0YTUwZjMyMw$5dotjLcNi5m1fyJ2HiaQKjhmVew4POzxI7Edf6xl/yI', 'Rae', 'Stone', '2026-11-24 02:51:52.779466+00', '2026-11-24 02:51:52.779466+00', NULL, true, false);
INSERT INTO public.users VALUES ('724bdb4b-f8de-4b94-acda-9d15a2fb6d2f', 'rust1.nora@example.org', '$argon2id$v=19$m=19456,t=2,p=1$MzcyMmY4MTExZjFhNzZhNg$109xIoARxeyd5eJeZsIlTbALAY66MY/gQM4xg21MJk4', 'Rae', 'Stone', '2026-11-24 02:51:52.858601+00', '2026-11-24 02:51:52.858601+00', NULL, true, true);
INSERT INTO public.users VALUES ('13c1c5f2-74c1-428a-9c2f-11d18fab0c6e', 'rust2.nora@example.org', '$argon2id$v=19$m=19456,t=2,p=1$NmEzNWYzN2JmNjFiODhiYQ$nNmzUR9cskdVbjjX69ESwq6QUecVdt43hQh4wQ64hOo', 'Rae', 'Stone', '2026-11-24 02:51:52.942894+00', '2026-11-24 02:51:52.942894+00', NULL, true, false);
INSERT INTO public.users VALUES ('ba07fc34-cc5e-4251-bc48-23ecee992cbc', 'rust3.nora@example.org', '$argon2id$v=19$m=19456,t=2,p=1$Y2U1Yjc1MDNjNTMxOTlhNA$3zSFnjy+7VHSUBEwwB74sbUmMP/x+ro+s8KgOYoKpc0', 'Rae', 'Stone', '2026-11-24 02:51:53.026681+00', '2026-11-24 02:51:53.026681+00', NULL, true, false);
INSERT INTO public.users VALUES ('b47cb7a1-9e5d-4be0-9211-f77ca048a90e', 'nora7@example.com', '$argon2id$v=19$m=65536,t=3,p=2$onz1QJuszqzLs4naOLiSPg$anHmIPtUfYlRJR8vZcoKRARSTpGLshRSHNNeBRoH75M', 'Jean-Luc', 'Lee', '2026-11-24 02:51:19.860564+00', '2026-11-24 02:51:53.073503+00', NULL, false, false);
INSERT INTO public.users VALUES ('41e5f3f6-5232-4414-9674-1b7ebf88f803', 'nora2@example.com', '$argon2id$v=19$m=65536,t=3,p=2$VH3WOViQw6jz83DUkECGqQ$TNSeO6pFflSziiUwDbLrz9NnXsg9M1jFtIqb6sj+DyY', 'O''Neil', 'Lee', '2026-11-24 02:51:19.349195+00', '2026-11-24 02:51:53.117618+00', '2026-11-24 02:51:20.515214+00', true, true);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_email_key UNIQUE (email);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);

CREATE INDEX idx_users_created_at ON public.users USING btree (created_at);

CREATE INDEX idx_users_email ON public.users USING btree (email);

CREATE TRIGGER update_users_updated_at BEFORE UPDATE ON public.users FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();

