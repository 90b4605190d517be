-- One step over all batches in order of registration: requeues failed ones,
-- forgets terminal ones, or expires those that nobody has claimed.
--
-- ARGV: settings, what, where to begin, queue or nothing, states as bits, age.
function F.op_sweep()
  local refused = F.begin(true)
  if refused then return refused end
  local what, from, queue, states, age = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]),
    tonumber(ARGV[6])
  local SCAN, STEP = 96, 16
  local seen = call('ZRANGEBYSCORE', P .. 'od', from, '+inf', 'WITHSCORES', 'LIMIT', 0, SCAN)
  local ids = {}
  for i = 1, #seen, 2 do ids[#ids + 1] = seen[i] end
  F.load_all(ids)
  local go_on = -1
  if #ids == SCAN then go_on = tonumber(seen[#seen]) + 1 end
  local count = 0
  for i, id in ipairs(ids) do
    local r = F.load(id)
    local changed = false
    if r and (queue == '' or r[R_QUEUE] == queue) then
      if what == 'requeue' then
        changed = r[R_STATE] == FAILED and F.requeue(r) == APPLIED
      elseif what == 'purge' then
        if r[R_STATE] > PROCESSING and F.has(states, 2 ^ (r[R_STATE] - 1)) and now - r[R_AT] >= age
          and not F.has_children(r) then
          F.purge(r)
          changed = true
        end
      elseif r[R_STATE] <= SCHEDULED and now - F.registered(r) >= age then
        F.leave(r)
        F.finish(r, EXPIRED)
        F.enter(r)
        changed = true
      end
    end
    if changed then
      count = count + 1
      if count == STEP then
        go_on = tonumber(seen[i * 2]) + 1
        break
      end
    end
  end
  if #S.agenda > 0 then F.propagate(16) end
  F.done()
  return { 'ok', now, S.meta[M_NT], S.meta[M_RUN], count, go_on }
end
