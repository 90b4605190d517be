-- What can be changed by hand.

local function cancel(r)
  if r.state == CANCELLED then return ALREADY end
  if r.state > PROCESSING then return STALE end
  leave(r)
  finish(r, CANCELLED)
  enter(r)
  return APPLIED
end

local function requeue(r)
  if r.state <= SCHEDULED then return ALREADY end
  if r.state == PROCESSING then return STALE end
  local o = options_of(r.S)
  leave(r)
  local locations = section(r.X, 'l')
  r.X = locations and with_section('', 'l', locations) or ''
  ready(r)
  r.att, r.lost, r.first = 0, 0, 0
  r.exp = o.expires >= 0 and now + o.expires or 0
  -- What is no longer known cannot be waited for.
  local unmet = unmet_of(o.depends)
  if #unmet > 0 then r.state = WAITING end
  enter(r)
  if #unmet > 0 then wait_for(r, unmet) end
  return APPLIED
end

-- Sets the limits of a queue; what its bucket holds stays, as far as it fits.
local function configure(q, packed)
  local before = q.mt
  q.ml, q.mt, q.rs, q.rb, q.mb = unp('<ddddd', packed)
  if q.rs >= 0 then
    q.fa = min(q.fa, now + interval(q) * q.rb)
    local at = math.ceil(q.fa - interval(q) * (q.rb - 1))
    put(P .. 'th', q.name, at)
    soon(at)
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
