-- The unit of work: what changes is collected and written at the end, records
-- first, then where they are found, then what no longer finds them.

-- Members of sorted sets: key, member, score or false to remove.
local idx = {}
-- Sets of what a claim was answered with: key, member, true or false.
local claims = {}
-- Lists of ready batches that changed: key to queue, priority, tenant.
local lists = {}
-- Queues whose next due time changed.
local due = {}
-- Batches that may be forgotten later if nobody waits for them any more.
local ageing = {}
-- Batches whose end those that wait for them are told.
local agenda = {}
-- Keys to delete last.
local gone = {}
-- Queues in which a waiting claim may find something.
local wake = {}
-- What observers are told.
local events = {}
-- Whether terminal batches were added to those that are forgotten in time.
local aged = false

local function put(key, member, score)
  local k = idx[key]
  if not k then
    k = {}
    idx[key] = k
  end
  k[member] = score
end

local function list_key(queue, prio, tenant)
  return P .. 'w:' .. queue .. '\0' .. prio .. '\0' .. tenant
end

local function touch(r)
  if not r.dirty then
    r.dirty = true
    dirty[#dirty + 1] = r
  end
end

local function note(r, from, to, worker)
  if meta.wu <= now then return end
  local error = ''
  if r.state == FAILED or r.state == SCHEDULED then error = section(r.X, 'e') or '' end
  worker = worker or ''
  events[#events + 1] = pack('<BBI8I4Bc0Hc0Hc0I4c0', from, to, now, r.att, #r.id, r.id,
    #r.queue, r.queue, #worker, worker, #error, error)
end

local function lease_member(r) return r.queue .. '\0' .. r.tenant .. '\0' .. r.id end

local function has_children(r)
  return has(r.flags, F_CHILDREN) and call('EXISTS', P .. 'e:' .. r.id) == 1
end

local function age_if_free(r)
  if has(r.flags, F_REMEMBERED) or has_children(r) then return end
  aged = true
  if r.state == FAILED then
    put(P .. 'de', r.id, r.at)
    soon(r.at + cfg.keep_failed)
  else
    put(P .. 'fi', r.id, r.at)
    soon(r.at + cfg.keep_finished)
  end
end

local function link_outputs(r, add)
  local outputs = r.X ~= '' and section(r.X, 'o')
  if not outputs then return end
  for _, id in ipairs(ids_of(outputs)) do put(P .. 'lo:' .. id, r.id, add and r.seq) end
end

-- A batch that waits knows what has not yet completed; an edge leads from each
-- of those to it. Edges that wait for another try come after all others.
local PATIENT = 4503599627370496

local function link_waits(r, add)
  local unmet = r.X ~= '' and section(r.X, 'u')
  if not unmet then return end
  local score = r.seq
  if has(r.flags, F_WAIT) then score = score + PATIENT end
  for _, parent in ipairs(ids_of(unmet)) do
    put(P .. 'e:' .. parent, r.id, add and score)
    meta.ed = meta.ed + (add and 1 or -1)
    meta_dirty = true
    local p = load(parent)
    if p and add then
      if not has(p.flags, F_CHILDREN) then
        p.flags = p.flags + F_CHILDREN
        touch(p)
      end
      if p.state > PROCESSING then put(P .. (p.state == FAILED and 'de' or 'fi'), p.id, false) end
    elseif p then
      ageing[parent] = true
    end
  end
end

local function tenant_lease(q, tenant, by)
  if q.mt < 0 then return end
  q.tl = q.tl or {}
  q.tl[tenant] = (q.tl[tenant] or 0) + by
end

-- Takes a batch out of all places where its state put it.
local function leave(r)
  local state = r.state
  local q = Q(r.queue, true)
  q[state] = q[state] - 1
  q.dirty = true
  if state <= PROCESSING then
    q.lr = q.lr - r.rows
    q.lb = q.lb - r.bytes
    meta.lv = meta.lv - 1
    meta.lb = meta.lb - r.bytes
    meta_dirty = true
  end
  r.from, r.by = state, r.worker
  if state == PENDING then
    local key = list_key(r.queue, r.prio, r.tenant)
    put(key, r.id, false)
    lists[key] = r
  elseif state == PROCESSING then
    put(P .. 'ls', lease_member(r), false)
    local key = P .. 'cl:' .. r.worker .. '\0' .. r.req
    claims[key] = claims[key] or {}
    claims[key][r.id] = false
    tenant_lease(q, r.tenant, -1)
    if q.ml >= 0 or q.mt >= 0 then wake[r.queue] = true end
  elseif state == SCHEDULED then
    put(P .. 'd:' .. r.queue, r.id, false)
    due[r.queue] = true
  elseif state == WAITING then
    link_waits(r, false)
  else
    put(P .. (state == FAILED and 'de' or 'fi'), r.id, false)
    link_outputs(r, false)
  end
  if r.exp > 0 and state <= SCHEDULED then put(P .. 'ex', r.id, false) end
end

-- Puts a batch where its state belongs.
local function enter(r)
  local state = r.state
  local q = Q(r.queue, true)
  q[state] = q[state] + 1
  q.dirty = true
  if state <= PROCESSING then
    q.lr = q.lr + r.rows
    q.lb = q.lb + r.bytes
    meta.lv = meta.lv + 1
    meta.lb = meta.lb + r.bytes
    meta_dirty = true
  end
  r.upd = now
  if state ~= PROCESSING then
    r.worker = nil
    if has(r.flags, F_STARTED) then r.flags = r.flags - F_STARTED end
  end
  if state == PENDING then
    local key = list_key(r.queue, r.prio, r.tenant)
    put(key, r.id, r.seq)
    lists[key] = r
    wake[r.queue] = true
  elseif state == PROCESSING then
    put(P .. 'ls', lease_member(r), r.dl)
    soon(r.dl)
    local key = P .. 'cl:' .. r.worker .. '\0' .. r.req
    claims[key] = claims[key] or {}
    claims[key][r.id] = true
    tenant_lease(q, r.tenant, 1)
  elseif state == SCHEDULED then
    put(P .. 'd:' .. r.queue, r.id, r.at)
    due[r.queue] = true
    soon(r.at)
  elseif state == WAITING then
    link_waits(r, true)
  else
    link_outputs(r, true)
    age_if_free(r)
    if has(r.flags, F_CHILDREN) then agenda[#agenda + 1] = r.id end
  end
  if r.exp > 0 and state <= SCHEDULED then
    put(P .. 'ex', r.id, r.exp)
    soon(r.exp)
  end
  touch(r)
  note(r, r.from or 0, state, r.by or r.worker)
  r.from, r.by = nil, nil
end

local function finish(r, state)
  r.state = state
  r.at = now
  if r.X ~= '' then r.X = with_section(r.X, 'u') end
end

local function ready(r)
  r.state = PENDING
  r.at = 0
end

local function rest(r, delay)
  ready(r)
  if delay > 0 then
    r.state = SCHEDULED
    r.at = now + delay
  end
end

local function start(r)
  if has(r.flags, F_STARTED) then return end
  r.flags = r.flags + F_STARTED
  r.att = r.att + 1
  if r.first == 0 then r.first = now end
end

local function fail_with(r, code, permanent, message)
  r.X = with_section(r.X, 'e',
    pack('<I8BHc0', now, permanent and 1 or 0, #code, code) .. ssub(message, 1, 4096))
end

-- Stands in for a record that cannot be read: it is listed, and failed.
local function damaged(id, queue, tenant, from)
  local q = Q(queue, true)
  if from then
    q[from] = q[from] - 1
    if from <= PROCESSING then meta.lv = meta.lv - 1 end
  end
  local s = pack('<Hc0Hc0Hc0I4c0', #queue, queue, #tenant, tenant, 0, '', 0, '')
    .. string.rep('\0', 8)
  local seq = tonumber(call('ZSCORE', P .. 'od', id) or 0)
  if seq == 0 then
    meta.seq = meta.seq + 1
    seq = meta.seq
    put(P .. 'od', id, seq)
  end
  local r = { id = id, state = FAILED, flags = 0, settled = 0, prio = 0, att = 0, lost = 0, ep = 0,
    lo = 0, sep = 0, slo = 0, seq = seq, rows = 0, bytes = 0, reg = now, upd = now, first = 0,
    exp = 0, at = now, home = 0, slen = #s, S = s, queue = queue, tenant = tenant, X = '' }
  -- What cannot be read is kept for whoever can make something of it.
  if bad[id] then call('COPY', P .. 'b:' .. id, P .. 'bad:' .. id, 'REPLACE') end
  if call('TYPE', P .. 'b:' .. id).ok ~= 'string' then call('DEL', P .. 'b:' .. id) end
  recs[id] = r
  fail_with(r, 'corrupt', true, bad[id] and 'its record could not be read; the bytes are kept'
    or 'its record is gone')
  enter(r)
  return r
end

-- Forgets a terminal batch that nothing holds.
local function purge(r)
  local q = Q(r.queue, true)
  leave(r)
  q.pu = q.pu + 1
  if has(r.flags, F_PARENTS) or has(r.flags, F_REMEMBERED) then
    local o = options_of(r.S)
    for _, parent in ipairs(o.parents) do put(P .. 'li:' .. parent, r.id, false) end
    if has(r.flags, F_REMEMBERED) then
      put(P .. 'kt', r.id, false)
      local key = P .. 'dk:' .. r.queue .. '\0' .. r.tenant .. '\0' .. o.key
      if call('GET', key) == r.id then gone[#gone + 1] = key end
    end
  end
  note(r, r.from, 0)
  put(P .. 'od', r.id, false)
  gone[#gone + 1] = P .. 'b:' .. r.id
  recs[r.id] = false
  r.purged = true
end

local function many(command, key, values)
  for from = 1, #values, CHUNK do
    call(command, key, unpack(values, from, min(from + CHUNK - 1, #values)))
  end
end

local function flush_lists()
  for key, r in pairs(lists) do
    local lv, rg = P .. 'lv:' .. r.queue, P .. 'rg:' .. r.queue .. '\0' .. r.prio
    local rc = P .. 'rc:' .. r.queue .. '\0' .. r.prio
    if call('EXISTS', key) == 1 then
      if Q(r.queue).mt < 0 or not call('ZSCORE', rc, r.tenant) then
        call('ZADD', rg, 0, r.tenant)
        call('ZADD', lv, -r.prio, r.prio)
      end
    else
      call('ZREM', rg, r.tenant)
      call('ZREM', rc, r.tenant)
      if call('EXISTS', rg, rc) == 0 then
        call('ZREM', lv, r.prio)
        call('HDEL', P .. 'tn:' .. r.queue, r.prio)
      end
    end
  end
  lists = {}
end

local function flush_leases(q)
  local key = P .. 'tl:' .. q.name
  for tenant, by in pairs(q.tl) do
    if by ~= 0 then
      local n = call('HINCRBY', key, tenant, by)
      if n <= 0 then call('HDEL', key, tenant) end
      if by < 0 and n < q.mt then
        -- It may be given something again, in every priority where it waits.
        for _, prio in ipairs(call('ZRANGE', P .. 'lv:' .. q.name, 0, -1)) do
          if call('ZREM', P .. 'rc:' .. q.name .. '\0' .. prio, tenant) == 1 then
            call('ZADD', P .. 'rg:' .. q.name .. '\0' .. prio, 0, tenant)
          end
        end
      end
    end
  end
  q.tl = nil
end

local function write_queue(q)
  if q.new then
    call('SADD', P .. 'qs', q.name)
    q.new = nil
  end
  call('SET', P .. 'q:' .. q.name, pack(QUEUE, q[1], q[2], q[3], q[4], q[5], q[6], q[7], q[8],
    max(q.lr, 0), max(q.lb, 0), q.pu, q.pa, q.dr, q.ml, q.mt, q.rs, q.rb, q.fa, q.mb))
  q.dirty = nil
end

local function write_meta()
  local m = meta
  call('SET', KM, pack(META, m.v, m.ep, m.lo, m.run, m.seq, m.rev, m.nt, max(m.lv, 0),
    max(m.lb, 0), m.wu, m.en, max(m.ed, 0)) .. m.rid)
  meta_dirty = nil
end

-- Writes records, then indexes; what is read afterwards sees it.
local function flush()
  local values = {}
  for _, r in ipairs(dirty) do
    r.dirty = nil
    if not r.purged then
      values[#values + 1] = P .. 'b:' .. r.id
      values[#values + 1] = encode(r)
    end
  end
  dirty = {}
  for from = 1, #values, CHUNK do
    call('MSET', unpack(values, from, min(from + CHUNK - 1, #values)))
  end
  local removals = {}
  for key, members in pairs(idx) do
    local add, rem = {}, {}
    for member, score in pairs(members) do
      if score then
        add[#add + 1] = score
        add[#add + 1] = member
      else
        rem[#rem + 1] = member
      end
    end
    if #add > 0 then many('ZADD', key, add) end
    if #rem > 0 then removals[key] = rem end
  end
  idx = {}
  for key, rem in pairs(removals) do many('ZREM', key, rem) end
  for key, members in pairs(claims) do
    local add, rem = {}, {}
    for id, is in pairs(members) do
      if is then add[#add + 1] = id else rem[#rem + 1] = id end
    end
    if #add > 0 then many('SADD', key, add) end
    if #rem > 0 then many('SREM', key, rem) end
  end
  claims = {}
  flush_lists()
  for queue in pairs(due) do
    local first = call('ZRANGE', P .. 'd:' .. queue, 0, 0, 'WITHSCORES')
    if first[1] then
      call('ZADD', P .. 'dq', first[2], queue)
    else
      call('ZREM', P .. 'dq', queue)
    end
  end
  due = {}
  for _, q in ipairs(queue_list) do
    if q.tl then flush_leases(q) end
  end
  for from = 1, #gone, CHUNK do
    call('DEL', unpack(gone, from, min(from + CHUNK - 1, #gone)))
  end
  gone = {}
  local check = ageing
  ageing = {}
  local again
  for id in pairs(check) do
    local r = load(id)
    if r and r.state > PROCESSING and not has_children(r) then
      if has(r.flags, F_CHILDREN) then
        r.flags = r.flags - F_CHILDREN
        touch(r)
      end
      age_if_free(r)
      again = true
    end
  end
  if again then return flush() end
end

-- The end of every script that writes.
local function done()
  for _, id in ipairs(agenda) do
    put(P .. 'ag', id, 0)
    soon(0)
  end
  agenda = {}
  flush()
  if aged and (call('ZCARD', P .. 'fi') > cfg.max_finished
    or call('ZCARD', P .. 'de') > cfg.max_failed) then
    soon(0)
  end
  for queue in pairs(wake) do
    local q = Q(queue)
    if q and room(q) > 0 and call('EXISTS', P .. 'lv:' .. queue) == 1 then
      call('ZADD', P .. 'wk:' .. queue, 0, '1')
    end
  end
  if #events > 0 then
    meta.en = meta.en + #events
    meta_dirty = true
    call('XADD', P .. 'ev', 'MAXLEN', '~', 10000, '*', 'n', string.format('%.0f', meta.en),
      'c', #events, 'd', table.concat(events))
  end
  for _, q in ipairs(queue_list) do
    if q.dirty then write_queue(q) end
  end
  if meta_dirty then write_meta() end
end
