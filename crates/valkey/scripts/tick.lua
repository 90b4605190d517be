-- What time brings about, a bounded part of it at once.

local function lose(r)
  local started = has(r.flags, F_STARTED)
  local worker = r.worker
  leave(r)
  r.lost = r.lost + 1
  local exhausted = started and r.att > policy_of(r).retries
  if not exhausted and r.lost < 10 then
    ready(r)
  else
    fail_with(r, 'lease_lost', exhausted, string.format(
      'the lease of worker "%s" ran out; %d leases were lost and %d attempts charged',
      worker, r.lost, r.att))
    finish(r, FAILED)
  end
  enter(r)
end

local function deadline_of(r) return max(r.dl, meta.rev + r.dur) end

local function take(key, budget)
  return call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, budget)
end

local function expire(budget)
  local ids = take(P .. 'ex', budget)
  load_all(ids)
  for _, id in ipairs(ids) do
    local r = load(id)
    if r and r.state <= SCHEDULED and r.exp > 0 then
      leave(r)
      finish(r, EXPIRED)
      enter(r)
    else
      put(P .. 'ex', id, false)
    end
  end
  return #ids
end

local function reap(budget)
  local members = take(P .. 'ls', budget)
  for _, member in ipairs(members) do
    local queue, tenant, id = string.match(member, '^([^%z]*)%z([^%z]*)%z(.*)$')
    local r = load(id)
    if not r then
      put(P .. 'ls', member, false)
      damaged(id, queue, tenant, PROCESSING)
      tenant_lease(Q(queue), tenant, -1)
    elseif r.state ~= PROCESSING then
      put(P .. 'ls', member, false)
    elseif deadline_of(r) > now then
      r.dl = deadline_of(r)
      touch(r)
      put(P .. 'ls', member, r.dl)
    else
      lose(r)
    end
  end
  return #members
end

local function promote(budget)
  local n = 0
  for _, queue in ipairs(take(P .. 'dq', 16)) do
    local ids = take(P .. 'd:' .. queue, budget - n)
    load_all(ids)
    for _, id in ipairs(ids) do
      local r = load(id)
      if not r then
        put(P .. 'd:' .. queue, id, false)
        damaged(id, queue, '', SCHEDULED)
      elseif r.state ~= SCHEDULED then
        put(P .. 'd:' .. queue, id, false)
      else
        leave(r)
        ready(r)
        enter(r)
      end
    end
    due[queue] = true
    n = n + #ids
    if n >= budget then break end
  end
  return n
end

local function forget_keys(budget)
  local ids = take(P .. 'kt', budget)
  for _, id in ipairs(ids) do
    put(P .. 'kt', id, false)
    local r = load(id)
    if r and has(r.flags, F_REMEMBERED) then
      local o = options_of(r.S)
      local key = P .. 'dk:' .. r.queue .. '\0' .. r.tenant .. '\0' .. o.key
      if call('GET', key) == id then gone[#gone + 1] = key end
      r.flags = r.flags - F_REMEMBERED
      touch(r)
      if r.state > PROCESSING then age_if_free(r) end
    end
  end
  return #ids
end

local function forget(key, keep, most, budget)
  local old = call('ZRANGEBYSCORE', key, '-inf', now - keep, 'LIMIT', 0, budget)
  local surplus = call('ZCARD', key) - most
  if surplus > #old then old = call('ZRANGE', key, 0, min(surplus, budget) - 1) end
  load_all(old)
  for _, id in ipairs(old) do
    local r = load(id)
    if r and r.state > PROCESSING and not has_children(r) then
      purge(r)
    else
      put(key, id, false)
    end
  end
  return #old
end

local function first(key)
  local got = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return tonumber(got[2] or FOREVER)
end

local function throttled()
  for _, queue in ipairs(take(P .. 'th', 64)) do
    put(P .. 'th', queue, false)
    wake[queue] = true
  end
end

-- Does what is due, about `budget` changes of it, if anything is.
local function tick(budget)
  if now < meta.nt then return end
  local left = budget - expire(budget)
  if left > 0 then left = left - reap(left) end
  if left > 0 then left = left - promote(left) end
  if left > 0 then
    for _, id in ipairs(call('ZRANGE', P .. 'ag', 0, 15)) do
      put(P .. 'ag', id, false)
      agenda[#agenda + 1] = id
    end
    if #agenda > 0 then propagate(left) end
    left = left - forget_keys(left)
  end
  if left > 0 then left = left - forget(P .. 'fi', cfg.keep_finished, cfg.max_finished, left) end
  if left > 0 then left = left - forget(P .. 'de', cfg.keep_failed, cfg.max_failed, left) end
  throttled()
  for _, id in ipairs(agenda) do put(P .. 'ag', id, 0) end
  agenda = {}
  flush()
  local next = min(first(P .. 'ls'), first(P .. 'dq'), first(P .. 'ex'), first(P .. 'kt'),
    first(P .. 'fi') + cfg.keep_finished, first(P .. 'de') + cfg.keep_failed, first(P .. 'th'))
  if left <= 0 or call('EXISTS', P .. 'ag') == 1 then next = 0 end
  meta.nt = next
  meta_dirty = true
end
