-- Whether the batch at a place is in a block that is left as it is.
function F.is_apart_from(what, states, place)
  local k = S.swept
  if not F.any_blocks() then return false end
  if not k or place < k[K_FIRST] or place >= k[K_FIRST] + k[K_N] then
    local first = call('ZREVRANGEBYSCORE', P .. 'bk', place, '-inf', 'LIMIT', 0, 1)[1]
    k = first and F.block(tonumber(first))
    S.swept = k
  end
  if not k or place < k[K_FIRST] + k[K_GONE] or place >= k[K_FIRST] + k[K_N] then return false end
  if what == 'requeue' then return true end
  if what == 'purge' then return k[K_STATE] ~= COMPLETED or not F.has(states, 2 ^ (COMPLETED - 1)) end
  return k[K_STATE] ~= PENDING
end

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
  local seen = F.behind(string.format('%.0f', tonumber(from) - 1), SCAN)
  local ids, asked = {}, {}
  for i = 1, #seen, 2 do
    ids[#ids + 1] = seen[i]
    -- Others in blocks are not concerned, and stay there.
    if not F.is_apart_from(what, states, tonumber(seen[i + 1])) then asked[#asked + 1] = seen[i] end
  end
  F.load_all(asked)
  local wanted = {}
  for _, id in ipairs(asked) do wanted[id] = true end
  local go_on = -1
  if #ids == SCAN then go_on = tonumber(seen[#seen]) + 1 end
  local count = 0
  for i, id in ipairs(ids) do
    local r = wanted[id] and F.load(id)
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
  return { 'ok', now, S.meta[M_NT], S.meta[M_RUN], F.happened(), count, go_on }
end
