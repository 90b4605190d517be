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
-- What the specification says.
--# F_PARENTS 1
--# F_KEY 2
--# F_DEPENDS 4
--# F_WAIT 8
--# F_CANCEL 16
--# F_OPTIONS 32
-- What became of the batch: processing has begun, its dedup key is remembered,
-- others wait for it, it was settled with the token that it had last, its lease is
-- the only one of its claim.
--# F_STARTED 1
--# F_REMEMBERED 2
--# F_CHILDREN 4
--# F_SAME 8
--# F_ALONE 16
-- A batch in the form of a list: what the call needs, then the state as stored.
--# R_ID 1
--# R_B 2
--# R_RAW 3
--# R_S 4
--# R_X 5
--# R_QUEUE 6
--# R_TENANT 7
--# R_DIRTY 8
--# R_PURGED 9
--# R_FROM 10
--# R_BY 11
--# R_DL 12
--# R_CLA 13
--# R_DUR 14
--# R_WORKER 15
--# R_REQ 16
--# R_SEQ 17
--# R_PRIO 18
--# R_ROWS 19
--# R_BYTES 20
--# R_HOME 21
--# R_FIXED 22
--# R_NEW 23
--# R_USED 24
--# R_VER 25
--# R_STATE 26
--# R_FLAGS 27
--# R_SETTLED 28
--# R_LOST 29
--# R_UPD 30
--# R_AT 31
--# R_EXP 32
--# R_ATT 33
--# R_FIRST 34
--# R_SEP 35
--# R_SLO 36
--# R_EP 37
--# R_LO 38
-- The state of the coordinator.
--# M_V 1
--# M_EP 2
--# M_LO 3
--# M_RUN 4
--# M_SEQ 5
--# M_REV 6
--# M_NT 7
--# M_LV 8
--# M_LB 9
--# M_WU 10
--# M_EN 11
--# M_ED 12
-- Batches in blocks.
--# M_BL 13
--# M_LAST 13
-- What stands in place of its version while the state is being moved.
--# DRAINING 1001
--# FROZEN 1002
--# MOVED 1003
--# FILLING 1004
-- A queue likewise, after the counts of the eight states.
--# Q_LR 9
--# Q_LB 10
--# Q_PU 11
--# Q_PA 12
--# Q_DR 13
--# Q_ML 14
--# Q_MT 15
--# Q_RS 16
--# Q_RB 17
--# Q_FA 18
--# Q_MB 19
-- Whether pending ones are of other priorities than 0, or of tenants; how many
-- of them were given out before.
--# Q_MIXED 20
--# Q_USED 21
--# Q_LAST 21
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
  if S and not S.busy then
    -- Nothing but this was touched by the call before.
    S.cfg = F.read_settings(ssub(args[1], 1, -13))
    S.queues, S.queue_list, S.wake, S.meta, S.meta_dirty, S.aged = {}, {}, {}, nil, nil, false
    S.blocks, S.written, S.some_blocks, S.reading, S.swept = {}, {}, nil, false, nil
    S.went, S.waits = nil, nil
    return
  end
  S = {
    cfg = F.read_settings(ssub(args[1], 1, -13)),
    -- Whether anything of the following was touched, but for queues and wakes.
    busy = false,
    -- Batches of this call, read once; those that cannot be read; those to write.
    recs = {}, bad = {}, dirty = {},
    queues = {}, queue_list = {},
    -- Members of sorted sets: key, member, score or false to remove.
    idx = {},
    -- Claims of which leases began or ended: worker and request, to the batches
    -- and when the first of them may run out.
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
    -- Queues in which a waiting claim may find something: true to look, 1 where
    -- it surely does.
    wake = {},
    -- What observers are told.
    events = {},
    -- The index of terminal batches to which some were added.
    aged = false,
    -- Blocks by their first place, and those to write; whether there are any;
    -- whether nothing may be changed.
    blocks = {}, written = {}, some_blocks = nil, reading = false,
  }
