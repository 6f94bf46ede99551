-- What operators changed by command: one row for each event or dead letter. Rows are never changed, and nothing deletes them.
CREATE TABLE operation (
  id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- the same for all rows of one command
  run      uuid        NOT NULL,
  at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  operator text        NOT NULL,
  role     text        NOT NULL DEFAULT session_user,
  action   text        NOT NULL,
  reason   text        NOT NULL,
  order_id bigint,
  event_id bigint,
  -- of a dead letter: `topic/partition@offset time`, because a topic that is made again begins at offset 0 again
  place    text,
  -- how many operations of this place came before
  nth      integer     NOT NULL DEFAULT 0,
  before   jsonb       NOT NULL,
  after    jsonb       NOT NULL
);

-- The same replay of a dead letter, twice at once, happens once.
CREATE UNIQUE INDEX operation_of_place ON operation (place, nth) WHERE place IS NOT NULL;
CREATE INDEX operation_of_order ON operation (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX operation_of_event ON operation (event_id) WHERE event_id IS NOT NULL;
