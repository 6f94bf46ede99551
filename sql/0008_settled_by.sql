-- Name of the caller that settled the payment, as its credential says: a token's name, a certificate's name or the subject of a
-- JWT. `expiry` for a payment that PAYMENT_EXPIRY settled. Null for a caller without a name. The ninth column makes each row of a
-- payment 8 bytes longer: its nulls need a second byte, and rows are aligned.
ALTER TABLE payment ADD COLUMN settled_by varchar(200);
