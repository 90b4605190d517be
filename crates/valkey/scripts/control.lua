-- What can be changed by hand.

function F.cancel(r)
  if r[R_STATE] == CANCELLED then return ALREADY end
  if r[R_STATE] > PROCESSING then return STALE end
  F.leave(r)
  F.finish(r, CANCELLED)
  F.enter(r)
  return APPLIED
end

function F.requeue(r)
  if r[R_STATE] <= SCHEDULED then return ALREADY end
  if r[R_STATE] == PROCESSING then return STALE end
  local o = F.options_of(r[R_S])
  F.leave(r)
  local locations = F.section(r[R_X], 'l')
  r[R_X] = locations and F.with_section('', 'l', locations) or ''
  F.ready(r)
  r[R_ATT], r[R_LOST], r[R_FIRST] = 0, 0, 0
  r[R_EXP] = o.expires >= 0 and now + o.expires or 0
  -- What is no longer known cannot be waited for.
  local unmet = F.unmet_of(o.depends)
  if #unmet > 0 then r[R_STATE] = WAITING end
  F.enter(r)
  if #unmet > 0 then F.wait_for(r, unmet) end
  return APPLIED
end

-- Sets the limits of a queue; what its bucket holds stays, as far as it fits.
function F.configure(q, packed)
  local before = q[Q_MT]
  q[Q_ML], q[Q_MT], q[Q_RS], q[Q_RB], q[Q_MB] = unp('<ddddd', packed)
  if q[Q_RS] >= 0 then
    q[Q_FA] = min(q[Q_FA], now + F.interval(q) * q[Q_RB])
    local at = math.ceil(q[Q_FA] - F.interval(q) * (q[Q_RB] - 1))
    F.put(P .. 'th', q.name, at)
    F.soon(at)
  end
  local counts = P .. 'tl:' .. q.name
  call('DEL', counts)
  if before >= 0 or q[Q_MT] >= 0 then
    for _, prio in ipairs(call('ZRANGE', P .. 'lv:' .. q.name, 0, -1)) do
      local rg, rc = P .. 'rg:' .. q.name .. '\0' .. prio, P .. 'rc:' .. q.name .. '\0' .. prio
      call('ZUNIONSTORE', rg, 2, rg, rc, 'AGGREGATE', 'MIN')
      call('DEL', rc)
    end
  end
  if q[Q_MT] < 0 then return end
  local leased = {}
  for _, key in ipairs(call('ZRANGE', P .. 'ls', 0, -1)) do
    for _, seq in ipairs(F.held_under(key)) do
      local k = string.byte(seq) == 0 and F.block(F.named_block(seq))
      if k and k[K_QUEUE] == q.name then
        leased[k[K_TENANT]] = (leased[k[K_TENANT]] or 0) + k[K_N]
      end
      local id = string.byte(seq) ~= 0 and F.at_place(seq)
      local r = id and F.load(id)
      if r and r[R_STATE] == PROCESSING and r[R_QUEUE] == q.name then
        leased[r[R_TENANT]] = (leased[r[R_TENANT]] or 0) + 1
      end
    end
  end
  for tenant, n in pairs(leased) do call('HSET', counts, tenant, n) end
end
