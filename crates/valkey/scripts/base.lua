-- What every function begins with: keys, time, the state of the coordinator,
-- and the form of a batch's record.
--
-- The library is loaded once; what it catches from here stays from call to
-- call, so `reset` comes first in each. The one key that is named is that of
-- the coordinator's state: all others begin as it does and are in its slot.
-- Numbers are doubles: exact up to 2^53, which microseconds since
-- 1970 stay under; they never become texts by `tostring`, which keeps 14 digits.
-- Constants: put in where they are used when the library is put together.
--# FOREVER 9007199254740991
--# CHUNK 2000
--# WAITING 1
--# PENDING 2
--# SCHEDULED 3
--# PROCESSING 4
--# COMPLETED 5
--# FAILED 6
--# CANCELLED 7
--# EXPIRED 8
--# F_PARENTS 1
--# F_KEY 2
--# F_REMEMBERED 4
--# F_DEPENDS 8
--# F_STARTED 16
--# F_WAIT 32
--# F_CANCEL 64
--# F_CHILDREN 128
-- Verdicts.
--# APPLIED 1
--# ALREADY 2
--# STALE 3
--# MISSING 4
-- Values of one command: `unpack` fails at 8,000.

-- All functions, and the state of this call.
local F = {}
local S
-- Of this call: the arguments, the beginning of all keys, microseconds since 1970.
local ARGV, P, now
-- Not there while the library is loaded.
local call, pack, unp, ssub, floor, max, min

-- How a client wants batches to be treated; most calls come with the same.
local settings_read, settings

function F.read_settings(packed)
  if packed == settings_read then return settings end
  local c = {}
  c.keep_finished, c.max_finished, c.keep_failed, c.max_failed, c.max_live, c.max_bytes,
    c.max_keys, c.max_edges, c.near_wait, c.policy = unp('<dddddddddHc0', packed)
  settings_read, settings = packed, c
  return c
end

function F.reset(keys, args)
  call, pack, unp, ssub = redis.call, struct.pack, struct.unpack, string.sub
  floor, max, min = math.floor, math.max, math.min
  ARGV = args
  P = ssub(keys[1], 1, -2)
  local clock = call('TIME')
  now = clock[1] * 1000000 + clock[2]
  S = {
    cfg = F.read_settings(args[1]),
    -- Batches of this call, read once; those that cannot be read; those to write.
    recs = {}, bad = {}, dirty = {},
    queues = {}, queue_list = {},
    -- Members of sorted sets: key, member, score or false to remove.
    idx = {},
    -- Sets of what a claim was answered with: key, member, true or false.
    claims = {},
    -- Lists of ready batches that changed: key to queue, priority, tenant.
    lists = {},
    -- Queues whose next due time changed.
    due = {},
    -- Batches that may be forgotten later if nobody waits for them any more.
    ageing = {},
    -- Batches whose end those that wait for them are told.
    agenda = {},
    -- Keys to delete last.
    gone = {},
    -- Queues in which a waiting claim may find something.
    wake = {},
    -- What observers are told.
    events = {},
    -- Whether terminal batches were added to those that are forgotten in time.
    aged = false,
  }
end

function F.has(flags, flag) return flags % (flag + flag) >= flag end

-- The state of the whole coordinator, in one value.
--# META '<dddddddddddd'

function F.new_meta()
  return { v = 1, ep = 0, lo = 0, run = 0, seq = 0, rev = 0, nt = FOREVER, lv = 0, lb = 0,
    wu = 0, en = 0, ed = 0, rid = '' }
end

function F.read_meta()
  local raw = call('GET', P .. 'm')
  if not raw then S.meta = F.new_meta() return end
  local m = {}
  local at
  m.v, m.ep, m.lo, m.run, m.seq, m.rev, m.nt, m.lv, m.lb, m.wu, m.en, m.ed, at = unp(META, raw)
  m.rid = ssub(raw, at)
  S.meta = m
end

-- Begins a run: the server is another one, or was started again, so that the
-- end of what was written before may be missing. Tokens go on above all that
-- were given, whatever the clock says; every lease has its full time anew.
function F.new_run(rid)
  local m = S.meta
  if m.run ~= 0 then
    call('RPUSH', P .. 'pr', string.format('%.0f:%.0f', m.run, m.seq + 1))
    call('LTRIM', P .. 'pr', -63, -1)
  end
  -- Hours since 2025: what was lost altogether does not begin at the same epoch.
  m.ep = max(m.ep + 1, floor(now / 3600000000) - 482136)
  m.lo = 0
  m.run = tonumber(ssub(rid, 1, 13), 16) + 1
  m.rev = now
  m.nt = 0
  m.rid = rid
  S.meta_dirty = true
end

function F.begin()
  F.read_meta()
  if S.meta.v ~= 1 then
    return { 'err', 'newer', string.format('%.0f', S.meta.v) }
  end
  local rid = string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
  if S.meta.rid ~= rid then F.new_run(rid) end
end

function F.soon(at)
  if at < S.meta.nt then
    S.meta.nt = at
    S.meta_dirty = true
  end
end

-- Records ------------------------------------------------------------------
-- head | S: what never changes, as the client packed it | lease, while
-- processing | X: sections of one letter, a length and a content.
--# HEAD '<BBBBi4I4I4I4I8I4I8I8I8I8I8I8I8I8I8I4I4'
--# HLEN 112
--# LEASE '<I8I8I8Hc0Hc0'

