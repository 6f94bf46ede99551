-- The roles of a database of Payments, each with its least rights. docs/security.md says how to use them.
--
--   payments_owner     owns the tables: payments migrate, payments shards --count
--   payments_service   payments serve
--   payments_operator  no login: what commands and the operations API need to repair; GRANT it to the roles that may
--   payments_audit     reads only: payments audit, order, doctor, operations, and the lists of the repair commands
--
-- Run it as the administrator of the server, in the database of the service: before the first `payments migrate`, and again
-- after each one. It repeats without harm, sets no password, and drops nothing. Other names: replace them in a copy.

-- Roles belong to the server, and another database may make them at this moment.
DO $$ DECLARE name text; BEGIN
  FOREACH name IN ARRAY ARRAY['payments_owner', 'payments_service', 'payments_operator', 'payments_audit'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I %s', name, CASE name WHEN 'payments_operator' THEN 'NOLOGIN' ELSE 'LOGIN' END);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END;
  END LOOP;
END $$;

-- An administrator that is no superuser must be a member of the owner, to give it the tables.
DO $$ BEGIN
  IF NOT pg_has_role('payments_owner', 'USAGE') THEN EXECUTE format('GRANT payments_owner TO %I', current_user); END IF;
END $$;

-- The schema. Before PostgreSQL 15 every role may create tables in it.
DO $$ BEGIN
  EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
  EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO payments_owner', current_schema());
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO payments_service, payments_operator, payments_audit', current_schema());
END $$;

-- Tables and types that another role has made get the owner. Sequences follow their tables.
DO $$ DECLARE found record; BEGIN
  FOR found IN
    SELECT oid::regclass AS name FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relowner <> 'payments_owner'::regrole
      AND relname IN ('payments_migrations', 'payment', 'event', 'outbox_shard', 'outbox_relay', 'outbox_topic', 'operation')
  LOOP EXECUTE format('ALTER TABLE %s OWNER TO payments_owner', found.name); END LOOP;
  FOR found IN
    SELECT oid::regtype AS name FROM pg_type
    WHERE typnamespace = current_schema()::regnamespace AND typowner <> 'payments_owner'::regrole
      AND typname IN ('payment_status', 'event_status')
  LOOP EXECUTE format('ALTER TYPE %s OWNER TO payments_owner', found.name); END LOOP;
END $$;

-- The rights. Tables that a later migration makes get theirs when this file runs again.
DO $$ DECLARE needed record; BEGIN
  FOR needed IN
    SELECT * FROM (VALUES
      ('payments_service',  'payments_migrations', 'SELECT'),
      ('payments_service',  'payment',             'SELECT, INSERT, UPDATE'),
      ('payments_service',  'event',               'SELECT, INSERT, UPDATE, DELETE'),
      ('payments_service',  'outbox_shard',        'SELECT, UPDATE'),
      ('payments_service',  'outbox_relay',        'SELECT, INSERT, UPDATE, DELETE'),
      ('payments_service',  'outbox_topic',        'SELECT, INSERT, UPDATE'),
      ('payments_operator', 'payments_migrations', 'SELECT'),
      ('payments_operator', 'payment',             'SELECT'),
      ('payments_operator', 'event',               'SELECT, UPDATE'),
      ('payments_operator', 'outbox_shard',        'SELECT, UPDATE'),
      ('payments_operator', 'outbox_topic',        'SELECT'),
      ('payments_operator', 'operation',           'SELECT, INSERT'),
      ('payments_audit',    'payments_migrations', 'SELECT'),
      ('payments_audit',    'payment',             'SELECT'),
      ('payments_audit',    'event',               'SELECT'),
      ('payments_audit',    'outbox_shard',        'SELECT'),
      ('payments_audit',    'outbox_relay',        'SELECT'),
      ('payments_audit',    'outbox_topic',        'SELECT'),
      ('payments_audit',    'operation',           'SELECT')
    ) AS t (role, name, rights)
    WHERE to_regclass(name) IS NOT NULL
  LOOP EXECUTE format('GRANT %s ON %I TO %I', needed.rights, needed.name, needed.role); END LOOP;
END $$;

-- Ids: the service sets a sequence forward that a restore has left behind its rows; the audit role reads its state.
DO $$ DECLARE name text; BEGIN
  FOR name IN
    SELECT sequence FROM unnest(ARRAY['payment', 'event']) AS t (name),
      LATERAL (SELECT pg_get_serial_sequence(t.name, 'id') AS sequence WHERE to_regclass(t.name) IS NOT NULL) AS s
    WHERE sequence IS NOT NULL
  LOOP
    EXECUTE format('GRANT USAGE, SELECT, UPDATE ON SEQUENCE %s TO payments_service', name);
    EXECUTE format('GRANT SELECT ON SEQUENCE %s TO payments_audit', name);
  END LOOP;
END $$;
