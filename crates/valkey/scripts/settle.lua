-- Ends of attempts.

function F.stands(r, ep, lo)
  return r and r.state == PROCESSING and r.ep == ep and r.lo == lo and F.deadline_of(r) > now
end

-- A lease that ran out unnoticed is taken back before its batch is spoken of.
function F.missed(r)
  if r and r.state == PROCESSING and F.deadline_of(r) <= now then F.lose(r) end
end

-- The delay before the next attempt; nothing where there is none.
function F.retry_delay(r)
  local p = F.policy_of(r)
  local retry = max(r.att - 1, 0)
  if retry >= p.retries then return end
  local ms = 0
  if p.base > 0 then ms = min(p.base * max(p.factor, 1) ^ retry, p.cap) end
  local unit = 0.5
  if p.jitter > 0 then
    -- By batch and attempt alone: the same when it is worked out again.
    unit = tonumber(ssub(redis.sha1hex(r.id .. '\0' .. r.att), 1, 13), 16) / 4503599627370496
  end
  local delay = floor(ms * (1 + p.jitter * (2 * unit - 1)) * 1000 + 0.5)
  if p.deadline >= 0 and now + delay > r.first + p.deadline * 1000 then return end
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
  local started = F.has(r.flags, F_STARTED)
  F.leave(r)
  if started then
    r.att = max(r.att - 1, 0)
    if r.att == 0 then r.first = 0 end
  else
    local q = F.Q(r.queue)
    if q.rs >= 0 then
      q.fa = q.fa - F.interval(q)
      F.put(P .. 'th', q.name, math.ceil(q.fa - F.interval(q) * (q.rb - 1)))
      S.wake[r.queue] = true
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
    if r.sep == o.ep and r.slo == o.lo and r.settled == o.kind then return ALREADY end
    return STALE
  end
  if o.kind == 1 then
    F.start(r)
    F.leave(r)
    F.finish(r, COMPLETED)
    if #o.outputs > 0 then
      local ids = {}
      for i, s in ipairs(o.outputs) do ids[i] = s.id end
      r.X = F.with_section(r.X, 'o', F.packed_ids(ids))
    end
  elseif o.kind == 2 then
    F.fail(r, o.error)
  else
    F.release(r, o.error, o.delay)
  end
  r.settled, r.sep, r.slo, r.lost = o.kind, o.ep, o.lo, 0
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
  if F.has(r.flags, F_STARTED) then return ALREADY end
  F.start(r)
  r.upd = now
  F.touch(r)
  return APPLIED
end

function F.state_of(id)
  local r = F.load(id)
  return r and r.state or 0
end
