-- What time brings about, a bounded part of it at once.

function F.lose(r)
  local started = F.has(r[R_FLAGS], F_STARTED)
  local worker = r[R_WORKER]
  F.leave(r)
  r[R_LOST] = r[R_LOST] + 1
  local exhausted = started and r[R_ATT] > F.policy_of(r).retries
  if not exhausted and r[R_LOST] < 10 then
    F.ready(r)
  else
    F.fail_with(r, 'lease_lost', exhausted, string.format(
      'the lease of worker "%s" ran out; %d leases were lost and %d attempts charged',
      worker, r[R_LOST], r[R_ATT]))
    F.finish(r, FAILED)
  end
  F.enter(r)
end

function F.deadline_of(r) return max(r[R_DL], S.meta[M_REV] + r[R_DUR]) end

function F.take(key, budget)
  return call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, budget)
end

function F.expire(budget)
  local ids = F.take(P .. 'ex', budget)
  F.load_all(ids)
  for _, id in ipairs(ids) do
    local r = F.load(id)
    if r and r[R_STATE] <= SCHEDULED and r[R_EXP] > 0 then
      F.leave(r)
      F.finish(r, EXPIRED)
      F.enter(r)
    else
      F.put(P .. 'ex', id, false)
    end
  end
  return #ids
end

-- Leases that ran out, claim by claim.
function F.reap(budget)
  local n = 0
  for _, key in ipairs(F.take(P .. 'ls', 16)) do
    if n >= budget then break end
    if string.byte(key) == 0 then n = n + F.reap_shared(key) else n = F.reap_claim(key, n, budget) end
  end
  return n
end

-- What taking a block apart costs beside what a batch costs that is seen to.
function F.cost_of(k) return math.ceil((k[K_N] - k[K_GONE]) / 8) end

-- A block that several claims share: each by itself as soon as they are due.
function F.reap_shared(name)
  local first = F.named_block(name)
  local k = F.block(first)
  local at = k and max(k[K_DL], S.meta[M_REV] + k[K_DUR])
  if not k then
    call('ZREM', P .. 'ls', name)
    F.lost_block(first)
  elseif at > now then
    F.put(P .. 'ls', name, at)
  else
    F.take_apart(k)
    return F.cost_of(k)
  end
  return 1
end

-- Answers how many were looked at, those before included.
function F.reap_claim(key, n, budget)
  local next = FOREVER
  for _, seq in ipairs(call('SMEMBERS', P .. 'cl:' .. key)) do
    if n >= budget then
      -- The rest of this claim is due still.
      next = now
      break
    end
    n = n + 1
    local block = string.byte(seq) == 0 and F.block(F.named_block(seq))
    local id, r
    if block then
      local at = max(block[K_DL], S.meta[M_REV] + block[K_DUR])
      if at <= now then
        -- Each by itself at once.
        F.take_apart(block)
        n = n + F.cost_of(block) - 1
        at = now
      end
      next = min(next, at)
    elseif string.byte(seq) == 0 then
      F.lost_block(F.named_block(seq))
      call('SREM', P .. 'cl:' .. key, seq)
    else
      id = F.at_place(seq)
      r = id and F.load(id)
    end
    if string.byte(seq) == 0 then
      -- Seen to.
    elseif r and r[R_STATE] == PROCESSING and r[R_WORKER] .. '\0' .. r[R_REQ] == key then
      local at = F.deadline_of(r)
      if at > now then next = min(next, at) else F.lose(r) end
    else
      S.claims[key] = S.claims[key] or { ids = {}, dl = FOREVER }
      S.claims[key].ids[tonumber(seq)] = false
      if id and not r then F.damaged(id, 'default', '', PROCESSING) end
    end
  end
  F.put(P .. 'ls', key, next < FOREVER and next)
  return n
end

function F.promote(budget)
  local n = 0
  for _, queue in ipairs(F.take(P .. 'dq', 16)) do
    local ids = F.take(P .. 'd:' .. queue, budget - n)
    F.load_all(ids)
    for _, id in ipairs(ids) do
      local r = F.load(id)
      if not r then
        F.put(P .. 'd:' .. queue, id, false)
        F.damaged(id, queue, '', SCHEDULED)
      elseif r[R_STATE] ~= SCHEDULED then
        F.put(P .. 'd:' .. queue, id, false)
      else
        F.leave(r)
        F.ready(r)
        F.enter(r)
      end
    end
    S.due[queue] = true
    n = n + #ids
    if n >= budget then break end
  end
  return n
end

