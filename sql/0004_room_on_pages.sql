-- An event is updated twice: leased, and DONE. Where its page has room the lease stays there and touches no index, and
-- DONE takes the place that the lease has left. Figures are in docs/performance.md. Pages that are written already stay.
ALTER TABLE event SET (fillfactor = 45);
