-- Ends of attempts.

function F.stands(r, ep, lo)
  return r and r[R_STATE] == PROCESSING and r[R_EP] == ep and r[R_LO] == lo and F.deadline_of(r) > now
end

-- A lease that ran out unnoticed is taken back before its batch is spoken of.
function F.missed(r)
  if r and r[R_STATE] == PROCESSING and F.deadline_of(r) <= now then F.lose(r) end
end

-- The delay before the next attempt; nothing where there is none.
function F.retry_delay(r)
  local p = F.policy_of(r)
  local retry = max(r[R_ATT] - 1, 0)
  if retry >= p.retries then return end
  local ms = 0
  if p.base > 0 then ms = min(p.base * max(p.factor, 1) ^ retry, p.cap) end
  local unit = 0.5
  if p.jitter > 0 then
    -- By batch and attempt alone: the same when it is worked out again.
    unit = tonumber(ssub(redis.sha1hex(r[R_ID] .. '\0' .. r[R_ATT]), 1, 13), 16) / 4503599627370496
  end
  local delay = floor(ms * (1 + p.jitter * (2 * unit - 1)) * 1000 + 0.5)
  if p.deadline >= 0 and now + delay > r[R_FIRST] + p.deadline * 1000 then return end
  return delay
end

function F.fail(r, error)
  F.start(r)
  F.leave(r)
  local permanent, code, message = 0, 'processor_failed', 'the worker gave no reason'
  if error ~= '' then
    local at
    permanent, code, at = unp('<BHc0', error)
    message = ssub(error, at)
  end
  F.fail_with(r, code, permanent == 1, message)
  local delay
  if permanent == 0 then delay = F.retry_delay(r) end
  if delay then F.rest(r, delay) else F.finish(r, FAILED) end
end

function F.release(r, error, delay)
  local started = F.has(r[R_FLAGS], F_STARTED)
  F.leave(r)
  if started then
    r[R_ATT] = max(r[R_ATT] - 1, 0)
    if r[R_ATT] == 0 then r[R_FIRST] = 0 end
  else
    local q = F.Q(r[R_QUEUE])
    if q[Q_RS] >= 0 then
      q[Q_FA] = q[Q_FA] - F.interval(q)
      F.put(P .. 'th', q.name, math.ceil(q[Q_FA] - F.interval(q) * (q[Q_RB] - 1)))
      S.wake[r[R_QUEUE]] = true
    end
  end
  if error ~= '' then
    local permanent, code, at = unp('<BHc0', error)
    F.fail_with(r, code, permanent == 1, ssub(error, at))
  end
  F.rest(r, delay)
end

-- One outcome; answers with what it did.
function F.settle(o)
  local r = F.load(o.id)
  if not r then
    if S.bad[o.id] then return STALE end
    return MISSING
  end
  if not F.stands(r, o.ep, o.lo) then
    F.missed(r)
    local ep, lo = F.settled_with(r)
    if ep == o.ep and lo == o.lo and r[R_SETTLED] == o.kind then return ALREADY end
    return STALE
  end
  if o.kind == 1 then
    F.start(r)
    F.leave(r)
    F.finish(r, COMPLETED)
    if #o.outputs > 0 then
      local ids = {}
      for i, s in ipairs(o.outputs) do ids[i] = s.id end
      r[R_X] = F.with_section(r[R_X], 'o', F.packed_ids(ids))
    end
  elseif o.kind == 2 then
    F.fail(r, o.error)
  else
    F.release(r, o.error, o.delay)
  end
  r[R_SETTLED], r[R_SEP], r[R_SLO], r[R_LOST] = o.kind, o.ep, o.lo, 0
  if F.has(r[R_FLAGS], F_SAME) then r[R_FLAGS] = r[R_FLAGS] - F_SAME end
  F.enter(r)
  return APPLIED
end

function F.begin_lease(id, ep, lo)
  local r = F.load(id)
  if not r then return MISSING end
  if not F.stands(r, ep, lo) then
    F.missed(r)
    return STALE
  end
  if F.has(r[R_FLAGS], F_STARTED) then return ALREADY end
  F.start(r)
  r[R_UPD] = now
  F.touch(r)
  return APPLIED
