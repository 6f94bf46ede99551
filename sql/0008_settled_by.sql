-- Name of the caller that settled the payment, as its credential says: a token's name, a certificate's name or the subject of a
-- JWT. `expiry` for a payment that PAYMENT_EXPIRY settled. Null for a caller without a name, which costs no byte.
ALTER TABLE payment ADD COLUMN settled_by varchar(200);
