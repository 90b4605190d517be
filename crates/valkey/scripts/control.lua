-- What can be changed by hand.

function F.cancel(r)
  if r.state == CANCELLED then return ALREADY end
  if r.state > PROCESSING then return STALE end
  F.leave(r)
  F.finish(r, CANCELLED)
  F.enter(r)
  return APPLIED
end

function F.requeue(r)
  if r.state <= SCHEDULED then return ALREADY end
  if r.state == PROCESSING then return STALE end
  local o = F.options_of(r.S)
  F.leave(r)
  local locations = F.section(r.X, 'l')
  r.X = locations and F.with_section('', 'l', locations) or ''
  F.ready(r)
  r.att, r.lost, r.first = 0, 0, 0
  r.exp = o.expires >= 0 and now + o.expires or 0
  -- What is no longer known cannot be waited for.
  local unmet = F.unmet_of(o.depends)
  if #unmet > 0 then r.state = WAITING end
  F.enter(r)
  if #unmet > 0 then F.wait_for(r, unmet) end
  return APPLIED
end

-- Sets the limits of a queue; what its bucket holds stays, as far as it fits.
function F.configure(q, packed)
  local before = q.mt
  q.ml, q.mt, q.rs, q.rb, q.mb = unp('<ddddd', packed)
  if q.rs >= 0 then
    q.fa = min(q.fa, now + F.interval(q) * q.rb)
    local at = math.ceil(q.fa - F.interval(q) * (q.rb - 1))
    F.put(P .. 'th', q.name, at)
    F.soon(at)
  end
  local counts = P .. 'tl:' .. q.name
  call('DEL', counts)
  if before >= 0 or q.mt >= 0 then
    for _, prio in ipairs(call('ZRANGE', P .. 'lv:' .. q.name, 0, -1)) do
      local rg, rc = P .. 'rg:' .. q.name .. '\0' .. prio, P .. 'rc:' .. q.name .. '\0' .. prio
      call('ZUNIONSTORE', rg, 2, rg, rc, 'AGGREGATE', 'MIN')
      call('DEL', rc)
    end
  end
  if q.mt < 0 then return end
  local leased = {}
  for _, member in ipairs(call('ZRANGE', P .. 'ls', 0, -1)) do
    local queue, tenant = string.match(member, '^([^%z]*)%z([^%z]*)%z')
    if queue == q.name then leased[tenant] = (leased[tenant] or 0) + 1 end
  end
  for tenant, n in pairs(leased) do call('HSET', counts, tenant, n) end
end
