-- Whether a worker that was lost held nodes here: those it held elsewhere had company then. Changes nothing.
-- KEYS clock
-- ARGV worker
-- RETURNS 1 if it did, 0 if not
--@include base held_nodes

return holds(ARGV.worker) and 1 or 0
