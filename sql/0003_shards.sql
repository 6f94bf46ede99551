-- Delivery `exactly-once`: relays share the orders by shards, and a leased event carries the number of its batch.

CREATE TABLE outbox_shard (
  shard    smallint PRIMARY KEY,
  -- transactional id of its producers, and consumer group that holds the number of its last committed batch; of this
  -- database alone, so that another one on the same brokers is never mistaken for it
  name     text        NOT NULL UNIQUE,
  owner    uuid,
  owned_to timestamptz,
  -- number of the last batch that was leased: it rises for ever
  batch    bigint      NOT NULL DEFAULT 0,
  batch_at timestamptz,
  -- an event of a batch that is not settled has no higher id; none when all are settled. So that they are found among all
  -- that wait, without an index: one that names the batch would be written with each lease, and all others with it
  leased_to bigint,
  -- number of the last batch known to be on the topic
  done     bigint      NOT NULL DEFAULT 0
);
INSERT INTO outbox_shard (shard, name)
SELECT shard, format('payments-outbox-%s-%s', installation, shard)
FROM (SELECT left(md5(gen_random_uuid()::text), 8) AS installation) AS once, generate_series(0, 1) AS shard;

-- Relays that are alive; each takes its share of the shards.
CREATE TABLE outbox_relay (
  id       uuid        PRIMARY KEY,
  alive_to timestamptz NOT NULL
);

ALTER TABLE event ADD COLUMN batch bigint;

-- An order belongs to one shard as long as there are so many of them: payments shards --count makes the first of these anew.
CREATE INDEX event_waiting_of_2_shards ON event ((hashint8(order_id) & 1), id) WHERE status = 'WAIT';
