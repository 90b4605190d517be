-- One step over all batches in order of registration: requeues failed ones,
-- forgets terminal ones, or expires those that nobody has claimed.
--
-- ARGV: settings, what, where to begin, queue or nothing, states as bits, age.
local refused = begin()
if refused then return refused end
local what, from, queue, states, age = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]),
  tonumber(ARGV[6])
local SCAN, STEP = 256, 48
local seen = call('ZRANGEBYSCORE', P .. 'od', from, '+inf', 'WITHSCORES', 'LIMIT', 0, SCAN)
local ids = {}
for i = 1, #seen, 2 do ids[#ids + 1] = seen[i] end
load_all(ids)
local rest = -1
if #ids == SCAN then rest = tonumber(seen[#seen]) + 1 end
local count = 0
for i, id in ipairs(ids) do
  local r = load(id)
  local changed = false
  if r and (queue == '' or r.queue == queue) then
    if what == 'requeue' then
      changed = r.state == FAILED and requeue(r) == APPLIED
    elseif what == 'purge' then
      if r.state > PROCESSING and has(states, 2 ^ (r.state - 1)) and now - r.at >= age
        and not has_children(r) then
        purge(r)
        changed = true
      end
    elseif r.state <= SCHEDULED and now - r.reg >= age then
      leave(r)
      finish(r, EXPIRED)
      enter(r)
      changed = true
    end
  end
  if changed then
    count = count + 1
    if count == STEP then
      rest = tonumber(seen[i * 2]) + 1
      break
    end
  end
end
if #agenda > 0 then propagate(32) end
done()
return { 'ok', now, meta.nt, meta.run, count, rest }
