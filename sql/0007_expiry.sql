-- Why a payment is FAILED when no call refused it: `expired` (PAYMENT_EXPIRY). Null otherwise, which costs no byte.
ALTER TABLE payment ADD COLUMN reason text;
-- The header `payment-reason` of the record. Null: the record has none.
ALTER TABLE event ADD COLUMN reason text;