function F.decode(id, raw)
  local r = { id = id }
  local ver
  ver, r.state, r.flags, r.settled, r.prio, r.att, r.lost, r.ep, r.lo, r.sep, r.slo, r.seq,
    r.rows, r.bytes, r.reg, r.upd, r.first, r.exp, r.at, r.home, r.slen = unp(HEAD, raw)
  if ver ~= 1 or r.state < 1 or r.state > 8 or #raw < HLEN + r.slen then error('damaged') end
  r.S = ssub(raw, HLEN + 1, HLEN + r.slen)
  r.queue, r.tenant = unp('<Hc0Hc0', r.S)
  local at = HLEN + r.slen + 1
  if r.state == PROCESSING then
    r.dl, r.cla, r.dur, r.worker, r.req, at = unp(LEASE, raw, at)
  end
  r.X = ssub(raw, at)
  return r
end

function F.encode(r)
  local head = pack(HEAD, 1, r.state, r.flags, r.settled, r.prio, r.att, r.lost, r.ep, r.lo,
    r.sep, r.slo, r.seq, r.rows, r.bytes, r.reg, r.upd, r.first, r.exp, r.at, r.home, r.slen)
  if r.state == PROCESSING then
    return head .. r.S
      .. pack(LEASE, r.dl, r.cla, r.dur, #r.worker, r.worker, #r.req, r.req) .. r.X
  end
  return head .. r.S .. r.X
end

-- A section of X: e error, l locations, o outputs, p progress, u not yet
-- completed parents.
function F.section(x, tag)
  local at = 1
  while at <= #x do
    local t, content
    t, content, at = unp('<c1I4c0', x, at)
    if t == tag then return content end
  end
end

-- X with that section, or without it where there is no content.
function F.with_section(x, tag, content)
  local out = {}
  local at = 1
  while at <= #x do
    local from = at
    local t, _
    t, _, at = unp('<c1I4c0', x, at)
    if t ~= tag then out[#out + 1] = ssub(x, from, at - 1) end
  end
  if content then out[#out + 1] = tag .. pack('<I4', #content) .. content end
  return table.concat(out)
end

function F.ids_of(packed)
  local ids = {}
  local at = 1
  while at <= #packed do
    ids[#ids + 1], at = unp('<Bc0', packed, at)
  end
  return ids
end

function F.packed_ids(ids)
  local out = {}
  for i, id in ipairs(ids) do out[i] = pack('<Bc0', #id, id) end
  return table.concat(out)
end

-- What S says besides queue and tenant.
function F.policy_of(r)
  local _, _, policy = unp('<Hc0Hc0Hc0', r.S)
  if policy == '' then policy = S.cfg.policy end
  local p = {}
  p.retries, p.base, p.factor, p.cap, p.jitter, p.deadline = unp('<dddddd', policy)
  return p
end

local no_options = { delay = 0, expires = -1, window = 0, key = '', parents = {}, depends = {} }
function F.options_of(s)
  local _, _, _, packed = unp('<Hc0Hc0Hc0I4c0', s)
  if packed == '' then return no_options end
  local o = {}
  local parents, depends
  o.delay, o.expires, o.window, o.key, parents, depends = unp('<dddHc0I4c0I4c0', packed)
  o.parents, o.depends = F.ids_of(parents), F.ids_of(depends)
  return o
end

-- Batches of this call, read once ---------------------------------------------
function F.keep(id, raw)
  if not raw then
    S.recs[id] = false
    return false
  end
  local ok, r = pcall(F.decode, id, raw)
  if not ok then
    S.bad[id] = true
    r = false
  end
  S.recs[id] = r
  return r
end

function F.load(id)
  local r = S.recs[id]
  if r ~= nil then return r end
  -- MGET, as it answers with nothing for a key of another kind.
  return F.keep(id, call('MGET', P .. 'b:' .. id)[1])
end

function F.load_all(ids)
  local keys, want = {}, {}
  for _, id in ipairs(ids) do
    if S.recs[id] == nil then
      want[#want + 1] = id
      keys[#keys + 1] = P .. 'b:' .. id
    end
  end
  for from = 1, #keys, CHUNK do
    local to = min(from + CHUNK - 1, #keys)
    local raws = call('MGET', unpack(keys, from, to))
    for i = from, to do F.keep(want[i], raws[i - from + 1]) end
  end
end

-- Queues ---------------------------------------------------------------------------
-- c1 to c8: batches by state; -1 is no limit.
--# QUEUE '<ddddddddddddddddddd'

function F.Q(name, create)
  local q = S.queues[name]
  if q ~= nil then
    if q or not create then return q end
  end
  local raw = call('GET', P .. 'q:' .. name)
  if raw then
    q = { name = name }
    q[1], q[2], q[3], q[4], q[5], q[6], q[7], q[8], q.lr, q.lb, q.pu, q.pa, q.dr, q.ml, q.mt,
      q.rs, q.rb, q.fa, q.mb = unp(QUEUE, raw)
  elseif create then
    q = { 0, 0, 0, 0, 0, 0, 0, 0, name = name, lr = 0, lb = 0, pu = 0, pa = 0, dr = 0, ml = -1,
      mt = -1, rs = -1, rb = 0, fa = 0, mb = -1, dirty = true, new = true }
  else
    q = false
  end
  S.queues[name] = q
  if q then S.queue_list[#S.queue_list + 1] = q end
  return q
end

function F.interval(q) return 1000000 / q.rs end

function F.tokens(q)
  if q.rs < 0 then return FOREVER end
  local missing = 0
  if q.fa > now then missing = math.ceil((q.fa - now) / F.interval(q) - 1e-6) end
  return max(q.rb - missing, 0)
end

-- How many batches of it may be given out now.
function F.room(q)
  if q.pa == 1 then return 0 end
  local left = FOREVER
  if q.ml >= 0 then left = max(q.ml - q[PROCESSING], 0) end
  return min(left, F.tokens(q))
end
