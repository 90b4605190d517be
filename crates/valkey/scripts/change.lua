-- The unit of work: what changes is collected and written at the end, records
-- first, then where they are found, then what no longer finds them.

function F.put(key, member, score)
  S.busy = true
  local k = S.idx[key]
  if not k then
    k = {}
    S.idx[key] = k
  end
  k[member] = score
end

function F.list_key(queue, prio, tenant)
  return P .. 'w:' .. queue .. '\0' .. prio .. '\0' .. tenant
end

-- To be written. A ready batch that has a state is counted as used.
function F.touch(r)
  r[R_RAW] = false
  if r[R_STATE] == PENDING and not r[R_USED] and not F.is_untouched(r) then
    local q = F.Q(r[R_QUEUE], true)
    q[Q_USED] = q[Q_USED] + 1
    q.dirty = true
    r[R_USED] = true
  end
  if not r[R_DIRTY] then
    r[R_DIRTY] = true
    S.dirty[#S.dirty + 1] = r
  end
end

function F.unused(r, q)
  if r[R_USED] then
    q[Q_USED] = q[Q_USED] - 1
    r[R_USED] = false
  end
end

function F.note(r, from, to, worker)
  if S.meta[M_WU] <= now then return end
  local error = ''
  if r[R_STATE] == FAILED or r[R_STATE] == SCHEDULED then error = F.section(r[R_X], 'e') or '' end
  worker = worker or ''
  S.events[#S.events + 1] = pack('<BBI8I4Bc0Hc0Hc0I4c0', from, to, now, r[R_ATT], #r[R_ID], r[R_ID],
    #r[R_QUEUE], r[R_QUEUE], #worker, worker, #error, error)
end

function F.has_children(r)
  return F.has(r[R_FLAGS], F_CHILDREN) and call('EXISTS', P .. 'e:' .. r[R_ID]) == 1
end

function F.age_if_free(r)
  if F.has(r[R_FLAGS], F_REMEMBERED) or F.has_children(r) then return end
  S.aged = r[R_STATE] == FAILED and 'de' or S.aged or 'fi'
  if r[R_STATE] == FAILED then
    F.put(P .. 'de', r[R_ID], r[R_AT])
    F.soon(r[R_AT] + S.cfg.keep_failed)
  else
    F.put(P .. 'fi', r[R_ID], r[R_AT])
    F.soon(r[R_AT] + S.cfg.keep_finished)
  end
end

function F.link_outputs(r, add)
  local outputs = r[R_X] ~= '' and F.section(r[R_X], 'o')
  if not outputs then return end
  for _, id in ipairs(F.ids_of(outputs)) do F.put(P .. 'lo:' .. id, r[R_ID], add and F.seq(r)) end
end

-- A batch that waits knows what has not yet completed; an edge leads from each
-- of those to it. Edges that wait for another try come after all others.
--# PATIENT 4503599627370496

function F.link_waits(r, add)
  local unmet = r[R_X] ~= '' and F.section(r[R_X], 'u')
  if not unmet then return end
  local score = F.seq(r)
  if F.has(r[R_FIXED], F_WAIT) then score = score + PATIENT end
  for _, parent in ipairs(F.ids_of(unmet)) do
    F.put(P .. 'e:' .. parent, r[R_ID], add and score)
    S.meta[M_ED] = S.meta[M_ED] + (add and 1 or -1)
    S.meta_dirty = true
    local p = F.load(parent)
    if p and add then
      if not F.has(p[R_FLAGS], F_CHILDREN) then
        p[R_FLAGS] = p[R_FLAGS] + F_CHILDREN
        F.touch(p)
      end
      if p[R_STATE] > PROCESSING then F.put(P .. (p[R_STATE] == FAILED and 'de' or 'fi'), p[R_ID], false) end
    elseif p then
      S.ageing[parent] = true
    end
  end
end

function F.tenant_lease(q, tenant, by)
  if q[Q_MT] < 0 then return end
  q.tl = q.tl or {}
  q.tl[tenant] = (q.tl[tenant] or 0) + by
end

-- The leases of one claim are kept together, with the time at which the first
-- of them may run out: extended ones are found to stand when that has come.
function F.hold(r, is_held)
  local key = r[R_WORKER] .. '\0' .. r[R_REQ]
  local claim = S.claims[key]
  if not claim then
    claim = { ids = {}, dl = FOREVER }
    S.claims[key] = claim
  end
  claim.ids[F.seq(r)] = is_held
  if is_held then claim.dl = min(claim.dl, r[R_DL]) end
end

-- Takes a batch out of all places where its state put it.
function F.leave(r)
  local state = r[R_STATE]
  local q = F.Q(r[R_QUEUE], true)
  q[state] = q[state] - 1
  q.dirty = true
  if state <= PROCESSING then
    q[Q_LR] = q[Q_LR] - r[R_ROWS]
    q[Q_LB] = q[Q_LB] - r[R_BYTES]
    S.meta[M_LV] = S.meta[M_LV] - 1
    S.meta[M_LB] = S.meta[M_LB] - r[R_BYTES]
    S.meta_dirty = true
  end
  r[R_FROM], r[R_BY] = state, r[R_WORKER]
  if state == PENDING then
    F.unused(r, q)
    local key = F.list_key(r[R_QUEUE], r[R_PRIO], r[R_TENANT])
    F.put(key, r[R_ID], false)
    S.lists[key] = r
  elseif state == PROCESSING then
    F.hold(r, false)
    F.tenant_lease(q, r[R_TENANT], -1)
    if q[Q_ML] >= 0 or q[Q_MT] >= 0 then S.wake[r[R_QUEUE]] = true end
  elseif state == SCHEDULED then
    F.put(P .. 'd:' .. r[R_QUEUE], r[R_ID], false)
    S.due[r[R_QUEUE]] = true
  elseif state == WAITING then
    F.link_waits(r, false)
  else
    F.put(P .. (state == FAILED and 'de' or 'fi'), r[R_ID], false)
    F.link_outputs(r, false)
  end
  if r[R_EXP] > 0 and state <= SCHEDULED then F.put(P .. 'ex', r[R_ID], false) end
end

-- Puts a batch where its state belongs.
function F.enter(r)
  local state = r[R_STATE]
  local q = F.Q(r[R_QUEUE], true)
  q[state] = q[state] + 1
  q.dirty = true
  if state <= PROCESSING then
    q[Q_LR] = q[Q_LR] + r[R_ROWS]
    q[Q_LB] = q[Q_LB] + r[R_BYTES]
    S.meta[M_LV] = S.meta[M_LV] + 1
    S.meta[M_LB] = S.meta[M_LB] + r[R_BYTES]
    S.meta_dirty = true
  end
  r[R_UPD] = now
  if state ~= PROCESSING then
    r[R_WORKER] = false
    if F.has(r[R_FLAGS], F_STARTED) then r[R_FLAGS] = r[R_FLAGS] - F_STARTED end
    if F.has(r[R_FLAGS], F_ALONE) then r[R_FLAGS] = r[R_FLAGS] - F_ALONE end
  end
  if state == PENDING then
    if r[R_PRIO] ~= 0 or r[R_TENANT] ~= '' then q[Q_MIXED] = 1 end
    local key = F.list_key(r[R_QUEUE], r[R_PRIO], r[R_TENANT])
    F.put(key, r[R_ID], F.seq(r))
    S.lists[key] = r
    S.wake[r[R_QUEUE]] = true
  elseif state == PROCESSING then
    F.hold(r, true)
    F.soon(r[R_DL])
    F.tenant_lease(q, r[R_TENANT], 1)
  elseif state == SCHEDULED then
    F.put(P .. 'd:' .. r[R_QUEUE], r[R_ID], r[R_AT])
    S.due[r[R_QUEUE]] = true
    F.soon(r[R_AT])
  elseif state == WAITING then
    F.link_waits(r, true)
  else
    F.link_outputs(r, true)
    F.age_if_free(r)
    if F.has(r[R_FLAGS], F_CHILDREN) then S.agenda[#S.agenda + 1] = r[R_ID] end
  end
  if r[R_EXP] > 0 and state <= SCHEDULED then
    F.put(P .. 'ex', r[R_ID], r[R_EXP])
    F.soon(r[R_EXP])
  end
  F.touch(r)
  if r[R_FROM] ~= state then
    F.went(state, 1)
    F.note(r, r[R_FROM] or 0, state, r[R_BY] or r[R_WORKER])
  end
  r[R_FROM], r[R_BY] = false, false
end

function F.finish(r, state)
  r[R_STATE] = state
  r[R_AT] = now
  if r[R_X] ~= '' then r[R_X] = F.with_section(r[R_X], 'u') end
end

function F.ready(r)
  r[R_STATE] = PENDING
  r[R_AT] = 0
end

function F.rest(r, delay)
  F.ready(r)
  if delay > 0 then
    r[R_STATE] = SCHEDULED
    r[R_AT] = now + delay
  end
end

function F.start(r)
  if F.has(r[R_FLAGS], F_STARTED) then return end
  r[R_FLAGS] = r[R_FLAGS] + F_STARTED
  r[R_ATT] = r[R_ATT] + 1
  if r[R_FIRST] == 0 then r[R_FIRST] = now end
end

function F.fail_with(r, code, permanent, message)
  r[R_X] = F.with_section(r[R_X], 'e',
    pack('<I8BHc0', now, permanent and 1 or 0, #code, code) .. ssub(message, 1, 4096))
end

-- The queue that the state of a batch under lease tells.
function F.leased_in(s)
  if string.byte(s, 2) ~= PROCESSING then return end
  local _, _, _, _, queue = unp(LEASE, s, SLEN + 1)
  return queue
end

-- Stands in for a record that cannot be read: it is listed, and failed.
function F.damaged(id, queue, tenant, from)
  local got = call('MGET', P .. 'b:' .. id, P .. 's:' .. id)
  local ok, r = false, nil
  if got[1] then ok, r = pcall(F.decode, id, got[1]) end
  if not ok and got[2] then
    local is_read, leased = pcall(F.leased_in, got[2])
    queue = is_read and leased or queue
  end
  local q = F.Q(ok and r[R_QUEUE] or queue, true)
  if from then
    q[from] = q[from] - 1
    q.dirty = true
    if from <= PROCESSING then
      S.meta[M_LV] = S.meta[M_LV] - 1
      if ok then
        q[Q_LR], q[Q_LB] = q[Q_LR] - r[R_ROWS], q[Q_LB] - r[R_BYTES]
        S.meta[M_LB] = S.meta[M_LB] - r[R_BYTES]
      end
    end
  end
  -- What cannot be read is kept for whoever can make something of it.
  local kept = ''
  for _, kind in ipairs({ 'b:', 's:' }) do
    local key = P .. kind .. id
    if call('EXISTS', key) == 1 then
      call('COPY', key, P .. 'bad:' .. kind .. id, 'REPLACE')
      kept = '; the bytes are kept'
      call('DEL', key)
    end
  end
  if not ok then
    local s = pack('<Hc0Hc0Hc0I4c0', #queue, queue, #tenant, tenant, 0, '', 0, '')
      .. string.rep('\0', 8)
    r = F.decode(id, pack(BHEAD, 1, 0, 0, 0, 0, 0, 0) .. s)
  end
  r[R_NEW] = true
  S.recs[id] = r
  local place = tonumber(call('ZSCORE', P .. 'od', id) or 0)
  if place == 0 then
    place = F.place_in(r[R_B])
    if place == 0 then place = F.next_seq() end
    F.put(P .. 'od', id, place)
  end
  r[R_SEQ] = place
  r[R_STATE], r[R_AT] = FAILED, now
  F.fail_with(r, 'corrupt', true, 'its record could not be read' .. kept)
  F.enter(r)
  return r
end

-- Forgets a terminal batch that nothing holds.
function F.purge(r)
  local q = F.Q(r[R_QUEUE], true)
  F.leave(r)
  q[Q_PU] = q[Q_PU] + 1
  F.went(9, 1)
  if F.has(r[R_FIXED], F_PARENTS) or F.has(r[R_FLAGS], F_REMEMBERED) then
    local o = F.options_of(r[R_S])
    for _, parent in ipairs(o.parents) do F.put(P .. 'li:' .. parent, r[R_ID], false) end
    if F.has(r[R_FLAGS], F_REMEMBERED) then
      F.put(P .. 'kt', r[R_ID], false)
      local key = P .. 'dk:' .. r[R_QUEUE] .. '\0' .. r[R_TENANT] .. '\0' .. o.key
      if call('GET', key) == r[R_ID] then S.gone[#S.gone + 1] = key end
    end
  end
  F.note(r, r[R_FROM], 0)
  F.put(P .. 'od', r[R_ID], false)
  S.gone[#S.gone + 1] = P .. 'b:' .. r[R_ID]
  S.gone[#S.gone + 1] = P .. 's:' .. r[R_ID]
  S.recs[r[R_ID]] = false
  r[R_PURGED] = true
end

function F.many(command, key, values)
  for from = 1, #values, CHUNK do
    call(command, key, unpack(values, from, min(from + CHUNK - 1, #values)))
  end
end

function F.let_go(set, key, ids)
  if call('SCARD', set) == #ids then
    -- They are all in it, each once.
    call('DEL', set)
    call('ZREM', P .. 'ls', key)
    return
  end
  F.many('SREM', set, ids)
  if call('EXISTS', set) == 0 then call('ZREM', P .. 'ls', key) end
end

-- What is held under a member of `ls`: places, and names of blocks. A block that several
-- claims share stands there itself.
function F.held_under(member)
  if string.byte(member) == 0 then return { member } end
  return call('SMEMBERS', P .. 'cl:' .. member)
end

function F.flush_lists()
  for key, r in pairs(S.lists) do
    local lv, rg = P .. 'lv:' .. r[R_QUEUE], P .. 'rg:' .. r[R_QUEUE] .. '\0' .. r[R_PRIO]
    local rc = P .. 'rc:' .. r[R_QUEUE] .. '\0' .. r[R_PRIO]
    if call('EXISTS', key, F.ready_blocks(r[R_QUEUE], r[R_PRIO], r[R_TENANT])) > 0 then
      if F.Q(r[R_QUEUE])[Q_MT] < 0 or not call('ZSCORE', rc, r[R_TENANT]) then
        call('ZADD', rg, 0, r[R_TENANT])
        call('ZADD', lv, -r[R_PRIO], r[R_PRIO])
      end
    else
      call('ZREM', rg, r[R_TENANT])
      call('ZREM', rc, r[R_TENANT])
      if call('EXISTS', rg, rc) == 0 then
        call('ZREM', lv, r[R_PRIO])
        call('HDEL', P .. 'tn:' .. r[R_QUEUE], r[R_PRIO])
      end
    end
  end
  S.lists = {}
end

function F.flush_leases(q)
  local key = P .. 'tl:' .. q.name
  for tenant, by in pairs(q.tl) do
    if by ~= 0 then
      local n = call('HINCRBY', key, tenant, by)
      if n <= 0 then call('HDEL', key, tenant) end
      if by < 0 and n < q[Q_MT] then
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

function F.write_queue(q)
  if q.new then
    call('SADD', P .. 'qs', q.name)
    q.new = nil
  end
  if q[Q_LR] < 0 then q[Q_LR] = 0 end
  if q[Q_LB] < 0 then q[Q_LB] = 0 end
  if q[PENDING] == 0 then q[Q_MIXED], q[Q_USED] = 0, 0 end
  call('SET', P .. 'q:' .. q.name, pack(QUEUE, unpack(q, 1, Q_LAST)))
  q.dirty = nil
end

function F.write_meta()
  local m = S.meta
  if m[M_LV] < 0 then m[M_LV] = 0 end
  if m[M_LB] < 0 then m[M_LB] = 0 end
  call('SET', P .. 'm', pack(META, unpack(m, 1, M_LAST)) .. m.rid)
  S.meta_dirty = nil
end

-- New, ready, and nothing else: it needs no state beside its specification.
function F.is_untouched(r)
  return r[R_NEW] and r[R_STATE] == PENDING and r[R_FLAGS] == 0 and r[R_EXP] == 0
    and r[R_SETTLED] == 0 and r[R_X] == '' and r[R_ATT] == 0 and r[R_LOST] == 0 and r[R_EP] == 0
end

-- Writes records, then indexes; what is read afterwards sees it.
function F.flush()
  local values = {}
  for _, r in ipairs(S.dirty) do
    r[R_DIRTY] = false
    if not r[R_PURGED] then
      if r[R_NEW] then
        values[#values + 1] = P .. 'b:' .. r[R_ID]
        values[#values + 1] = r[R_B]
      end
      if not F.is_untouched(r) then
        r[R_RAW] = F.encode(r)
        values[#values + 1] = P .. 's:' .. r[R_ID]
        values[#values + 1] = r[R_RAW]
      end
      r[R_NEW] = false
    end
  end
  S.dirty = {}
  for from = 1, #values, CHUNK do
    call('MSET', unpack(values, from, min(from + CHUNK - 1, #values)))
  end
  local removals = {}
  for key, members in pairs(S.idx) do
    local add, rem = {}, {}
    for member, score in pairs(members) do
      if score then
        add[#add + 1] = score
        add[#add + 1] = member
      else
        rem[#rem + 1] = member
      end
    end
    if #add > 0 then F.many('ZADD', key, add) end
    if #rem > 0 then removals[key] = rem end
  end
  S.idx = {}
  for key, rem in pairs(removals) do F.many('ZREM', key, rem) end
  for key, claim in pairs(S.claims) do
    local add, rem = {}, {}
    for id, is in pairs(claim.ids) do
      if is then add[#add + 1] = id else rem[#rem + 1] = id end
    end
    local set = P .. 'cl:' .. key
    if #add > 0 then
      F.many('SADD', set, add)
      call('ZADD', P .. 'ls', 'LT', claim.dl, key)
    end
    if #rem > 0 then F.let_go(set, key, rem) end
  end
  S.claims = {}
  F.flush_lists()
  for queue in pairs(S.due) do
    local head = call('ZRANGE', P .. 'd:' .. queue, 0, 0, 'WITHSCORES')
    if head[1] then
      call('ZADD', P .. 'dq', head[2], queue)
    else
      call('ZREM', P .. 'dq', queue)
    end
  end
  S.due = {}
  for _, q in ipairs(S.queue_list) do
    if q.tl then F.flush_leases(q) end
  end
  for from = 1, #S.gone, CHUNK do
    call('DEL', unpack(S.gone, from, min(from + CHUNK - 1, #S.gone)))
  end
  S.gone = {}
  local check = S.ageing
  S.ageing = {}
  local again
  for id in pairs(check) do
    local r = F.load(id)
    if r and r[R_STATE] > PROCESSING and not F.has_children(r) then
      if F.has(r[R_FLAGS], F_CHILDREN) then
        r[R_FLAGS] = r[R_FLAGS] - F_CHILDREN
        F.touch(r)
      end
      F.age_if_free(r)
      again = true
    end
  end
  if again then return F.flush() end
end

-- The end of every script that writes.
function F.done()
  F.flush_blocks()
  if S.busy then
    for _, id in ipairs(S.agenda) do
      F.put(P .. 'ag', id, 0)
      F.soon(0)
    end
    S.agenda = {}
    F.flush()
  end
  if S.aged then
    local most = S.aged == 'fi' and S.cfg.max_finished or S.cfg.max_failed
    if F.count_of(P .. S.aged) > most then F.soon(0) end
  end
  for queue, sure in pairs(S.wake) do
    local q = F.Q(queue)
    if q and q[PENDING] > 0 and F.room(q) > 0
      and (sure == 1 or call('EXISTS', P .. 'lv:' .. queue) == 1) then
      call('ZADD', P .. 'wk:' .. queue, 0, '1')
    end
  end
  if S.events[1] then
    S.meta[M_EN] = S.meta[M_EN] + #S.events
    S.meta_dirty = true
    call('XADD', P .. 'ev', 'MAXLEN', '~', 2000, '*', 'n', string.format('%.0f', S.meta[M_EN]),
      'c', #S.events, 'd', table.concat(S.events))
    call('EXPIRE', P .. 'ev', 3600)
  end
  for _, q in ipairs(S.queue_list) do
    if q.dirty then F.write_queue(q) end
  end
  if S.meta_dirty then F.write_meta() end
end