end

function F.state_of(id)
  local r = F.load(id)
  return r and r[R_STATE] or 0
end

-- Leases of a block are done whose keys stand at `at` in `joined`, the first with that
-- token: all of the block, or enough of it to be one. Answers how many, and where the next
-- key begins; nothing where that is not so, and then nothing has changed.
function F.settle_block(joined, at, ep, lo)
  if S.meta[M_WU] > now or not F.any_blocks() then return end
  local key_end = string.find(joined, '\0', at, true)
  local id = ssub(joined, at + #P + 2, key_end and key_end - 1)
  local b = call('MGET', P .. 'b:' .. id)[1]
  local place = b and F.place_in(b) or 0
  local k = place > 0 and F.block_at(place)
  if not k or k[K_STATE] ~= PROCESSING or k[K_EP] ~= ep
    or k[K_LO] + place - k[K_FIRST] ~= lo or k[K_DONE] ~= 1 or k[K_DL] <= now then
    return
  end
  local q, keys = F.Q(k[K_QUEUE], true), k[K_JOINED]
  if q[Q_MT] >= 0 then return end
  local after = at + #keys
  local is_whole = k[K_FIRST] == place and ssub(joined, at, after - 1) == keys
    and (after > #joined or string.byte(joined, after) == 0)
  if is_whole then
    F.end_claims(k)
  else
    k, after = F.split_off(k, place - k[K_FIRST] + 1, joined, at)
    if not k then return end
  end
  local n = k[K_N]
  k[K_STATE], k[K_DONE], k[K_WORKER], k[K_REQ] = COMPLETED, now, '', ''
  if is_whole then F.write_block(k) else F.add_block(k) end
  call('ZADD', P .. 'fi', now, F.block_name(place))
  q[PROCESSING], q[COMPLETED] = q[PROCESSING] - n, q[COMPLETED] + n
  F.went(COMPLETED, n)
  q[Q_LR], q[Q_LB] = q[Q_LR] - k[K_ROWS], q[Q_LB] - k[K_BYTES]
  q.dirty = true
  S.meta[M_LV], S.meta[M_LB] = S.meta[M_LV] - n, S.meta[M_LB] - k[K_BYTES]
  S.aged, S.meta_dirty = S.aged or 'fi', true
  F.soon(now + S.cfg.keep_finished)
  if q[Q_ML] >= 0 then S.wake[q.name] = true end
  return n, after + 1
end

-- Completes the blocks of a run of tokens; the others of it, by number from `base` on,
-- are added to those that are `alone`. Answers how many there are in all.
function F.settle_run(token, joined, base, alone)
  local ep, lo = unp('<I4I8', token)
  local at, i, states = 1, 0, nil
  while at <= #joined do
    local n, after
    -- One that has a state of its own is in no block.
    if not states or not states[i] then n, after = F.settle_block(joined, at, ep, lo + i) end
    if n then
      at, i = after, i + n
    else
      if not states then states = F.states_of(joined, at, i) end
      local count = #alone.keys + 1
      local key_end = string.find(joined, '\0', at, true) or #joined + 1
      alone.keys[count] = P .. 's:' .. ssub(joined, at + #P + 2, key_end - 1)
      alone.raws[count] = states[i]
      alone.tokens[count], alone.numbers[count] = pack('<I4I8', ep, lo + i), base + i
      at, i = key_end + 1, i + 1
    end
  end
  return i
end

-- The states of those whose keys stand at `at` and behind it, by number from `i` on.
function F.states_of(joined, at, i)
  local keys, states = {}, {}
  local find, ps, skip = string.find, P .. 's:', #P + 2
  while at <= #joined do
    local key_end = find(joined, '\0', at, true) or #joined + 1
    keys[#keys + 1] = ps .. ssub(joined, at + skip, key_end - 1)
    at = key_end + 1
  end
  for from = 1, #keys, CHUNK do
    local got = call('MGET', unpack(keys, from, min(from + CHUNK - 1, #keys)))
    for k = 1, #got do states[i + from + k - 2] = got[k] end
  end
  return states
end

-- The states of these, also of those that were in blocks under lease: a block is taken
-- apart as soon as some of it end without the others.
function F.opened(keys, states)
  if not F.any_blocks() then return states end
  for i = 1, #keys do
    local id = ssub(keys[i], #P + 3)
    local k = not states[i] and F.block_of(id, call('MGET', P .. 'b:' .. id)[1])
    if k and k[K_STATE] == PROCESSING then
      F.take_apart(k)
      states = call('MGET', unpack(keys))
    end
  end
  return states
end

-- Leases of a first attempt that has begun and is done, without outputs: few
-- commands, however many they are: the keys of their states and their tokens as
-- stored, and the states where they were read. Answers with those that are not so, by
-- their place among them.
function F.settle_plain(keys, tokens, states)
  local others, n = {}, #keys
  if S.meta[M_WU] > now or n > CHUNK / 2 then
    for i = 1, n do others[i] = i end
    return others
  end
  local raws = states
  for i = 1, n do
    if raws[i] == nil then
      raws = call('MGET', unpack(keys))
      break
    end
  end
  raws = F.opened(keys, raws)
  local begins, alone = pack('<BBB', 1, PROCESSING, F_STARTED), pack('<BBB', 1, PROCESSING, 17)
  local claims, sets = {}, {}
  local done = pack('<BBBBI4I8I8', 1, COMPLETED, F_SAME, 1, 0, now, now)
  local values, finished = {}, {}
  local ended = {}
  local last, claim, q
  local idat = #P + 3
  for i = 1, n do
    local s = raws[i]
    local head = s and ssub(s, 1, 3)
    local plain = (head == begins or head == alone) and ssub(s, -12) == tokens[i]
    if plain then
      local lease = ssub(s, SLEN + 1, -TLEN - 1)
      if lease ~= last then
        local _, _, worker, request, queue, at = unp(LEASE, lease)
        -- Nothing may follow: no progress, no other place, no error before.
        last, claim = at > #lease and lease, nil
        q = F.Q(queue, true)
        if last and q[Q_MT] < 0 then
          local key = worker .. '\0' .. request
          claim = ended[key]
          if head == alone then
            claim = { key = key }
          elseif not claim then
            claim = {}
            ended[key] = claim
          end
        end
      end
      local dl, rows, bytes, seq = unp('<I8I8I8I8', s, #s - TLEN + 1)
      plain = claim and dl > now
      if plain then
        local skey = keys[i]
        local id = ssub(skey, idat)
        values[#values + 1] = skey
        values[#values + 1] = done .. ssub(s, 25, SLEN) .. ssub(s, -TLEN)
        finished[#finished + 1] = now
        finished[#finished + 1] = id
        if claim.key then
          claims[#claims + 1], sets[#sets + 1] = claim.key, P .. 'cl:' .. claim.key
        else
          claim[#claim + 1] = seq
        end
        if S.busy then S.recs[id] = nil end
        q[PROCESSING], q[COMPLETED] = q[PROCESSING] - 1, q[COMPLETED] + 1
        q[Q_LR], q[Q_LB] = q[Q_LR] - rows, q[Q_LB] - bytes
        q.dirty = true
        S.meta[M_LV], S.meta[M_LB] = S.meta[M_LV] - 1, S.meta[M_LB] - bytes
      end
    end
    if not plain then others[#others + 1] = i end
  end
  if #values > 0 then
    F.went(COMPLETED, #values / 2)
    call('MSET', unpack(values))
    call('ZADD', P .. 'fi', unpack(finished))
    F.soon(now + S.cfg.keep_finished)
    S.aged, S.meta_dirty = S.aged or 'fi', true
    if sets[1] then
      call('DEL', unpack(sets))
      call('ZREM', P .. 'ls', unpack(claims))
    end
    for key, ids in pairs(ended) do
      if #ids > 0 then F.let_go(P .. 'cl:' .. key, key, ids) end
    end
    for _, touched in ipairs(S.queue_list) do
      if touched[Q_ML] >= 0 then S.wake[touched.name] = true end
    end
  end
  return others
end
