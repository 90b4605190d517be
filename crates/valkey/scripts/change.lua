-- The unit of work: what changes is collected and written at the end, records
-- first, then where they are found, then what no longer finds them.

function F.put(key, member, score)
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

function F.touch(r)
  if not r.dirty then
    r.dirty = true
    S.dirty[#S.dirty + 1] = r
  end
end

function F.note(r, from, to, worker)
  if S.meta.wu <= now then return end
  local error = ''
  if r.state == FAILED or r.state == SCHEDULED then error = F.section(r.X, 'e') or '' end
  worker = worker or ''
  S.events[#S.events + 1] = pack('<BBI8I4Bc0Hc0Hc0I4c0', from, to, now, r.att, #r.id, r.id,
    #r.queue, r.queue, #worker, worker, #error, error)
end

function F.lease_member(r) return r.queue .. '\0' .. r.tenant .. '\0' .. r.id end

function F.has_children(r)
  return F.has(r.flags, F_CHILDREN) and call('EXISTS', P .. 'e:' .. r.id) == 1
end

function F.age_if_free(r)
  if F.has(r.flags, F_REMEMBERED) or F.has_children(r) then return end
  S.aged = true
  if r.state == FAILED then
    F.put(P .. 'de', r.id, r.at)
    F.soon(r.at + S.cfg.keep_failed)
  else
    F.put(P .. 'fi', r.id, r.at)
    F.soon(r.at + S.cfg.keep_finished)
  end
end

function F.link_outputs(r, add)
  local outputs = r.X ~= '' and F.section(r.X, 'o')
  if not outputs then return end
  for _, id in ipairs(F.ids_of(outputs)) do F.put(P .. 'lo:' .. id, r.id, add and r.seq) end
end

-- A batch that waits knows what has not yet completed; an edge leads from each
-- of those to it. Edges that wait for another try come after all others.
--# PATIENT 4503599627370496

function F.link_waits(r, add)
  local unmet = r.X ~= '' and F.section(r.X, 'u')
  if not unmet then return end
  local score = r.seq
  if F.has(r.flags, F_WAIT) then score = score + PATIENT end
  for _, parent in ipairs(F.ids_of(unmet)) do
    F.put(P .. 'e:' .. parent, r.id, add and score)
    S.meta.ed = S.meta.ed + (add and 1 or -1)
    S.meta_dirty = true
    local p = F.load(parent)
    if p and add then
      if not F.has(p.flags, F_CHILDREN) then
        p.flags = p.flags + F_CHILDREN
        F.touch(p)
      end
      if p.state > PROCESSING then F.put(P .. (p.state == FAILED and 'de' or 'fi'), p.id, false) end
    elseif p then
      S.ageing[parent] = true
    end
  end
end

function F.tenant_lease(q, tenant, by)
  if q.mt < 0 then return end
  q.tl = q.tl or {}
  q.tl[tenant] = (q.tl[tenant] or 0) + by
end

-- Takes a batch out of all places where its state put it.
function F.leave(r)
  local state = r.state
  local q = F.Q(r.queue, true)
  q[state] = q[state] - 1
  q.dirty = true
  if state <= PROCESSING then
    q.lr = q.lr - r.rows
    q.lb = q.lb - r.bytes
    S.meta.lv = S.meta.lv - 1
    S.meta.lb = S.meta.lb - r.bytes
    S.meta_dirty = true
  end
  r.from, r.by = state, r.worker
  if state == PENDING then
    local key = F.list_key(r.queue, r.prio, r.tenant)
    F.put(key, r.id, false)
    S.lists[key] = r
  elseif state == PROCESSING then
    F.put(P .. 'ls', F.lease_member(r), false)
    local key = P .. 'cl:' .. r.worker .. '\0' .. r.req
    S.claims[key] = S.claims[key] or {}
    S.claims[key][r.id] = false
    F.tenant_lease(q, r.tenant, -1)
    if q.ml >= 0 or q.mt >= 0 then S.wake[r.queue] = true end
  elseif state == SCHEDULED then
    F.put(P .. 'd:' .. r.queue, r.id, false)
    S.due[r.queue] = true
  elseif state == WAITING then
    F.link_waits(r, false)
  else
    F.put(P .. (state == FAILED and 'de' or 'fi'), r.id, false)
    F.link_outputs(r, false)
  end
  if r.exp > 0 and state <= SCHEDULED then F.put(P .. 'ex', r.id, false) end
end

-- Puts a batch where its state belongs.
function F.enter(r)
  local state = r.state
  local q = F.Q(r.queue, true)
  q[state] = q[state] + 1
  q.dirty = true
  if state <= PROCESSING then
    q.lr = q.lr + r.rows
    q.lb = q.lb + r.bytes
    S.meta.lv = S.meta.lv + 1
    S.meta.lb = S.meta.lb + r.bytes
    S.meta_dirty = true
  end
  r.upd = now
  if state ~= PROCESSING then
    r.worker = nil
    if F.has(r.flags, F_STARTED) then r.flags = r.flags - F_STARTED end
  end
  if state == PENDING then
    local key = F.list_key(r.queue, r.prio, r.tenant)
    F.put(key, r.id, r.seq)
    S.lists[key] = r
    S.wake[r.queue] = true
  elseif state == PROCESSING then
    F.put(P .. 'ls', F.lease_member(r), r.dl)
    F.soon(r.dl)
    local key = P .. 'cl:' .. r.worker .. '\0' .. r.req
    S.claims[key] = S.claims[key] or {}
    S.claims[key][r.id] = true
    F.tenant_lease(q, r.tenant, 1)
  elseif state == SCHEDULED then
    F.put(P .. 'd:' .. r.queue, r.id, r.at)
    S.due[r.queue] = true
    F.soon(r.at)
  elseif state == WAITING then
    F.link_waits(r, true)
  else
    F.link_outputs(r, true)
    F.age_if_free(r)
    if F.has(r.flags, F_CHILDREN) then S.agenda[#S.agenda + 1] = r.id end
  end
  if r.exp > 0 and state <= SCHEDULED then
    F.put(P .. 'ex', r.id, r.exp)
    F.soon(r.exp)
  end
  F.touch(r)
  F.note(r, r.from or 0, state, r.by or r.worker)
  r.from, r.by = nil, nil
end

function F.finish(r, state)
  r.state = state
  r.at = now
  if r.X ~= '' then r.X = F.with_section(r.X, 'u') end
end

function F.ready(r)
  r.state = PENDING
  r.at = 0
end

function F.rest(r, delay)
  F.ready(r)
  if delay > 0 then
    r.state = SCHEDULED
    r.at = now + delay
  end
end

function F.start(r)
  if F.has(r.flags, F_STARTED) then return end
  r.flags = r.flags + F_STARTED
  r.att = r.att + 1
  if r.first == 0 then r.first = now end
end

function F.fail_with(r, code, permanent, message)
  r.X = F.with_section(r.X, 'e',
    pack('<I8BHc0', now, permanent and 1 or 0, #code, code) .. ssub(message, 1, 4096))
end

-- Stands in for a record that cannot be read: it is listed, and failed.
function F.damaged(id, queue, tenant, from)
  local q = F.Q(queue, true)
  if from then
    q[from] = q[from] - 1
    if from <= PROCESSING then S.meta.lv = S.meta.lv - 1 end
  end
  local s = pack('<Hc0Hc0Hc0I4c0', #queue, queue, #tenant, tenant, 0, '', 0, '')
    .. string.rep('\0', 8)
  local seq = tonumber(call('ZSCORE', P .. 'od', id) or 0)
  if seq == 0 then
    S.meta.seq = S.meta.seq + 1
    seq = S.meta.seq
    F.put(P .. 'od', id, seq)
  end
  local r = { id = id, state = FAILED, flags = 0, settled = 0, prio = 0, att = 0, lost = 0, ep = 0,
    lo = 0, sep = 0, slo = 0, seq = seq, rows = 0, bytes = 0, reg = now, upd = now, first = 0,
    exp = 0, at = now, home = 0, slen = #s, S = s, queue = queue, tenant = tenant, X = '' }
  -- What cannot be read is kept for whoever can make something of it.
  if S.bad[id] then call('COPY', P .. 'b:' .. id, P .. 'bad:' .. id, 'REPLACE') end
  if call('TYPE', P .. 'b:' .. id).ok ~= 'string' then call('DEL', P .. 'b:' .. id) end
  S.recs[id] = r
  F.fail_with(r, 'corrupt', true, S.bad[id] and 'its record could not be read; the bytes are kept'
    or 'its record is gone')
  F.enter(r)
  return r
end

-- Forgets a terminal batch that nothing holds.
function F.purge(r)
  local q = F.Q(r.queue, true)
  F.leave(r)
  q.pu = q.pu + 1
  if F.has(r.flags, F_PARENTS) or F.has(r.flags, F_REMEMBERED) then
    local o = F.options_of(r.S)
    for _, parent in ipairs(o.parents) do F.put(P .. 'li:' .. parent, r.id, false) end
    if F.has(r.flags, F_REMEMBERED) then
      F.put(P .. 'kt', r.id, false)
      local key = P .. 'dk:' .. r.queue .. '\0' .. r.tenant .. '\0' .. o.key
      if call('GET', key) == r.id then S.gone[#S.gone + 1] = key end
    end
  end
  F.note(r, r.from, 0)
  F.put(P .. 'od', r.id, false)
  S.gone[#S.gone + 1] = P .. 'b:' .. r.id
  S.recs[r.id] = false
  r.purged = true
end

function F.many(command, key, values)
  for from = 1, #values, CHUNK do
    call(command, key, unpack(values, from, min(from + CHUNK - 1, #values)))
  end
end

function F.flush_lists()
  for key, r in pairs(S.lists) do
    local lv, rg = P .. 'lv:' .. r.queue, P .. 'rg:' .. r.queue .. '\0' .. r.prio
    local rc = P .. 'rc:' .. r.queue .. '\0' .. r.prio
    if call('EXISTS', key) == 1 then
      if F.Q(r.queue).mt < 0 or not call('ZSCORE', rc, r.tenant) then
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
  S.lists = {}
end

function F.flush_leases(q)
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

function F.write_queue(q)
  if q.new then
    call('SADD', P .. 'qs', q.name)
    q.new = nil
  end
  call('SET', P .. 'q:' .. q.name, pack(QUEUE, q[1], q[2], q[3], q[4], q[5], q[6], q[7], q[8],
    max(q.lr, 0), max(q.lb, 0), q.pu, q.pa, q.dr, q.ml, q.mt, q.rs, q.rb, q.fa, q.mb))
  q.dirty = nil
end

function F.write_meta()
  local m = S.meta
  call('SET', P .. 'm', pack(META, m.v, m.ep, m.lo, m.run, m.seq, m.rev, m.nt, max(m.lv, 0),
    max(m.lb, 0), m.wu, m.en, max(m.ed, 0)) .. m.rid)
  S.meta_dirty = nil
end

-- Writes records, then indexes; what is read afterwards sees it.
function F.flush()
  local values = {}
  for _, r in ipairs(S.dirty) do
    r.dirty = nil
    if not r.purged then
      values[#values + 1] = P .. 'b:' .. r.id
      values[#values + 1] = F.encode(r)
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
  for key, members in pairs(S.claims) do
    local add, rem = {}, {}
    for id, is in pairs(members) do
      if is then add[#add + 1] = id else rem[#rem + 1] = id end
    end
    if #add > 0 then F.many('SADD', key, add) end
    if #rem > 0 then F.many('SREM', key, rem) end
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
    if r and r.state > PROCESSING and not F.has_children(r) then
      if F.has(r.flags, F_CHILDREN) then
        r.flags = r.flags - F_CHILDREN
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
  for _, id in ipairs(S.agenda) do
    F.put(P .. 'ag', id, 0)
    F.soon(0)
  end
  S.agenda = {}
  F.flush()
  if S.aged and (call('ZCARD', P .. 'fi') > S.cfg.max_finished
    or call('ZCARD', P .. 'de') > S.cfg.max_failed) then
    F.soon(0)
  end
  for queue in pairs(S.wake) do
    local q = F.Q(queue)
    if q and F.room(q) > 0 and call('EXISTS', P .. 'lv:' .. queue) == 1 then
      call('ZADD', P .. 'wk:' .. queue, 0, '1')
    end
  end
  if #S.events > 0 then
    S.meta.en = S.meta.en + #S.events
    S.meta_dirty = true
    call('XADD', P .. 'ev', 'MAXLEN', '~', 10000, '*', 'n', string.format('%.0f', S.meta.en),
      'c', #S.events, 'd', table.concat(S.events))
  end
  for _, q in ipairs(S.queue_list) do
    if q.dirty then F.write_queue(q) end
  end
  if S.meta_dirty then F.write_meta() end
end
