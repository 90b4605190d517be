-- Ends of attempts.

function F.stands(r, ep, lo)
  return r and r[R_STATE] == PROCESSING and r[R_EP] == ep and r[R_LO] == lo and F.deadline_of(r) > now
end

-- A lease that ran out unnoticed is taken back before its batch is spoken of.
function F.missed(r)
  if r and r[R_STATE] == PROCESSING and F.deadline_of(r) <= now then F.lose(r) end
end

-- The delay before the next attempt; nothing where there is none.
function F.retry_delay(r)
  local p = F.policy_of(r)
  local retry = max(r[R_ATT] - 1, 0)
  if retry >= p.retries then return end
  local ms = 0
  if p.base > 0 then ms = min(p.base * max(p.factor, 1) ^ retry, p.cap) end
  local unit = 0.5
  if p.jitter > 0 then
    -- By batch and attempt alone: the same when it is worked out again.
    unit = tonumber(ssub(redis.sha1hex(r[R_ID] .. '\0' .. r[R_ATT]), 1, 13), 16) / 4503599627370496
  end
  local delay = floor(ms * (1 + p.jitter * (2 * unit - 1)) * 1000 + 0.5)
  if p.deadline >= 0 and now + delay > r[R_FIRST] + p.deadline * 1000 then return end
  return delay
end

function F.fail(r, error)
  F.start(r)
  F.leave(r)
  local permanent, code, message = 0, 'processor_failed', 'the worker gave no reason'
  if error ~= '' then
    local at
    permanent, code, at = unp('<BHc0', error)
    message = ssub(error, at)
  end
  F.fail_with(r, code, permanent == 1, message)
  local delay
  if permanent == 0 then delay = F.retry_delay(r) end
  if delay then F.rest(r, delay) else F.finish(r, FAILED) end
end

function F.release(r, error, delay)
  local started = F.has(r[R_FLAGS], F_STARTED)
  F.leave(r)
  if started then
    r[R_ATT] = max(r[R_ATT] - 1, 0)
    if r[R_ATT] == 0 then r[R_FIRST] = 0 end
  else
    local q = F.Q(r[R_QUEUE])
    if q[Q_RS] >= 0 then
      q[Q_FA] = q[Q_FA] - F.interval(q)
      F.put(P .. 'th', q.name, math.ceil(q[Q_FA] - F.interval(q) * (q[Q_RB] - 1)))
      S.wake[r[R_QUEUE]] = true
    end
  end
  if error ~= '' then
    local permanent, code, at = unp('<BHc0', error)
    F.fail_with(r, code, permanent == 1, ssub(error, at))
  end
  F.rest(r, delay)
end

-- One outcome; answers with what it did.
function F.settle(o)
  local r = F.load(o.id)
  if not r then
    if S.bad[o.id] then return STALE end
    return MISSING
  end
  if not F.stands(r, o.ep, o.lo) then
    F.missed(r)
    if r[R_SEP] == o.ep and r[R_SLO] == o.lo and r[R_SETTLED] == o.kind then return ALREADY end
    return STALE
  end
  if o.kind == 1 then
    F.start(r)
    F.leave(r)
    F.finish(r, COMPLETED)
    if #o.outputs > 0 then
      local ids = {}
      for i, s in ipairs(o.outputs) do ids[i] = s.id end
      r[R_X] = F.with_section(r[R_X], 'o', F.packed_ids(ids))
    end
  elseif o.kind == 2 then
    F.fail(r, o.error)
  else
    F.release(r, o.error, o.delay)
  end
  r[R_SETTLED], r[R_SEP], r[R_SLO], r[R_LOST] = o.kind, o.ep, o.lo, 0
  F.enter(r)
  return APPLIED
end

function F.begin_lease(id, ep, lo)
  local r = F.load(id)
  if not r then return MISSING end
  if not F.stands(r, ep, lo) then
    F.missed(r)
    return STALE
  end
  if F.has(r[R_FLAGS], F_STARTED) then return ALREADY end
  F.start(r)
  r[R_UPD] = now
  F.touch(r)
  return APPLIED
end

function F.state_of(id)
  local r = F.load(id)
  return r and r[R_STATE] or 0
end
