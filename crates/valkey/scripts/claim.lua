-- Claiming: whose turn it is, and the leases.

-- The ready batches of one queue in the order in which they are given out:
-- by priority; within one, the tenants take turns by name, each its oldest.
local function heads(q, want)
  local state = { q = q, left = room(q), levels = {}, level_at = 0, want = want }
  local lv = P .. 'lv:' .. q.name

  local function next_level()
    state.level_at = state.level_at + 1
    if state.level_at > #state.levels then
      local more = call('ZRANGE', lv, #state.levels, #state.levels + 7)
      if #more == 0 then return false end
      for _, prio in ipairs(more) do state.levels[#state.levels + 1] = prio end
    end
    local prio = state.levels[state.level_at]
    local level = { prio = tonumber(prio), rg = P .. 'rg:' .. q.name .. '\0' .. prio,
      rc = P .. 'rc:' .. q.name .. '\0' .. prio, names = {}, name_at = 0, going = {}, from = 1,
      turn = call('HGET', P .. 'tn:' .. q.name, prio), q = q, given = {} }
    level.stored = level.turn
    level.tenants = call('ZCARD', level.rg)
    if q.mt >= 0 then level.tenants = level.tenants + call('ZCARD', level.rc) end
    -- After the one that was served last, then from the first on.
    if level.turn then
      level.ranges = { { '(' .. level.turn, '+' }, { '-', '[' .. level.turn } }
    else
      level.ranges = { { '-', '+' } }
    end
    level.range_at, level.offset = 1, 0
    state.level = level
    return true
  end

  local function next_tenant(level)
    while level.range_at <= #level.ranges do
      if level.name_at < #level.names then
        level.name_at = level.name_at + 1
        return level.names[level.name_at]
      end
      local range = level.ranges[level.range_at]
      level.names = call('ZRANGEBYLEX', level.rg, range[1], range[2], 'LIMIT', level.offset, 64)
      level.name_at = 0
      level.offset = level.offset + #level.names
      if #level.names == 0 then
        level.range_at = level.range_at + 1
        level.offset = 0
      end
    end
  end

  local function may_have(level, tenant)
    if q.mt < 0 then return true end
    q.free = q.free or {}
    if not q.free[tenant] then
      q.free[tenant] = q.mt - tonumber(call('HGET', P .. 'tl:' .. q.name, tenant) or 0)
      if q.free[tenant] <= 0 then
        -- It is out of the ring until one of its leases ends.
        put(level.rg, tenant, false)
        put(level.rc, tenant, 0)
      end
    end
    if q.free[tenant] <= 0 then return false end
    q.free[tenant] = q.free[tenant] - 1
    return true
  end

  local function oldest(level, line)
    if line.at >= #line.batches then
      local n = line.chunk
      if level.tenants == 1 then n = max(state.want, 1) end
      local from = line.offset
      line.batches = call('ZRANGE', line.key, from, from + n - 1, 'WITHSCORES')
      line.offset = from + n
      line.chunk = min(n * 4, 256)
      line.at = 0
    end
    local id = line.batches[line.at + 1]
    if not id then return end
    local seq = tonumber(line.batches[line.at + 2])
    line.at = line.at + 2
    return { id = id, seq = seq, prio = level.prio, tenant = line.tenant, level = level,
      key = line.key }
  end

  local function step()
    while true do
      local level = state.level
      if not level then
        if not next_level() then return end
        level = state.level
      end
      local line
      local tenant = next_tenant(level)
      if tenant then
        line = { tenant = tenant, key = list_key(q.name, level.prio, tenant), batches = {}, at = 0,
          offset = 0, chunk = 4 }
      else
        line = level.going[level.from]
        if line then
          level.going[level.from] = nil
          level.from = level.from + 1
        else
          state.level = nil
        end
      end
      if line then
        local found = oldest(level, line)
        if found and may_have(level, line.tenant) then
          level.to = (level.to or 0) + 1
          level.going[level.to] = line
          return found
        end
      end
    end
  end

  return {
    peek = function()
      if state.head == nil then
        state.head = false
        if state.left > 0 then
          state.left = state.left - 1
          state.head = step() or false
        end
      end
      return state.head
    end,
    skip = function() state.head = nil end,
  }
end

-- Notes whose turn it was, as long as several wait.
local function serve(c)
  local level = c.level
  if not (level.tenants == 1 and not level.turn) then level.turn = c.tenant end
  local list = level.given[c.tenant]
  if not list then
    list = { key = c.key, left = call('ZCARD', c.key), ids = {} }
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
local function take_out(levels)
  for level in pairs(levels) do
    for tenant, list in pairs(level.given) do
      if list.left == 0 then
        call('DEL', list.key)
        call('ZREM', level.rg, tenant)
        if level.q.mt >= 0 then call('ZREM', level.rc, tenant) end
      else
        many('ZREM', list.key, list.ids)
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

local function lend(r, c)
  -- The token: above all before it, and not under the time.
  meta.lo = max(meta.lo + 1, floor(now / 1000))
  meta_dirty = true
  r.state = PROCESSING
  r.ep, r.lo = meta.ep, meta.lo
  r.exp = 0
  if r.X ~= '' and section(r.X, 'p') then r.X = with_section(r.X, 'p') end
  r.worker, r.req = c.worker, c.request
  r.dl, r.cla, r.dur = now + c.lease, now, c.lease
  if c.start then start(r) end
end

-- From pending to lent, where the list of ready ones is left to the caller.
local function give(r, c)
  local q = Q(r.queue, true)
  if q.rs >= 0 then
    q.fa = max(q.fa, now) + interval(q)
    if tokens(q) == 0 then
      local at = math.ceil(q.fa - interval(q) * (q.rb - 1))
      put(P .. 'th', q.name, at)
      soon(at)
    end
  end
  q[PENDING] = q[PENDING] - 1
  q.lr, q.lb = q.lr - r.rows, q.lb - r.bytes
  meta.lv, meta.lb = meta.lv - 1, meta.lb - r.bytes
  q.dirty = true
  if r.exp > 0 then put(P .. 'ex', r.id, false) end
  r.from = PENDING
  lend(r, c)
  enter(r)
end

local function is_near(r, c)
  if now - r.upd >= cfg.near_wait then return true end
  return bit.band(r.home, c.home) ~= 0
end

-- Candidates in order, at most `n` of them.
local function gather(sources, n, candidates)
  while #candidates < n do
    local best, from
    for _, source in ipairs(sources) do
      local head = source.peek()
      if head and (not best or head.prio > best.prio
        or (head.prio == best.prio and head.seq < best.seq)) then
        best, from = head, source
      end
    end
    if not best then return end
    from.skip()
    candidates[#candidates + 1] = best
  end
end

-- Reads their records; what cannot be read fails.
local function read_candidates(candidates)
  local ids = {}
  for i, c in ipairs(candidates) do ids[i] = c.id end
  load_all(ids)
  local good = {}
  for _, c in ipairs(candidates) do
    local r = load(c.id)
    if r and r.state == PENDING then
      good[#good + 1] = c
    else
      put(c.key, c.id, false)
      lists[c.key] = { queue = c.level.q.name, prio = c.prio, tenant = c.tenant }
      wake[c.level.q.name] = true
      if not r then damaged(c.id, c.level.q.name, c.tenant, PENDING) end
    end
  end
  return good
end

local function select(c)
  local sources = {}
  local seen = {}
  for _, name in ipairs(c.queues) do
    local q = not seen[name] and Q(name)
    seen[name] = true
    if q and room(q) > 0 then sources[#sources + 1] = heads(q, c.max) end
  end
  local candidates = {}
  gather(sources, c.max, candidates)
  local good = read_candidates(candidates)
  if c.home ~= 0 then
    local far = false
    for _, one in ipairs(good) do far = far or not is_near(load(one.id), c) end
    if far and #candidates == c.max then
      gather(sources, c.max + 64, candidates)
      good = read_candidates(candidates)
    end
    if far then
      for i, one in ipairs(good) do
        one.n = i
        one.far = not is_near(load(one.id), c)
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
    local r = load(one.id)
    bytes, rows = bytes + r.bytes, rows + r.rows
    if #taken == c.max or (#taken > 0 and (bytes > c.max_bytes or rows > c.max_rows)) then break end
    taken[#taken + 1] = r
    levels[one.level] = true
    serve(one)
    give(r, c)
  end
  flush()
  take_out(levels)
  for _, name in ipairs(c.queues) do wake[name] = true end
  return taken
end

local function in_order(list)
  table.sort(list, function(a, b)
    if a.prio ~= b.prio then return a.prio > b.prio end
    return a.seq < b.seq
  end)
  return list
end

-- Exactly these, as far as they are ready and the limits of their queues allow.
local function named(c)
  load_all(c.ids)
  local list, seen = {}, {}
  for _, id in ipairs(c.ids) do
    local r = load(id)
    if r and r.state == PENDING and not seen[id] then
      seen[id] = true
      list[#list + 1] = r
    end
  end
  local left, left_of, taken = {}, {}, {}
  for _, r in ipairs(in_order(list)) do
    local q = Q(r.queue, true)
    left[r.queue] = left[r.queue] or room(q)
    local key = r.queue .. '\0' .. r.tenant
    if q.mt >= 0 then
      left_of[key] = left_of[key]
        or q.mt - tonumber(call('HGET', P .. 'tl:' .. q.name, r.tenant) or 0)
    else
      left_of[key] = FOREVER
    end
    if left[r.queue] > 0 and left_of[key] > 0 then
      left[r.queue], left_of[key] = left[r.queue] - 1, left_of[key] - 1
      local list_of = list_key(r.queue, r.prio, r.tenant)
      put(list_of, r.id, false)
      lists[list_of] = r
      give(r, c)
      taken[#taken + 1] = r
    end
  end
  flush()
  return taken
end

-- The leases that the same request was answered with, as far as they stand.
local function held_by(c)
  local ids = call('SMEMBERS', P .. 'cl:' .. c.worker .. '\0' .. c.request)
  if #ids == 0 then return ids end
  load_all(ids)
  local held = {}
  for _, id in ipairs(ids) do
    local r = load(id)
    if r and r.state == PROCESSING and r.worker == c.worker and r.req == c.request
      and deadline_of(r) > now then
      if r.dl < deadline_of(r) then
        r.dl = deadline_of(r)
        put(P .. 'ls', lease_member(r), r.dl)
        touch(r)
      end
      held[#held + 1] = r
    end
  end
  return in_order(held)
end

local function claim_of(packed, at)
  local c = {}
  local queues, ids, start
  c.max, c.max_bytes, c.max_rows, c.lease, c.home, start, queues, ids, c.worker, c.request =
    unp('<I4dddI4BHHHc0Hc0', packed)
  c.start = start == 1
  c.queues, c.ids = {}, {}
  for i = 1, queues do c.queues[i] = ARGV[at + i] end
  for i = 1, ids do c.ids[i] = ARGV[at + queues + i] end
  return c
end

local function claim(c)
  local taken = held_by(c)
  if #taken > 0 then
    flush()
  elseif #c.ids > 0 then
    taken = named(c)
  elseif c.max > 0 then
    taken = select(c)
  end
  local next_due = FOREVER
  for _, name in ipairs(c.queues) do
    local q = Q(name)
    if q and q.pa == 0 and q[SCHEDULED] > 0 then next_due = min(next_due, first(P .. 'd:' .. name)) end
  end
  local out = { next_due }
  for _, r in ipairs(taken) do
    out[#out + 1] = r.id
    out[#out + 1] = encode(r)
  end
  return out
end
