-- The events of an order stay on one partition, also when the topic gets more: the key of a record is hashed over as many
-- partitions as the topic had when the payment was created.

-- The numbers of partitions that relays have seen a topic have. Each is more than the one before.
CREATE TABLE outbox_topic (
  topic      text     NOT NULL,
  generation smallint NOT NULL,
  partitions integer  NOT NULL CHECK (partitions > 0),
  PRIMARY KEY (topic, generation)
);

-- The generation of the topic under which the payment was created. Null is the first, 0: a topic that never gets more
-- partitions costs no byte. Payments that exist are of the first.
ALTER TABLE payment ADD COLUMN topic_generation smallint;
-- That of its payment.
ALTER TABLE event ADD COLUMN topic_generation smallint;
