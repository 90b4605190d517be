-- Claiming: whose turn it is, and the leases.

-- The ready batches of one queue in the order in which they are given out:
-- by priority; within one, the tenants take turns by name, each its oldest.
function F.heads(q, want)
  return { q = q, left = F.room(q), levels = {}, level_at = 0, want = want,
    lv = P .. 'lv:' .. q.name }
end

function F.next_level(h)
  local q = h.q
  h.level_at = h.level_at + 1
  if h.level_at > #h.levels then
    local more = call('ZRANGE', h.lv, #h.levels, #h.levels + 7)
    if #more == 0 then return false end
    for _, prio in ipairs(more) do h.levels[#h.levels + 1] = prio end
  end
  local prio = h.levels[h.level_at]
  local level = { prio = tonumber(prio), rg = P .. 'rg:' .. q.name .. '\0' .. prio,
    rc = P .. 'rc:' .. q.name .. '\0' .. prio, names = {}, name_at = 0, going = {}, from = 1,
    to = 0, turn = call('HGET', P .. 'tn:' .. q.name, prio), q = q, given = {} }
  level.stored = level.turn
  level.tenants = call('ZCARD', level.rg)
  if q[Q_MT] >= 0 then level.tenants = level.tenants + call('ZCARD', level.rc) end
  -- After the one that was served last, then from the first on.
  if level.turn then
    level.ranges = { '(' .. level.turn, '+', '-', '[' .. level.turn }
  else
    level.ranges = { '-', '+' }
  end
  level.range_at, level.offset = 1, 0
  h.level = level
  return true
end

function F.next_tenant(level)
  while level.range_at < #level.ranges do
    if level.name_at < #level.names then
      level.name_at = level.name_at + 1
      return level.names[level.name_at]
    end
    if level.last then return end
    local from, to = level.ranges[level.range_at], level.ranges[level.range_at + 1]
    level.names = call('ZRANGEBYLEX', level.rg, from, to, 'LIMIT', level.offset, 64)
    level.name_at = 0
    level.offset = level.offset + #level.names
    if #level.names < 64 then
      -- Nothing follows in this range.
      level.range_at = level.range_at + 2
      level.offset = 0
      if level.range_at > #level.ranges then
        level.last = true
        level.range_at = 1
      end
    end
  end
end

-- Whether the tenant may have one more; it then has it.
function F.may_have(level, tenant)
  local q = level.q
  if q[Q_MT] < 0 then return true end
  q.free = q.free or {}
  if not q.free[tenant] then
    q.free[tenant] = q[Q_MT] - tonumber(call('HGET', P .. 'tl:' .. q.name, tenant) or 0)
    if q.free[tenant] <= 0 then
      -- It is out of the ring until one of its leases ends.
      F.put(level.rg, tenant, false)
      F.put(level.rc, tenant, 0)
    end
  end
  if q.free[tenant] <= 0 then return false end
  q.free[tenant] = q.free[tenant] - 1
  return true
end

function F.oldest(h, level, line)
  if line.at >= #line.batches then
    local n = line.chunk
    if level.tenants == 1 then n = max(h.want, 1) end
    local from = line.offset
    F.unfold(h.q.name, level.prio, line.tenant, from + n)
    line.batches = call('ZRANGE', line.key, from, from + n - 1, 'WITHSCORES')
    line.offset = from + n
    line.chunk = min(n * 4, 256)
    line.at = 0
  end
  local at = line.at
  local id = line.batches[at + 1]
  if not id then return end
  line.at = at + 2
  return { id = id, seq = tonumber(line.batches[at + 2]), prio = level.prio,
    tenant = line.tenant, level = level, key = line.key }
end

function F.step(h)
  while true do
    local level = h.level
    if not level then
      if not F.next_level(h) then return end
      level = h.level
    end
    local line
    local tenant = F.next_tenant(level)
    if tenant then
      line = { tenant = tenant, key = F.list_key(h.q.name, level.prio, tenant), batches = {},
        at = 0, offset = 0, chunk = 4 }
    else
      line = level.going[level.from]
      if line then
        level.going[level.from] = nil
        level.from = level.from + 1
      else
        h.level = nil
      end
    end
    if line then
      local found = F.oldest(h, level, line)
      if found and F.may_have(level, line.tenant) then
        level.to = level.to + 1
        level.going[level.to] = line
        return found
      end
    end
  end
end

-- The next one that this queue would give.
function F.peek(h)
  if h.head == nil then
    h.head = false
    if h.left > 0 then
      h.left = h.left - 1
      h.head = F.step(h) or false
    end
  end
  return h.head
end

-- Notes whose turn it was, as long as several wait.
function F.serve(c)
  local level = c.level
  if not (level.tenants == 1 and not level.turn) then level.turn = c.tenant end
  local list = level.given[c.tenant]
  if not list then
    list = { key = c.key, ids = {}, left = call('ZCARD', c.key)
      + call('ZCARD', F.ready_blocks(level.q.name, level.prio, c.tenant)) }
    level.given[c.tenant] = list
  end
  list.ids[#list.ids + 1] = c.id
  list.left = list.left - 1
  if list.left == 0 then
    level.tenants = level.tenants - 1
    if level.tenants == 0 then level.turn = false end
  end
end

-- What was given is no longer ready.
function F.take_out(levels)
  for level in pairs(levels) do
    for tenant, list in pairs(level.given) do
      if list.left == 0 then
        call('DEL', list.key)
        call('ZREM', level.rg, tenant)
        if level.q[Q_MT] >= 0 then call('ZREM', level.rc, tenant) end
      else
        F.many('ZREM', list.key, list.ids)
      end
    end
    if level.tenants == 0 then call('ZREM', P .. 'lv:' .. level.q.name, level.prio) end
    if level.turn ~= level.stored then
      if level.turn then
        call('HSET', P .. 'tn:' .. level.q.name, level.prio, level.turn)
      else
        call('HDEL', P .. 'tn:' .. level.q.name, level.prio)
      end
    end
  end
end

function F.lend(r, c)
  -- The token: above all before it, and not under the time.
  S.meta[M_LO] = max(S.meta[M_LO] + 1, floor(now / 1000))
  S.meta_dirty = true
  if F.has(r[R_FLAGS], F_SAME) then
    r[R_SEP], r[R_SLO] = r[R_EP], r[R_LO]
    r[R_FLAGS] = r[R_FLAGS] - F_SAME
  end
  r[R_STATE] = PROCESSING
  r[R_EP], r[R_LO] = S.meta[M_EP], S.meta[M_LO]
  r[R_EXP] = 0
  if r[R_X] ~= '' and F.section(r[R_X], 'p') then r[R_X] = F.with_section(r[R_X], 'p') end
  r[R_WORKER], r[R_REQ] = c.worker, c.request
  r[R_DL], r[R_CLA], r[R_DUR] = now + c.lease, now, c.lease
  if c.start then F.start(r) end
end

-- From pending to lent, where the list of ready ones is left to the caller.
function F.give(r, c)
  local q = F.Q(r[R_QUEUE], true)
  if q[Q_RS] >= 0 then
    q[Q_FA] = max(q[Q_FA], now) + F.interval(q)
    if F.tokens(q) == 0 then
      local at = math.ceil(q[Q_FA] - F.interval(q) * (q[Q_RB] - 1))
      F.put(P .. 'th', q.name, at)
      F.soon(at)
    end
  end
  q[PENDING] = q[PENDING] - 1
  F.unused(r, q)
  q[Q_LR], q[Q_LB] = q[Q_LR] - r[R_ROWS], q[Q_LB] - r[R_BYTES]
  S.meta[M_LV], S.meta[M_LB] = S.meta[M_LV] - 1, S.meta[M_LB] - r[R_BYTES]
  q.dirty = true
  if r[R_EXP] > 0 then F.put(P .. 'ex', r[R_ID], false) end
  F.waited(1, now - F.ready_since(r))
  r[R_FROM] = PENDING
  F.lend(r, c)
  F.enter(r)
end

-- When it became what it is, which the caller knows to be ready.
function F.ready_since(r) return r[R_UPD] > 0 and r[R_UPD] or F.registered(r) end

function F.is_near(r, c)
  if now - F.ready_since(r) >= S.cfg.near_wait then return true end
  return bit.band(r[R_HOME], c.home) ~= 0
end

-- Candidates in order, at most `n` of them.
function F.gather(sources, n, candidates)
  while #candidates < n do
    local best, from
    for _, source in ipairs(sources) do
      local head = F.peek(source)
      if head and (not best or head.prio > best.prio
        or (head.prio == best.prio and head.seq < best.seq)) then
        best, from = head, source
      end
    end
    if not best then return end
    from.head = nil
    candidates[#candidates + 1] = best
  end
end

-- Reads their records; what cannot be read fails.
function F.read_candidates(candidates)
  local ids = {}
  for i, c in ipairs(candidates) do ids[i] = c.id end
  F.load_all(ids)
  local good = {}
  for _, c in ipairs(candidates) do
    local r = F.load(c.id)
    if r and r[R_STATE] == PENDING then
      r[R_SEQ] = c.seq
      good[#good + 1] = c
    else
      F.put(c.key, c.id, false)
      S.lists[c.key] = { [R_QUEUE] = c.level.q.name, [R_PRIO] = c.prio, [R_TENANT] = c.tenant }
      S.wake[c.level.q.name] = true
      if not r then F.damaged(c.id, c.level.q.name, c.tenant, PENDING) end
    end
  end
  return good
end

-- The same where nothing is special: one queue without limits on tenants or
-- rate, one tenant, and batches to which nothing has happened yet. Then the
-- oldest are given out by few commands, however many they are. Answers with
-- nothing, and has changed nothing, where that is not so; after the leases, how
-- many more there may be that are not so plain.
function F.select_plain(c)
  local q = #c.queues == 1 and F.Q(c.queues[1])
  if not q or q[Q_MT] >= 0 or q[Q_RS] >= 0 or S.meta[M_WU] > now or c.max > CHUNK / 2 then return end
  local n = min(c.max, F.room(q))
  if n == 0 then return end
  local prio, tenant, more = 0, '', false
  if q[PENDING] == 0 then return { FOREVER }, 0 end
  if q[Q_MIXED] ~= 0 then
    local levels = call('ZRANGE', P .. 'lv:' .. q.name, 0, 1)
    prio, more = levels[1], levels[2]
    if not prio then return end
    local tenants = call('ZRANGE', P .. 'rg:' .. q.name .. '\0' .. prio, 0, 1)
    if #tenants ~= 1 or call('HEXISTS', P .. 'tn:' .. q.name, prio) == 1 then return end
    tenant = tenants[1]
  end
  local t = { c = c, q = q, prio = prio, tenant = tenant, left = n, taken = 0, rows = 0, bytes = 0,
    list = F.list_key(q.name, prio, tenant), blocks = F.ready_blocks(q.name, prio, tenant),
    lo = max(S.meta[M_LO] + 1, floor(now / 1000)) - 1, near = now - S.cfg.near_wait - BASE,
    out = { FOREVER }, values = {}, members = {} }
  local result = F.take_plain(t)
  if t.taken == 0 and (result == nil or more) then return end
  if t.taken > 0 then F.lend_plain(t) end
  if result == nil or (result == false and more) then return t.out, t.left, t end
  return t.out, 0
end

-- Takes from blocks and list in the order of places. True where there is enough,
-- false where there are no more, nothing where the next is not plain.
function F.take_plain(t)
  while t.left > 0 do
    local first = F.any_blocks() and call('ZRANGE', t.blocks, 0, 0)[1]
    local k = first and F.block(tonumber(first))
    if first and not k then
      F.lost_block(tonumber(first))
      call('ZREM', t.blocks, first)
      return
    end
    local head = k and k[K_FIRST] + k[K_GONE]
    local listed = k and call('ZRANGE', t.list, 0, 0, 'WITHSCORES')[2]
    local result
    if k and not (listed and tonumber(listed) < head) then
      result = F.take_block(t, k)
    else
      result = F.take_listed(t, head)
    end
    if result ~= true then return result end
    if t.full then return true end
  end
  return true
end

-- Whether one more of this size fits.
function F.fits_in(t, rows, bytes)
  if t.taken > 0 and (t.bytes + bytes > t.c.max_bytes or t.rows + rows > t.c.max_rows) then
    t.full = true
    return false
  end
  t.rows, t.bytes, t.taken, t.left = t.rows + rows, t.bytes + bytes, t.taken + 1, t.left - 1
  return true
end

-- Those at the head of the list, as far as they are before a place.
function F.take_listed(t, before)
  local got
  if before then
    got = call('ZRANGEBYSCORE', t.list, '-inf', '(' .. before, 'WITHSCORES', 'LIMIT', 0, t.left)
  else
    got = call('ZRANGE', t.list, 0, t.left - 1, 'WITHSCORES')
  end
  local found = #got / 2
  if found == 0 then return false end
  local bkeys, skeys = {}, {}
  local pb, ps = P .. 'b:', P .. 's:'
  for i = 1, found do
    local id = got[i * 2 - 1]
    bkeys[i], skeys[i] = pb .. id, ps .. id
  end
  local used = t.q[Q_USED] > 0 and call('MGET', unpack(skeys)) or {}
  local raws = call('MGET', unpack(bkeys))
  for i = 1, found do
    local raw, since = raws[i], tonumber(got[i * 2])
    if not raw or #raw < BLEN then return end
    local ver, fixed, _, _, _, at = unp('<BBi4I8I8I4', raw)
    if ver ~= 1 or fixed ~= 0 then return end
    if used[i] then
      used[i] = F.used(used[i])
      if not used[i] then return end
      since = used[i].since - BASE
    end
    if t.c.home ~= 0 and since > t.near and bit.band(t.c.home, at) == 0 then return end
  end
  local taken = 0
  for i = 1, found do
    local _, _, _, rows, bytes = unp('<BBi4I8I8', raws[i])
    if not F.fits_in(t, rows, bytes) then break end
    taken = i
    F.lend_one(t, got[i * 2 - 1], skeys[i], raws[i], got[i * 2], rows, bytes, used[i])
  end
  if taken > 0 then call('ZREMRANGEBYRANK', t.list, 0, taken - 1) end
  return found > 0
end

-- The state of a ready batch that was given out before, if that is all: none of its time
-- is limited, its work has got nowhere, and it is where it was.
function F.used(s)
  if #s < SLEN + TLEN then return end
  local u = { unp(SHEAD, s) }
  if u[1] ~= 1 or u[2] ~= PENDING or u[8] ~= 0 or u[6] == 0 or F.has(u[3], F_STARTED) then return end
  u.x, u.since = ssub(s, SLEN + 1, -TLEN - 1), u[6]
  if u.x ~= '' then
    local ok, more = pcall(function() return F.section(u.x, 'p') or F.section(u.x, 'l') end)
    if not ok or more then return end
  end
  if F.has(u[3], F_SAME) then
    u[3] = u[3] - F_SAME
    local _
    _, _, _, _, u[11], u[12] = unp(TAIL, s, #s - TLEN + 1)
  end
  return u
end

-- The head of its state under lease.
function F.lend_used(t, u)
  u[2], u[6] = PROCESSING, now
  if t.c.start then
    u[3], u[9] = u[3] + F_STARTED, u[9] + 1
    if u[10] == 0 then u[10] = now end
  end
  if t.singles then u[3] = u[3] + F_ALONE end
  t.q[Q_USED] = t.q[Q_USED] - 1
  return pack(SHEAD, unpack(u, 1, 12))
end

-- One lease of its own; `used` is its state where it was given out before.
function F.lend_one(t, id, skey, raw, place, rows, bytes, used)
  local c, out, values = t.c, t.out, t.values
  local v, o = #values, #out
  if not t.lease or t.singles then
    local worker, request, flags, name = c.worker, c.request, c.start and 1 or 0, t.q.name
    local began = flags
    if t.singles then
      worker, request = F.parts_of(t.singles[t.taken])
      flags = flags + F_ALONE
    end
    t.lease = pack(LEASE, c.lease, now, #worker, worker, #request, request, #name, name)
    t.common = pack(SHEAD, 1, PROCESSING, flags, 0, 0, now, 0, 0, began, began * now, 0, 0) .. t.lease
  end
  local common, ready_since = t.common, place + BASE
  if used then
    ready_since = used.since
    common = F.lend_used(t, used) .. t.lease .. used.x
  end
  local s = common .. pack(TAIL, now + c.lease, rows, bytes, place, S.meta[M_EP], t.lo + t.taken)
  values[v + 1], values[v + 2] = skey, s
  if t.singles then
    out[o + 1], out[o + 2] = 4, t.next_due
    o = o + 2
    t.few[#t.few + 1] = t.taken
  end
  out[o + 1], out[o + 2], out[o + 3] = id, raw, s
  t.members[#t.members + 1] = place
  F.waited(1, now - ready_since)
  if S.busy then S.recs[id] = nil end
end

-- From a block: as one again, or, where they are few, each by itself.
function F.take_block(t, k)
  local c, gone = t.c, k[K_GONE]
  local there = k[K_N] - gone
  local want = min(t.left, there)
  if c.home ~= 0 and k[K_FIRST] + k[K_N] > t.near and bit.band(c.home, k[K_HOME]) == 0 then return end
  k.keys = k.keys or F.keys_of(k)
  local raws = call('MGET', unpack(k.keys, gone + 1, gone + want))
  for i = 1, want do
    local raw = raws[i]
    if not raw or #raw < BLEN or string.byte(raw) ~= 1 then return end
  end
  local taken_before, rows, bytes = t.taken, 0, 0
  local is_whole = want == there and want >= BLOCK_MIN and t.bytes + k[K_BYTES] <= c.max_bytes
    and t.rows + k[K_ROWS] <= c.max_rows
  if is_whole then
    rows, bytes = k[K_ROWS], k[K_BYTES]
    t.rows, t.bytes, t.taken, t.left = t.rows + rows, t.bytes + bytes, t.taken + want, t.left - want
  else
    local sizes = {}
    local count = 0
    for i = 1, want do
      local _, _, _, r, b = unp('<BBi4I8I8', raws[i])
      if not F.fits_in(t, r, b) then break end
      count = i
      sizes[i * 2 - 1], sizes[i * 2] = r, b
      rows, bytes = rows + r, bytes + b
    end
    want = count
    if want > 0 and want < BLOCK_MIN then
      F.take_few(t, k, raws, sizes, want, rows, bytes, taken_before)
      return true
    end
  end
  if want == 0 then return true end
  F.take_part(t, k, raws, want, rows, bytes, taken_before)
  return true
end

function F.take_few(t, k, raws, sizes, want, rows, bytes, before)
  local from, order = #P + 3, {}
  t.taken = before
  for i = 1, want do
    t.taken = t.taken + 1
    local id, place = ssub(k.keys[k[K_GONE] + i], from), k[K_FIRST] + k[K_GONE] + i - 1
    order[i * 2 - 1], order[i * 2] = place, id
    F.lend_one(t, id, P .. 's:' .. id, raws[i], place, sizes[i * 2 - 1], sizes[i * 2])
  end
  call('ZADD', P .. 'od', unpack(order))
  S.meta[M_BL] = S.meta[M_BL] - want
  k[K_GONE], k[K_ROWS], k[K_BYTES] = k[K_GONE] + want, k[K_ROWS] - rows, k[K_BYTES] - bytes
  if k[K_GONE] == k[K_N] then F.drop_block(k) else S.written[k[K_FIRST]] = k end
end

-- The next `want` of a block under one lease; the rest of it is another one.
function F.take_part(t, k, raws, want, rows, bytes, before)
  local c, gone = t.c, k[K_GONE]
  local first, last = k[K_FIRST] + gone, k[K_N]
  local joined, keys = k[K_JOINED], k.keys
  local is_all = want == last
  if is_all then
    call('ZREM', t.blocks, first)
  else
    F.drop_block(k)
    joined = table.concat(keys, '\0', gone + 1, gone + want)
  end
  local lent = { first, PROCESSING, want, 0, k[K_HOME], rows, bytes, k[K_PRIO], S.meta[M_EP],
    t.lo + before + 1, now, now + c.lease, c.lease, c.start and 1 or 0, k[K_QUEUE], k[K_TENANT],
    c.worker, t.singles and F.share(t, before + 1, before + want) or c.request, joined }
  if is_all then F.write_block(lent) else F.add_block(lent) end
  if gone + want < last then
    local rest = { first + want, PENDING, last - gone - want, 0, k[K_HOME], k[K_ROWS] - rows,
      k[K_BYTES] - bytes, k[K_PRIO], 0, 0, 0, 0, 0, 0, k[K_QUEUE], k[K_TENANT], '', '',
      table.concat(keys, '\0', gone + want + 1, last) }
    F.add_block(rest)
    call('ZADD', t.blocks, rest[K_FIRST], rest[K_FIRST])
  end
  F.waited(want, now - BASE - first)
  local out, o = t.out, #t.out
  if t.singles then
    F.lead_to(t, first, before, want)
    out[o + 1], out[o + 2] = -want, t.next_due
    o = o + 2
  else
    t.members[#t.members + 1] = F.block_name(first)
    out[o + 1] = ''
    o = o + 1
  end
  out[o + 1] = pack('<I8I4I8', lent[K_DL], lent[K_EP], lent[K_LO])
  out[o + 2] = joined
  for i = 1, want do out[o + 2 + i] = raws[i] end
end

-- Worker and request of these claims, as they came.
function F.share(t, from, to) return ssub(t.packed, t.starts[from], t.starts[to + 1] - 1) end

-- The next of the claims lead to a block.
function F.lead_to(t, first, before, n)
  local name, values = F.block_name(first), {}
  local place = ssub(name, 2)
  for i = 1, n do values[i * 2 - 1], values[i * 2] = t.sets[before + i], place end
  call('MSET', unpack(values))
  t.times[#t.times + 1], t.times[#t.times + 2] = now + t.c.lease, name
end

-- What was taken is under lease now.
function F.lend_plain(t)
  local c, q = t.c, t.q
  if #t.values > 0 then call('MSET', unpack(t.values)) end
  local dl = now + c.lease
  if t.singles then
    local times = t.times
    for n, i in ipairs(t.few) do
      call('SADD', t.sets[i], t.members[n])
      times[#times + 1], times[#times + 2] = dl, t.singles[i]
    end
    call('ZADD', P .. 'ls', unpack(times))
  else
    local key = c.worker .. '\0' .. c.request
    call('SADD', P .. 'cl:' .. key, unpack(t.members))
    call('ZADD', P .. 'ls', 'LT', dl, key)
  end
  F.soon(dl)
  local is_empty = call('EXISTS', t.list, t.blocks) == 0
  if is_empty then
    call('ZREM', P .. 'rg:' .. q.name .. '\0' .. t.prio, t.tenant)
    if call('EXISTS', P .. 'rc:' .. q.name .. '\0' .. t.prio) == 0 then
      call('ZREM', P .. 'lv:' .. q.name, t.prio)
    end
  end
  S.meta[M_LO] = t.lo + t.taken
  S.meta_dirty = true
  q[PENDING], q[PROCESSING] = q[PENDING] - t.taken, q[PROCESSING] + t.taken
  q.dirty = true
  F.went(PROCESSING, t.taken)
  S.wake[q.name] = (not is_empty) and 1 or true
end

-- Claims of one batch each that come together and ask for the same go as one that is
-- shared out: in `head` what they ask for, in `packed` worker and request of each. What
-- they are answered is added to `given`: how many values follow, and these, of each; or,
-- where what follows is a block, of how many it is the answer, as a negative number.
function F.claim_group(head, packed, given)
  local lease, n, starts, queue = unp('<dHBHc0', head)
  local claims, sets, from, pc, at = {}, {}, {}, P .. 'cl:', 1
  for i = 1, n do
    from[i] = at
    claims[i], at = unp('<Hc0', packed, at)
    sets[i] = pc .. claims[i]
  end
  from[n + 1] = at
  if S.busy then F.flush() end
  local t = { c = { home = 0, max_bytes = FOREVER, max_rows = FOREVER, lease = lease,
    start = starts == 1, worker = '' }, singles = claims, sets = sets, packed = packed,
    starts = from, few = {}, times = {}, out = given }
  local taken = F.claim_singles(t, F.Q(queue), n)
  for i = taken + 1, n do
    if S.busy then F.flush() end
    local worker, request = F.parts_of(claims[i])
    F.add_answer(given, F.claim({ max = 1, max_bytes = FOREVER, max_rows = FOREVER, lease = lease,
      home = 0, start = starts == 1, worker = worker, request = request, queues = { queue },
      ids = {}, key = false, some = false }))
  end
end

-- For the first of `n` such claims, if there is nothing special about the queue. Answers
-- for how many.
function F.claim_singles(t, q, n)
  if not q or q[Q_MT] >= 0 or q[Q_RS] >= 0 or q[Q_MIXED] ~= 0 or S.meta[M_WU] > now
    or S.meta[M_V] == DRAINING then
    return 0
  end
  t.left = min(n, F.room(q), q[PENDING])
  -- One that is sent again is answered by itself.
  if t.left < 2 or call('EXISTS', unpack(t.sets)) > 0 then return 0 end
  t.q, t.prio, t.tenant, t.taken, t.rows, t.bytes = q, 0, '', 0, 0, 0
  t.list, t.blocks = F.list_key(q.name, 0, ''), F.ready_blocks(q.name, 0, '')
  t.lo, t.near = max(S.meta[M_LO] + 1, floor(now / 1000)) - 1, 0
  t.values, t.members, t.next_due = {}, {}, FOREVER
  if q[SCHEDULED] > 0 then t.next_due = F.first(P .. 'd:' .. q.name) end
  F.take_plain(t)
  if t.taken > 0 then F.lend_plain(t) end
  return t.taken
end

-- In one list, of each claim how many values follow: nested ones cost as much again.
function F.add_answer(given, values)
  local n = #given + 1
  given[n] = #values
  for k = 1, #values do given[n + k] = values[k] end
end

-- The groups of claims and then the claims from `at` on.
function F.claim_all(at, n_groups, n_claims)
  local given = {}
  for _ = 1, n_groups do
    F.claim_group(ARGV[at + 1], ARGV[at + 2], given)
    at = at + 2
  end
  for _ = 1, n_claims do
    if S.busy then F.flush() end
    local c
    c, at = F.claim_of(at + 1)
    F.add_answer(given, F.claim(c))
  end
  return given
end

function F.select(c)
  local sources = {}
  local seen = {}
  for _, name in ipairs(c.queues) do
    local q = not seen[name] and F.Q(name)
    seen[name] = true
    if q and F.room(q) > 0 then sources[#sources + 1] = F.heads(q, c.max) end
  end
  local candidates = {}
  F.gather(sources, c.max, candidates)
  local good = F.read_candidates(candidates)
  if c.home ~= 0 then
    local far = false
    for _, one in ipairs(good) do far = far or not F.is_near(F.load(one.id), c) end
    if far and #candidates == c.max then
      F.gather(sources, c.max + 64, candidates)
      good = F.read_candidates(candidates)
    end
    if far then
      for i, one in ipairs(good) do
        one.n = i
        one.far = not F.is_near(F.load(one.id), c)
      end
      table.sort(good, function(a, b)
        if a.prio ~= b.prio then return a.prio > b.prio end
        if a.far ~= b.far then return b.far end
        return a.n < b.n
      end)
    end
  end
  local taken, levels = {}, {}
  local bytes, rows = 0, 0
  for _, one in ipairs(good) do
    local r = F.load(one.id)
    bytes, rows = bytes + r[R_BYTES], rows + r[R_ROWS]
    if #taken == c.max
      or ((#taken > 0 or c.some) and (bytes > c.max_bytes or rows > c.max_rows)) then break end
    taken[#taken + 1] = r
    levels[one.level] = true
    F.serve(one)
    F.give(r, c)
  end
  F.flush()
  F.take_out(levels)
  -- Who could take nothing would be woken by this for ever, as where tenants have all that
  -- they may have.
  if #taken > 0 then
    for _, name in ipairs(c.queues) do S.wake[name] = true end
  end
  return taken
end

function F.in_order(list)
  table.sort(list, function(a, b)
    if a[R_PRIO] ~= b[R_PRIO] then return a[R_PRIO] > b[R_PRIO] end
    return F.seq(a) < F.seq(b)
  end)
  return list
end

-- Exactly these, as far as they are ready and the limits of their queues allow.
function F.named(c)
  F.load_all(c.ids)
  local list, seen = {}, {}
  for _, id in ipairs(c.ids) do
    local r = F.load(id)
    if r and r[R_STATE] == PENDING and not seen[id] then
      seen[id] = true
      list[#list + 1] = r
    end
  end
  local left, left_of, taken = {}, {}, {}
  for _, r in ipairs(F.in_order(list)) do
    local q = F.Q(r[R_QUEUE], true)
    left[r[R_QUEUE]] = left[r[R_QUEUE]] or F.room(q)
    local key = r[R_QUEUE] .. '\0' .. r[R_TENANT]
    if q[Q_MT] >= 0 then
      left_of[key] = left_of[key]
        or q[Q_MT] - tonumber(call('HGET', P .. 'tl:' .. q.name, r[R_TENANT]) or 0)
    else
      left_of[key] = FOREVER
    end
    if left[r[R_QUEUE]] > 0 and left_of[key] > 0 then
      left[r[R_QUEUE]], left_of[key] = left[r[R_QUEUE]] - 1, left_of[key] - 1
      local list_of = F.list_key(r[R_QUEUE], r[R_PRIO], r[R_TENANT])
      F.put(list_of, r[R_ID], false)
      S.lists[list_of] = r
      F.give(r, c)
      taken[#taken + 1] = r
    end
  end
  F.flush()
  return taken
end

-- The leases that the same request was answered with, as far as they stand.
function F.held_by(c)
  local set = P .. 'cl:' .. c.worker .. '\0' .. c.request
  -- A text where it shares a block, which is then taken apart.
  local shared = call('MGET', set)[1]
  if shared then
    local k = tonumber(shared) and F.block(tonumber(shared))
    if k and F.is_shared(k) then F.take_apart(k) else call('DEL', set) end
  end
  local places = call('SMEMBERS', set)
  if #places == 0 then return places end
  local ids = {}
  for _, seq in ipairs(places) do
    if string.byte(seq) == 0 then
      local first = F.named_block(seq)
      local k = F.block(first)
      if k then F.take_apart(k) else F.lost_block(first) end
      for i = 1, k and k[K_N] or 0 do ids[#ids + 1] = F.at_place(first + i - 1) end
    else
      ids[#ids + 1] = F.at_place(seq)
    end
  end
  F.load_all(ids)
  local held, lost = {}, false
  for _, id in ipairs(ids) do
    local r = F.load(id)
    if r and r[R_STATE] == PROCESSING and r[R_WORKER] == c.worker and r[R_REQ] == c.request then
      if F.deadline_of(r) > now then
        if r[R_DL] < F.deadline_of(r) then
          r[R_DL] = F.deadline_of(r)
          F.touch(r)
        end
        held[#held + 1] = r
      else
        -- No set of a claim has leases of two times in it.
        F.lose(r)
        lost = true
      end
    end
  end
  if lost then F.flush() end
  return F.in_order(held)
end

-- The claim at `at`, and where its queues and identifiers end.
function F.claim_of(at)
  local most, max_bytes, max_rows, lease, home, starts, n_queues, n_ids, worker, request =
    unp('<I4dddI4BHHHc0Hc0', ARGV[at])
  local queues, ids = { ARGV[at + 1] }, {}
  for i = 2, n_queues do queues[i] = ARGV[at + i] end
  for i = 1, n_ids do ids[i] = ARGV[at + n_queues + i] end
  return { max = most, max_bytes = max_bytes, max_rows = max_rows, lease = lease, home = home,
    start = starts == 1, worker = worker, request = request, queues = queues, ids = ids, key = false,
    some = false }, at + n_queues + n_ids
end

-- Leases as they are answered.
function F.told(out, taken)
  for _, r in ipairs(taken) do
    out[#out + 1] = r[R_ID]
    out[#out + 1] = r[R_B]
    out[#out + 1] = r[R_RAW] or F.encode(r)
  end
  return out
end

function F.claim(c)
  local taken = F.held_by(c)
  if #taken > 0 then
    F.flush()
  elseif S.meta[M_V] == DRAINING then
    taken = {}
  elseif #c.ids > 0 then
    taken = F.named(c)
  elseif c.max > 0 then
    local plain, left, t = F.select_plain(c)
    if plain then
      local q = F.Q(c.queues[1])
      if q[SCHEDULED] > 0 then plain[1] = F.first(P .. 'd:' .. q.name) end
      if left == 0 then return plain end
      -- Some of the others as well.
      F.flush_blocks()
      c.max, c.max_bytes, c.max_rows, c.some = left, c.max_bytes - t.bytes, c.max_rows - t.rows, t.taken > 0
      return F.told(plain, F.select(c))
    end
    taken = F.select(c)
  end
  local next_due = FOREVER
  for _, name in ipairs(c.queues) do
    local q = F.Q(name)
    if q and q[Q_PA] == 0 and q[SCHEDULED] > 0 then next_due = min(next_due, F.first(P .. 'd:' .. name)) end
  end
  return F.told({ next_due }, taken)
end
