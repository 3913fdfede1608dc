-- Books what requests use of shared budgets. Amounts are absolute, so that a repeat changes nothing.
-- KEYS: the hash of marks, then for each line the account's total and the request's own part of it.
-- ARGV: kind, partition, the mark that must stand there, how long a part is remembered (ms),
--       then for each line: limit, needed, wanted, the window's end (ms of Unix time).
-- Kinds: `lease` raises up to the limit; `restore` raises, whatever the limit; `settlement` sets, and so may lower.
-- Returns for each line what the request has now, and 1 where the account will give no more. A lease gets nothing at
-- all where the mark is another: what stands here is not known to be whole.
local kind = ARGV[1]
if (redis.call('HGET', KEYS[1], ARGV[2]) or '') ~= ARGV[3] and kind == 'lease' then
  return false
end
local found = {}
for line = 1, (#KEYS - 1) / 2 do
  local total_key, part_key = KEYS[2 * line], KEYS[2 * line + 1]
  local first = 4 * line
  local limit, needed, wanted = tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3])
  local total = tonumber(redis.call('GET', total_key) or '0')
  local part = tonumber(redis.call('GET', part_key) or '0')
  local now = part
  if kind == 'settlement' then
    now = wanted
  elseif kind == 'restore' then
    now = math.max(part, wanted)
  elseif wanted > part then
    -- Near the limit a request gets a quarter of what is left, but what it needs: so that many of them can end well.
    local left = math.max(0, limit - total)
    local share = part + math.floor(left / 4)
    now = math.max(part, math.min(wanted, math.max(needed, share), part + left))
  end
  if now ~= part then
    total = redis.call('INCRBY', total_key, string.format('%.0f', now - part))
    redis.call('PEXPIREAT', total_key, ARGV[first + 4] + 86400000)
  end
  redis.call('SET', part_key, string.format('%.0f', now), 'PX', ARGV[4])
  found[2 * line - 1] = now
  found[2 * line] = (total >= limit and now < wanted) and 1 or 0
end
return found