function F.forget_keys(budget)
  local ids = F.take(P .. 'kt', budget)
  for _, id in ipairs(ids) do
    F.put(P .. 'kt', id, false)
    local r = F.load(id)
    if r and F.has(r[R_FLAGS], F_REMEMBERED) then
      local o = F.options_of(r[R_S])
      local key = P .. 'dk:' .. r[R_QUEUE] .. '\0' .. r[R_TENANT] .. '\0' .. o.key
      if call('GET', key) == id then S.gone[#S.gone + 1] = key end
      r[R_FLAGS] = r[R_FLAGS] - F_REMEMBERED
      F.touch(r)
      if r[R_STATE] > PROCESSING then F.age_if_free(r) end
    end
  end
  return #ids
end

function F.count_all() return call('ZCARD', P .. 'od') + S.meta[M_BL] end

-- How many are in an index of terminal batches, those that others wait for included.
function F.count_of(key)
  local failed = call('ZCARD', P .. 'de')
  if key == P .. 'de' then return failed end
  return F.count_all() - S.meta[M_LV] - failed
end

-- Forgets a completed block as a whole.
function F.purge_block(k)
  call('DEL', unpack(F.keys_of(k)))
  F.drop_block(k)
  local q = F.Q(k[K_QUEUE], true)
  q[COMPLETED], q[Q_PU], q.dirty = q[COMPLETED] - k[K_N], q[Q_PU] + k[K_N], true
  F.went(9, k[K_N])
end

-- A block of those to forget, where it has no more than `most`; what that was of the
-- budget.
function F.forget_block(member, most)
  local k = F.block(F.named_block(member))
  if not k then
    F.lost_block(F.named_block(member))
  elseif S.meta[M_WU] > now or k[K_N] > most then
    F.take_apart(k)
  else
    F.purge_block(k)
  end
  return 4
end

function F.forget(key, age, most, budget)
  local old = call('ZRANGEBYSCORE', key, '-inf', now - age, 'LIMIT', 0, budget)
  local surplus = F.count_of(key) - most
  -- Those that are old go whatever their number.
  local most_in_block = FOREVER
  if surplus > #old then
    most_in_block = surplus
    old = call('ZRANGE', key, 0, min(surplus, budget) - 1)
  end
  local ids, spent = {}, 0
  for _, member in ipairs(old) do
    if string.byte(member) ~= 0 then
      ids[#ids + 1] = member
    elseif spent < budget then
      local before = F.count_of(key)
      spent = spent + F.forget_block(member, most_in_block)
      most_in_block = most_in_block - (before - F.count_of(key))
    end
    if most_in_block <= #ids then break end
  end
  F.load_all(ids)
  for _, id in ipairs(ids) do
    local r = F.load(id)
    if r and r[R_STATE] > PROCESSING and not F.has_children(r) then
      F.purge(r)
    else
      F.put(key, id, false)
    end
  end
  return #ids + spent
end

function F.first(key)
  local got = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return tonumber(got[2] or FOREVER)
end

function F.throttled()
  for _, queue in ipairs(F.take(P .. 'th', 64)) do
    F.put(P .. 'th', queue, false)
    S.wake[queue] = true
  end
end

-- Does what is due, about `budget` changes of it, if anything is.
function F.tick(budget)
  if now < S.meta[M_NT] then return end
  local left = budget - F.expire(budget)
  if left > 0 then left = left - F.reap(left) end
  if left > 0 then left = left - F.promote(left) end
  if left > 0 then
    for _, id in ipairs(call('ZRANGE', P .. 'ag', 0, 15)) do
      F.put(P .. 'ag', id, false)
      S.agenda[#S.agenda + 1] = id
    end
    if #S.agenda > 0 then F.propagate(left) end
    left = left - F.forget_keys(left)
  end
  if left > 0 then left = left - F.forget(P .. 'fi', S.cfg.keep_finished, S.cfg.max_finished, left) end
  if left > 0 then left = left - F.forget(P .. 'de', S.cfg.keep_failed, S.cfg.max_failed, left) end
  F.throttled()
  for _, id in ipairs(S.agenda) do F.put(P .. 'ag', id, 0) end
  S.agenda = {}
  F.flush()
  local next = min(F.first(P .. 'ls'), F.first(P .. 'dq'), F.first(P .. 'ex'), F.first(P .. 'kt'),
    F.first(P .. 'fi') + S.cfg.keep_finished, F.first(P .. 'de') + S.cfg.keep_failed, F.first(P .. 'th'))
  if left <= 0 or call('EXISTS', P .. 'ag') == 1 then next = 0 end
  S.meta[M_NT] = next
  S.meta_dirty = true
end
