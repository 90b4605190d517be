-- What every script begins with: keys, time, the state of the coordinator,
-- and the form of a batch's record.
--
-- KEYS[1] is the only key that is named: all others begin as it does and are
-- in its slot. Numbers are doubles: exact up to 2^53, which microseconds since
-- 1970 stay under; they never become texts by `tostring`, which keeps 14 digits.
local KM = KEYS[1]
local P = string.sub(KM, 1, -2)
local call, pack, unp, ssub = redis.call, struct.pack, struct.unpack, string.sub
local floor, max, min = math.floor, math.max, math.min
local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local FOREVER = 9007199254740991
-- Values of one command: `unpack` fails at 8,000.
local CHUNK = 2000

local WAITING, PENDING, SCHEDULED, PROCESSING = 1, 2, 3, 4
local COMPLETED, FAILED, CANCELLED, EXPIRED = 5, 6, 7, 8
local F_PARENTS, F_KEY, F_REMEMBERED, F_DEPENDS = 1, 2, 4, 8
local F_STARTED, F_WAIT, F_CANCEL, F_CHILDREN = 16, 32, 64, 128

-- How this client wants batches to be treated.
local cfg = {}
cfg.keep_finished, cfg.max_finished, cfg.keep_failed, cfg.max_failed, cfg.max_live,
  cfg.max_bytes, cfg.max_keys, cfg.max_edges, cfg.near_wait, cfg.policy =
  unp('<dddddddddHc0', ARGV[1])

local function has(flags, flag) return flags % (flag + flag) >= flag end

-- The state of the whole coordinator, in one value.
local META = '<dddddddddddd'
local meta, meta_dirty

local function new_meta()
  return { v = 1, ep = 0, lo = 0, run = 0, seq = 0, rev = 0, nt = FOREVER, lv = 0, lb = 0,
    wu = 0, en = 0, ed = 0, rid = '' }
end

local function read_meta()
  local raw = call('GET', KM)
  if not raw then meta = new_meta() return end
  local m = {}
  local at
  m.v, m.ep, m.lo, m.run, m.seq, m.rev, m.nt, m.lv, m.lb, m.wu, m.en, m.ed, at = unp(META, raw)
  m.rid = ssub(raw, at)
  meta = m
end

-- Begins a run: the server is another one, or was started again, so that the
-- end of what was written before may be missing. Tokens go on above all that
-- were given, whatever the clock says; every lease has its full time anew.
local function new_run(rid)
  local m = meta
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
  meta_dirty = true
end

local function begin()
  read_meta()
  if meta.v ~= 1 then
    return { 'err', 'newer', string.format('%.0f', meta.v) }
  end
  local rid = string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
  if meta.rid ~= rid then new_run(rid) end
end

local function soon(at)
  if at < meta.nt then
    meta.nt = at
    meta_dirty = true
  end
end

-- Records ------------------------------------------------------------------
-- head | S: what never changes, as the client packed it | lease, while
-- processing | X: sections of one letter, a length and a content.
local HEAD = '<BBBBi4I4I4I4I8I4I8I8I8I8I8I8I8I8I8I4I4'
local HLEN = 112
local LEASE = '<I8I8I8Hc0Hc0'

local function decode(id, raw)
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

local function encode(r)
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
local function section(x, tag)
  local at = 1
  while at <= #x do
    local t, content
    t, content, at = unp('<c1I4c0', x, at)
    if t == tag then return content end
  end
end

-- X with that section, or without it where there is no content.
local function with_section(x, tag, content)
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

local function ids_of(packed)
  local ids = {}
  local at = 1
  while at <= #packed do
    ids[#ids + 1], at = unp('<Bc0', packed, at)
  end
  return ids
end

local function packed_ids(ids)
  local out = {}
  for i, id in ipairs(ids) do out[i] = pack('<Bc0', #id, id) end
  return table.concat(out)
end

-- What S says besides queue and tenant.
local function policy_of(r)
  local _, _, policy = unp('<Hc0Hc0Hc0', r.S)
  if policy == '' then policy = cfg.policy end
  local p = {}
  p.retries, p.base, p.factor, p.cap, p.jitter, p.deadline = unp('<dddddd', policy)
  return p
end

local NO_OPTIONS = { delay = 0, expires = -1, window = 0, key = '', parents = {}, depends = {} }
local function options_of(s)
  local _, _, _, packed = unp('<Hc0Hc0Hc0I4c0', s)
  if packed == '' then return NO_OPTIONS end
  local o = {}
  local parents, depends
  o.delay, o.expires, o.window, o.key, parents, depends = unp('<dddHc0I4c0I4c0', packed)
  o.parents, o.depends = ids_of(parents), ids_of(depends)
  return o
end

-- Batches of this call, read once ---------------------------------------------
local recs, bad, dirty = {}, {}, {}

local function keep(id, raw)
  if not raw then
    recs[id] = false
    return false
  end
  local ok, r = pcall(decode, id, raw)
  if not ok then
    bad[id] = true
    r = false
  end
  recs[id] = r
  return r
end

local function load(id)
  local r = recs[id]
  if r ~= nil then return r end
  -- MGET, as it answers with nothing for a key of another kind.
  return keep(id, call('MGET', P .. 'b:' .. id)[1])
end

local function load_all(ids)
  local keys, want = {}, {}
  for _, id in ipairs(ids) do
    if recs[id] == nil then
      want[#want + 1] = id
      keys[#keys + 1] = P .. 'b:' .. id
    end
  end
  for from = 1, #keys, CHUNK do
    local to = min(from + CHUNK - 1, #keys)
    local raws = call('MGET', unpack(keys, from, to))
    for i = from, to do keep(want[i], raws[i - from + 1]) end
  end
end

-- Queues ---------------------------------------------------------------------------
-- c1 to c8: batches by state; -1 is no limit.
local QUEUE = '<ddddddddddddddddddd'
local queues, queue_list = {}, {}

local function Q(name, create)
  local q = queues[name]
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
  queues[name] = q
  if q then queue_list[#queue_list + 1] = q end
  return q
end

local function interval(q) return 1000000 / q.rs end

local function tokens(q)
  if q.rs < 0 then return FOREVER end
  local missing = 0
  if q.fa > now then missing = math.ceil((q.fa - now) / interval(q) - 1e-6) end
  return max(q.rb - missing, 0)
end

-- How many batches of it may be given out now.
local function room(q)
  if q.pa == 1 then return 0 end
  local left = FOREVER
  if q.ml >= 0 then left = max(q.ml - q[PROCESSING], 0) end
  return min(left, tokens(q))
end
