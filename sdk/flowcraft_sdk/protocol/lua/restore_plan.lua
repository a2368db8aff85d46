-- Stores a plan of a backup, and has new runs of its blueprint use it if the blueprint has no plan here. Overwrites nothing.
-- KEYS clock
-- ARGV plan blueprint fields...
--   blueprint: whose current plan it is, '' for none; fields: pairs field value, as publishing writes them; none: the plan was stored before
-- RETURNS {stored|there|missing, 1 if the blueprint uses it since this call}
--   A plan that is not used within ten minutes goes, like one that was replaced.
--@include base

local key = B .. 'plan:' .. ARGV.plan
local there = redis.call('EXISTS', key) == 1
if not there then
  if not ARGV[ARGV.fields] then return {'missing', 0} end
  write_fields_of(key, part_of(ARGV, ARGV.fields))
  redis.call('ZADD', B .. 'retired', NOW, ARGV.plan)
end
local current = 0
if ARGV.blueprint ~= '' then
  current = redis.call('HSETNX', B .. 'blueprints', ARGV.blueprint, ARGV.plan)
  if redis.call('HGET', B .. 'blueprints', ARGV.blueprint) == ARGV.plan then redis.call('ZREM', B .. 'retired', ARGV.plan) end
end
return {there and 'there' or 'stored', current}