end

function F.has(flags, flag) return flags % (flag + flag) >= flag end

-- The state of the whole coordinator, in one value.
--# META '<ddddddddddddd'

function F.read_meta()
  local raw = call('GET', P .. 'm')
  if not raw then
    S.meta = { 1, 0, 0, 0, 0, 0, FOREVER, 0, 0, 0, 0, 0, 0, rid = '' }
    return
  end
  S.meta = { unp(META, raw) }
  S.meta.rid = ssub(raw, 105)
end

-- Begins a run: the server is another one, or was started again, so that the
-- end of what was written before may be missing. Tokens go on above all that
-- were given, whatever the clock says; every lease has its full time anew.
function F.new_run(rid)
  local m = S.meta
  if m[M_RUN] ~= 0 then
    call('RPUSH', P .. 'pr', string.format('%.0f:%.0f', m[M_RUN], m[M_SEQ] + 1))
    call('LTRIM', P .. 'pr', -63, -1)
  end
  local millis = floor(now / 1000)
  if m[M_EP] == 0 then
    -- Quarters of an hour since 2025: above all of a state that was lost.
    m[M_EP] = floor((now - BASE) / 900000000)
    m[M_LO] = millis
  else
    -- Above whatever was given out and not heard of here: 10^9 tokens, or a
    -- clock that was 11 days ahead.
    m[M_LO] = max(m[M_LO], millis) + 1000000000
    if m[M_LO] > 16000000000000 then
      m[M_EP] = m[M_EP] + 1
      m[M_LO] = millis
    end
  end
  -- And above all that this client has seen.
  local ep, lo = unp('<I4I8', ARGV[1], #ARGV[1] - 11)
  if ep > m[M_EP] or (ep == m[M_EP] and lo >= m[M_LO]) then
    m[M_EP], m[M_LO] = ep, lo + 1000000000
  end
  -- With the time: the same server, emptied, begins another run.
  m[M_RUN] = tonumber(ssub(rid, 1, 13), 16) + now
  m[M_REV] = now
  m[M_NT] = 0
  m.rid = rid
  S.meta_dirty = true
end

-- Why the state answers no calls.
function F.refusal()
  local v = S.meta[M_V]
  if v >= DRAINING and v <= FILLING then return { 'err', 'moving', call('GET', P .. 'mv') or '' } end
  return { 'err', 'newer', string.format('%.0f', v) }
end

-- `ends`: whether it may be called while the state drains.
function F.begin(ends)
  F.read_meta()
  if S.meta[M_V] ~= 1 and not (ends and S.meta[M_V] == DRAINING) then return F.refusal() end
  local info = call('INFO', 'replication')
  local _, at = string.find(info, 'master_replid:', 1, true)
  local rid = ssub(info, at + 1, at + 40)
  if S.meta.rid ~= rid then F.new_run(rid) end
end

-- What metrics count: how many batches went into a state; were forgotten, as state 9; or had
-- been ready for so long when they were given out.
function F.went(state, n)
  if not S.went then S.went = { 0, 0, 0, 0, 0, 0, 0, 0, 0 } end
  S.went[state] = S.went[state] + n
end

function F.waited(n, micros)
  if not S.waits then S.waits = {} end
  local at = #S.waits
  S.waits[at + 1], S.waits[at + 2] = n, max(micros, 0)
end

-- All of that for the caller, who counts it.
function F.happened()
  if not S.went then return '' end
  local told, waits = pack('<I4I4I4I4I4I4I4I4I4', unpack(S.went)), S.waits
  if not waits then return told end
  local parts = { told }
  for from = 1, #waits, 1000 do
    local to = min(from + 999, #waits)
    parts[#parts + 1] = pack('<' .. string.rep('I4d', (to - from + 1) / 2), unpack(waits, from, to))
  end
  return table.concat(parts)
end

function F.soon(at)
  if at < S.meta[M_NT] then
    S.meta[M_NT] = at
    S.meta_dirty = true
  end
end

-- Records ------------------------------------------------------------------
-- `b:` what never changes, as the client packed it: version, flags, priority,
-- rows, bytes, home; locations; S with queue, tenant, policy, options, digest
-- and the rest.
--# BHEAD '<BBi4I8I8I4I4'
--# BLEN 30
-- `s:` what became of it; not there while nothing did. Head and middle, the
-- lease while processing, sections (X) of one letter, a length and a content,
-- and the tail, which is always the last: deadline, rows, bytes, place, token.
--# SHEAD '<BBBBI4I8I8I8I4I8I4I8'
--# SLEN 56
--# LEASE '<I8I8Hc0Hc0Hc0'
--# TAIL '<I8I8I8I8I4I8'
--# TLEN 44

function F.decode(id, b, s)
  local ver, fixed, prio, rows, bytes, home, llen = unp(BHEAD, b)
  if ver ~= 1 or #b < BLEN + llen + 14 then error('damaged') end
  local text = ssub(b, BLEN + llen + 1)
  local queue, tenant = unp('<Hc0Hc0', text)
  if not s then
    return { id, b, false, text, '', queue, tenant, false, false, false, false, 0, 0, 0, false, false,
      false, prio, rows, bytes, home, fixed, false, false, 1, PENDING, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
  end
  local r = { id, b, s, text, '', queue, tenant, false, false, false, false, 0, 0, 0, false, false,
    false, prio, rows, bytes, home, fixed, false, false, unp(SHEAD, s) }
  local state = r[R_STATE]
  r[R_USED] = state == PENDING
  if r[R_VER] ~= 1 or state < 1 or state > 8 or #s < SLEN + TLEN then error('damaged') end
  local at = SLEN + 1
  if state == PROCESSING then
    local _
    r[R_DUR], r[R_CLA], r[R_WORKER], r[R_REQ], _, at = unp(LEASE, s, at)
  end
  local tail = #s - TLEN
  if at > tail + 1 then error('damaged') end
  local _
  r[R_DL], _, _, r[R_SEQ], r[R_EP], r[R_LO] = unp(TAIL, s, tail + 1)
  if at <= tail then
    r[R_X] = ssub(s, at, tail)
    local places = F.section(r[R_X], 'l')
    if places then r[R_HOME] = unp('<I4', places) end
  end
  return r
end

function F.encode(r)
  local tail = r[R_X] .. pack(TAIL, r[R_DL], r[R_ROWS], r[R_BYTES], F.seq(r), r[R_EP], r[R_LO])
  local head = pack(SHEAD, unpack(r, R_VER, R_SLO))
  if r[R_STATE] ~= PROCESSING then return head .. tail end
  local worker, req, queue = r[R_WORKER], r[R_REQ], r[R_QUEUE]
  return head .. pack(LEASE, r[R_DUR], r[R_CLA], #worker, worker, #req, req, #queue, queue) .. tail
end

-- A batch that nothing has happened to.
function F.new_record(id, b)
  local r = F.decode(id, b)
  r[R_NEW] = true
  return r
end

-- Its place in the order of registration, which is also when that was: no two
-- have the same microsecond. Counted from 2025, so that it is a short text.
--# BASE 1735689600000000
function F.next_seq()
  S.meta[M_SEQ] = max(S.meta[M_SEQ] + 1, now - BASE)
  return S.meta[M_SEQ]
end

function F.seq(r)
  local seq = r[R_SEQ]
  if not seq then
    seq = tonumber(call('ZSCORE', P .. 'od', r[R_ID]) or F.place_in(r[R_B]))
    r[R_SEQ] = seq
  end
  return seq
end

-- The record of a batch that came in a block ends with its place: for `protobuf`, which the
-- end of every record is, a field that nobody knows.
--# PLACED '\161\31'
function F.placed(b, place) return b .. PLACED .. pack('<I8', place) end

function F.place_in(b)
  if ssub(b, -10, -9) ~= PLACED then return 0 end
  return (unp('<I8', b, #b - 7))
end

-- When it was registered.
function F.registered(r) return F.seq(r) + BASE end

-- The batch at a place, in no block.
function F.at_place(seq)
  return call('ZRANGEBYSCORE', P .. 'od', seq, seq, 'LIMIT', 0, 1)[1]
end

-- The token with which it was settled last.
function F.settled_with(r)
  if F.has(r[R_FLAGS], F_SAME) then return r[R_EP], r[R_LO] end
  return r[R_SEP], r[R_SLO]
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
  local _, _, policy = unp('<Hc0Hc0Hc0', r[R_S])
  if policy == '' then policy = S.cfg.policy end
  local p = {}
  p.retries, p.base, p.factor, p.cap, p.jitter, p.deadline = unp('<dddddd', policy)
  return p
end

local no_options = { delay = 0, expires = -1, window = 0, key = '', parents = {}, depends = {} }
function F.no_options() return no_options end

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
function F.keep(id, b, s)
  S.busy = true
  if not b and not s then
    S.recs[id] = false
    return false
  end
  local ok, r = pcall(F.decode, id, b, s)
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
  local got = call('MGET', P .. 'b:' .. id, P .. 's:' .. id)
  if got[1] and not got[2] then
    local s = F.apart(id, got[1])
    -- It may have been found damaged.
    if S.recs[id] ~= nil then return S.recs[id] end
    if s == true then s = call('MGET', P .. 's:' .. id)[1] end
    got[2] = s
  end
  return F.keep(id, got[1], got[2])
end

function F.load_all(ids)
  local keys, want = {}, {}
  for _, id in ipairs(ids) do
    if S.recs[id] == nil then
      want[#want + 1] = id
      keys[#keys + 1] = P .. 'b:' .. id
      keys[#keys + 1] = P .. 's:' .. id
    end
  end
  for from = 1, #keys, CHUNK do
    local to = min(from + CHUNK - 1, #keys)
    local got = call('MGET', unpack(keys, from, to))
    local alone = {}
    for i = 1, #got, 2 do
      local id = want[(from + i) / 2]
      if got[i] and not got[i + 1] and (F.any_blocks() or F.place_in(got[i]) > 0) then
        alone[#alone + 1] = id
        local s = F.apart(id, got[i])
        if S.reading and s then
          F.keep(id, got[i], s)
        elseif not s and S.reading then
          F.keep(id, got[i])
        end
      else
        F.keep(id, got[i], got[i + 1])
      end
    end
    -- Their blocks are gone.
    for _, id in ipairs(alone) do
      if S.recs[id] == nil then F.load(id) end
    end
  end
end

-- Queues ---------------------------------------------------------------------------
-- c1 to c8: batches by state; -1 is no limit.
--# QUEUE '<ddddddddddddddddddddd'

function F.Q(name, create)
  local q = S.queues[name]
  if q ~= nil then
    if q or not create then return q end
  end
  local raw = call('GET', P .. 'q:' .. name)
  if raw then
    q = { unp(QUEUE, raw) }
    q.name = name
  elseif create then
    q = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, 0, 0, -1, 0, 0 }
    q.name, q.dirty, q.new = name, true, true
  else
    q = false
  end
  S.queues[name] = q
  if q then S.queue_list[#S.queue_list + 1] = q end
  return q
end

function F.interval(q) return 1000000 / q[Q_RS] end

function F.tokens(q)
  if q[Q_RS] < 0 then return FOREVER end
  local missing = 0
  if q[Q_FA] > now then missing = math.ceil((q[Q_FA] - now) / F.interval(q) - 1e-6) end
  return max(q[Q_RB] - missing, 0)
end

-- How many batches of it may be given out now.
function F.room(q)
  if q[Q_PA] == 1 then return 0 end
  local left = FOREVER
  if q[Q_ML] >= 0 then left = max(q[Q_ML] - q[PROCESSING], 0) end
  return min(left, F.tokens(q))
end
