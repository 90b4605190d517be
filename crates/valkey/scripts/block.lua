-- Blocks: batches of consecutive places that are of one queue, priority and tenant,
-- were registered in one call without options, and to which the same has happened
-- since: they are ready, or leased by one claim or by as many as they are, or completed by
-- one call.
-- What they have in common is kept once, so that none of them has a state or an entry
-- in the order of registration of its own; their keys are kept beside it, for they
-- never change. A block is taken apart as soon as anything else happens to one of them.
--# BLOCK '<BHHI4I8I8i4I4I8I8I8I8I8Hc0Hc0Hc0Hc0I4'
-- Fewer are not worth it; more are several.
--# BLOCK_MIN 8
-- In form of a list: where it begins, how many there are, how many of those, from the
-- first on, are no longer in it; then what they have in common. Keys are joined.
--# K_FIRST 1
--# K_STATE 2
--# K_N 3
--# K_GONE 4
--# K_HOME 5
--# K_ROWS 6
--# K_BYTES 7
--# K_PRIO 8
--# K_EP 9
--# K_LO 10
--# K_AT 11
--# K_DL 12
--# K_DUR 13
--# K_DONE 14
--# K_QUEUE 15
--# K_TENANT 16
--# K_WORKER 17
--# K_REQ 18
--# K_JOINED 19

-- Texts of a place, never by `..`, which keeps 14 digits: from 2028 on there are 15.
function F.block_key(first) return P .. 'k:' .. string.format('%.0f', first) end

function F.joined_key(first) return P .. 'j:' .. string.format('%.0f', first) end

-- What stands for a block where else batches or claims stand.
function F.block_name(first) return '\0' .. string.format('%.0f', first) end

function F.named_block(name) return tonumber(ssub(name, 2)) end

function F.block_text(k)
  local queue, tenant, worker, req = k[K_QUEUE], k[K_TENANT], k[K_WORKER], k[K_REQ]
  return pack(BLOCK, k[K_STATE], k[K_N], k[K_GONE], k[K_HOME], k[K_ROWS], k[K_BYTES], k[K_PRIO],
    k[K_EP], k[K_LO], k[K_AT], k[K_DL], k[K_DUR], k[K_DONE], #queue, queue, #tenant, tenant,
    #worker, worker, #req, req, #k[K_JOINED])
end

function F.read_block(first, raw, joined)
  local k = { first, unp(BLOCK, raw) }
  if #joined ~= k[K_JOINED] then error('damaged') end
  k[K_JOINED], k[K_JOINED + 1] = joined, nil
  if k[K_STATE] < PENDING or k[K_STATE] > COMPLETED or k[K_N] <= k[K_GONE] then error('damaged') end
  if F.is_shared(k) then F.claims_of(k) end
  return k
end

function F.block(first)
  local k = S.blocks[first]
  if k ~= nil then return k end
  k = false
  local got = call('MGET', F.block_key(first), F.joined_key(first))
  if got[1] and got[2] then
    local ok, read = pcall(F.read_block, first, got[1], got[2])
    if ok then k = read end
  end
  S.blocks[first] = k
  return k
end

-- Whether it is under lease of several claims, one batch each: then the worker is empty,
-- and in place of the request are the worker and the request of each.
function F.is_shared(k) return k[K_WORKER] == '' and k[K_REQ] ~= '' end

function F.claims_of(k)
  if not k.claims then
    local claims, packed, at = {}, k[K_REQ], 1
    for i = 1, k[K_N] do claims[i], at = unp('<Hc0', packed, at) end
    k.claims = claims
  end
  return k.claims
end

-- Worker and request.
function F.parts_of(claim)
  local at = string.find(claim, '\0', 1, true)
  return ssub(claim, 1, at - 1), ssub(claim, at + 1)
end

-- The claims of a block under lease no longer lead to it.
function F.end_claims(k)
  local name = F.block_name(k[K_FIRST])
  if not F.is_shared(k) then
    local claim = k[K_WORKER] .. '\0' .. k[K_REQ]
    return F.let_go(P .. 'cl:' .. claim, claim, { name })
  end
  local keys, pc = {}, P .. 'cl:'
  for i, claim in ipairs(F.claims_of(k)) do keys[i] = pc .. claim end
  call('DEL', unpack(keys))
  call('ZREM', P .. 'ls', name)
end

function F.keys_of(k)
  -- Found by a plain search: a pattern costs as much as all else together.
  local joined, find, keys, at = k[K_JOINED], string.find, {}, 1
  for i = 1, k[K_N] do
    local key_end = find(joined, '\0', at, true) or #joined + 1
    keys[i] = ssub(joined, at, key_end - 1)
    at = key_end + 1
  end
  return keys
end

function F.ready_blocks(queue, prio, tenant)
  return P .. 'v:' .. queue .. '\0' .. prio .. '\0' .. tenant
end

function F.write_block(k)
  call('SET', F.block_key(k[K_FIRST]), F.block_text(k))
  S.blocks[k[K_FIRST]] = k
  S.written[k[K_FIRST]] = nil
end

-- A block that is new.
function F.add_block(k)
  call('SET', F.joined_key(k[K_FIRST]), k[K_JOINED])
  F.write_block(k)
  call('ZADD', P .. 'bk', k[K_FIRST], k[K_FIRST])
  S.meta[M_BL], S.meta_dirty = S.meta[M_BL] + k[K_N] - k[K_GONE], true
  S.some_blocks = true
end

-- Takes a block out of all places where its state put it, and forgets it.
function F.drop_block(k)
  local first = k[K_FIRST]
  call('DEL', F.block_key(first), F.joined_key(first))
  call('ZREM', P .. 'bk', first)
  S.meta[M_BL], S.meta_dirty = S.meta[M_BL] - k[K_N] + k[K_GONE], true
  if k[K_STATE] == PENDING then
    call('ZREM', F.ready_blocks(k[K_QUEUE], k[K_PRIO], k[K_TENANT]), first)
  elseif k[K_STATE] == PROCESSING then
    F.end_claims(k)
  else
    call('ZREM', P .. 'fi', F.block_name(first))
  end
  S.blocks[first] = false
  S.written[first] = nil
end

-- The state that batch `i` of a block would have by itself.
function F.state_in_block(k, i, rows, bytes)
  local place, head = k[K_FIRST] + i - 1, nil
  if k[K_STATE] == COMPLETED then
    head = pack(SHEAD, 1, COMPLETED, F_SAME, 1, 0, k[K_DONE], k[K_DONE], 0, 1, k[K_AT], 0, 0)
  else
    local worker, req, queue = k[K_WORKER], k[K_REQ], k[K_QUEUE]
    -- Whether processing has begun.
    local began = k[K_DONE]
    local flags = began
    if F.is_shared(k) then
      worker, req = F.parts_of(F.claims_of(k)[i])
      flags = flags + F_ALONE
    end
    head = pack(SHEAD, 1, PROCESSING, flags, 0, 0, k[K_AT], 0, 0, began, began * k[K_AT], 0, 0)
      .. pack(LEASE, k[K_DUR], k[K_AT], #worker, worker, #req, req, #queue, queue)
  end
  return head .. pack(TAIL, k[K_DL], rows, bytes, place, k[K_EP], k[K_LO] + i - 1)
end

-- The block that has the batch at a place.
function F.block_at(place)
  local first = call('ZREVRANGEBYSCORE', P .. 'bk', place, '-inf', 'LIMIT', 0, 1)[1]
  local k = first and F.block(tonumber(first))
  if first and k == false then
    F.lost_block(tonumber(first))
    return
  end
  if k and place >= k[K_FIRST] + k[K_GONE] and place < k[K_FIRST] + k[K_N] then return k end
end

-- The block that has a batch, and its place; `b` is its record. Batches that were never in
-- a block have no place in their records, and no record tells what became of a block.
function F.block_of(id, b)
  local place = b and F.place_in(b) or 0
  local k = place > 0 and F.block_at(place)
  if not k or F.keys_of(k)[place - k[K_FIRST] + 1] ~= P .. 'b:' .. id then return nil, place end
  return k, place
end

function F.any_blocks()
  if S.some_blocks == nil then S.some_blocks = call('EXISTS', P .. 'bk') == 1 end
  return S.some_blocks
end

-- One that has no state by itself may be in a block, which is then taken apart; or, where
-- nothing may be changed, is looked into: answers with the state.
function F.apart(id, b)
  local k, place = F.block_of(id, b)
  if not k then
    -- It was in one whose keys were lost.
    if place > 0 and not S.reading and S.recs[id] == nil and not call('ZSCORE', P .. 'od', id) then
      F.damaged(id, 'default', '')
    end
    return
  end
  if S.reading then
    if k[K_STATE] == PENDING then return end
    local ok, _, _, _, rows, bytes = pcall(unp, BHEAD, b)
    return ok and F.state_in_block(k, place - k[K_FIRST] + 1, rows, bytes) or nil
  end
  F.take_apart(k)
  return true
end

-- Each batch of a block by itself.
function F.take_apart(k)
  S.busy = true
  local keys, ids, from = F.keys_of(k), {}, #P + 3
  local state, first = k[K_STATE], k[K_FIRST]
  local values, pairs_of, bad, order = {}, {}, {}, {}
  for i = k[K_GONE] + 1, k[K_N] do
    ids[i] = ssub(keys[i], from)
    order[#order + 1] = first + i - 1
    order[#order + 1] = ids[i]
  end
  call('ZADD', P .. 'od', unpack(order))
  if state ~= PENDING then
    local raws = call('MGET', unpack(keys, k[K_GONE] + 1, k[K_N]))
    for i = k[K_GONE] + 1, k[K_N] do
      local raw = raws[i - k[K_GONE]]
      local ok, _, _, _, rows, bytes = pcall(unp, BHEAD, raw or '')
      if not ok then
        rows, bytes = 0, 0
        bad[#bad + 1] = ids[i]
      end
      values[#values + 1] = P .. 's:' .. ids[i]
      values[#values + 1] = F.state_in_block(k, i, rows, bytes)
    end
    call('MSET', unpack(values))
  end
  if F.is_shared(k) then
    F.drop_block(k)
    F.hold_each(k)
    for _, id in ipairs(bad) do F.damaged(id, k[K_QUEUE], k[K_TENANT], state) end
    return
  end
  for i = k[K_GONE] + 1, k[K_N] do
    if state == PROCESSING then
      pairs_of[#pairs_of + 1] = first + i - 1
    else
      pairs_of[#pairs_of + 1] = state == PENDING and first + i - 1 or k[K_DONE]
      pairs_of[#pairs_of + 1] = ids[i]
    end
  end
  if state == PENDING then
    call('ZADD', F.list_key(k[K_QUEUE], k[K_PRIO], k[K_TENANT]), unpack(pairs_of))
  elseif state == PROCESSING then
    call('SADD', P .. 'cl:' .. k[K_WORKER] .. '\0' .. k[K_REQ], unpack(pairs_of))
  else
    call('ZADD', P .. 'fi', unpack(pairs_of))
  end
  F.drop_block(k)
  for _, id in ipairs(bad) do F.damaged(id, k[K_QUEUE], k[K_TENANT], state) end
end

-- The batches of a block that was shared, each under its claim.
function F.hold_each(k)
  local times = { 'LT' }
  for i, claim in ipairs(F.claims_of(k)) do
    call('SADD', P .. 'cl:' .. claim, k[K_FIRST] + i - 1)
    times[i * 2], times[i * 2 + 1] = k[K_DL], claim
  end
  call('ZADD', P .. 'ls', unpack(times))
  F.soon(k[K_DL])
end

-- Those of a leased block from number `from` on whose keys stand at `at` in `joined` become
-- a block of their own, to which nothing leads any more; what is before and behind them
-- stays under lease. Answers with it and where its keys end; with nothing, and has changed
-- nothing, where they are too few.
function F.split_off(k, from, joined, at)
  local keys, to = F.keys_of(k), from - 1
  while to < k[K_N] do
    local key_end = at + #keys[to + 1]
    local after = string.byte(joined, key_end)
    if ssub(joined, at, key_end - 1) ~= keys[to + 1] or (after and after ~= 0) then break end
    to, at = to + 1, key_end + 1
  end
  if to - from + 1 < BLOCK_MIN then return end
  local rows, bytes = { 0, 0 }, { 0, 0 }
  local raws = call('MGET', unpack(keys, 1, to))
  for i = 1, to do
    if not raws[i] or #raws[i] < BLEN or string.byte(raws[i]) ~= 1 then return end
    local _, _, _, r, b = unp('<BBi4I8I8', raws[i])
    local part = i < from and 1 or 2
    rows[part], bytes[part] = rows[part] + r, bytes[part] + b
  end
  F.drop_block(k)
  if from > 1 then F.hold_block(F.part_of(k, keys, 1, from - 1, rows[1], bytes[1])) end
  if to < k[K_N] then
    F.hold_block(F.part_of(k, keys, to + 1, k[K_N], k[K_ROWS] - rows[1] - rows[2],
      k[K_BYTES] - bytes[1] - bytes[2]))
  end
  return F.part_of(k, keys, from, to, rows[2], bytes[2]), at - 1
end

function F.part_of(k, keys, from, to, rows, bytes)
  local part, before = { unpack(k, 1, K_JOINED) }, from - 1
  part[K_FIRST], part[K_LO] = k[K_FIRST] + before, k[K_LO] + before
  part[K_N], part[K_ROWS], part[K_BYTES] = to - before, rows, bytes
  part[K_JOINED] = table.concat(keys, '\0', from, to)
  if F.is_shared(k) then
    local claims, packed = F.claims_of(k), {}
    for i = from, to do packed[i - before] = pack('<Hc0', #claims[i], claims[i]) end
    part[K_REQ] = table.concat(packed)
  end
  return part
end

-- A block under lease that comes from another one; taken apart where it is too small.
function F.hold_block(k)
  F.add_block(k)
  local name, member = F.block_name(k[K_FIRST]), nil
  if F.is_shared(k) then
    local values, place = {}, ssub(name, 2)
    for i, claim in ipairs(F.claims_of(k)) do
      values[i * 2 - 1], values[i * 2] = P .. 'cl:' .. claim, place
    end
    call('MSET', unpack(values))
    member = name
  else
    member = k[K_WORKER] .. '\0' .. k[K_REQ]
    call('SADD', P .. 'cl:' .. member, name)
  end
  call('ZADD', P .. 'ls', 'LT', k[K_DL], member)
  F.soon(k[K_DL])
  if k[K_N] < BLOCK_MIN then F.take_apart(k) end
end

-- A block that cannot be read: its batches fail, for who had them is not known.
function F.lost_block(first)
  if S.reading then return end
  S.busy = true
  local key, joined_key, name = F.block_key(first), F.joined_key(first), F.block_name(first)
  local got = call('MGET', key, joined_key)
  local ids, places = F.left_in(first, got[2])
  -- Where it is found says what it was.
  local state = PROCESSING
  if call('ZREM', P .. 'fi', name) == 1 then state = COMPLETED end
  for _, id in ipairs(ids) do
    local ok, r = pcall(F.decode, id, call('MGET', P .. 'b:' .. id)[1])
    if ok and call('ZREM', F.ready_blocks(r[R_QUEUE], r[R_PRIO], r[R_TENANT]), first) == 1 then
      state = PENDING
      break
    end
  end
  if got[1] then call('COPY', key, P .. 'bad:k:' .. ssub(name, 2), 'REPLACE') end
  if got[2] then call('COPY', joined_key, P .. 'bad:j:' .. ssub(name, 2), 'REPLACE') end
  call('DEL', key, joined_key)
  call('ZREM', P .. 'bk', first)
  call('ZREM', P .. 'ls', name)
  S.blocks[first], S.meta_dirty = nil, true
  if #ids > 0 then
    call('ZADD', P .. 'od', unpack(places))
    S.meta[M_BL] = S.meta[M_BL] - #ids
    for _, id in ipairs(ids) do F.damaged(id, 'default', '', state) end
  else
    F.nameless(got[1])
  end
end

-- Those of a block that cannot be read which are still in it, and their places.
function F.left_in(first, joined)
  local ids, places, i, start = {}, {}, 0, P .. 'b:'
  for key in string.gmatch(joined or '', '[^%z]+') do
    local id = ssub(key, #start + 1)
    -- Others were taken from it, or it is no block's text at all.
    if ssub(key, 1, #start) == start and i < 64 and call('EXISTS', key) == 1
      and not call('ZSCORE', P .. 'od', id) then
      ids[#ids + 1] = id
      places[#places + 1] = first + i
      places[#places + 1] = id
    end
    i = i + 1
  end
  return ids, places
end

-- A block whose keys are lost is still counted where what they have in common can be read;
-- its batches are found when they are next spoken of.
function F.nameless(raw)
  local ok, state, n, gone, _, rows, bytes, _, _, _, _, _, _, _, queue = pcall(unp, BLOCK, raw or '')
  if not ok or n <= gone then return end
  local m, q = S.meta, F.Q(queue, true)
  m[M_BL], q[state], q.dirty = m[M_BL] - n + gone, q[state] - n + gone, true
  if state < COMPLETED then
    m[M_LV], m[M_LB] = m[M_LV] - n + gone, m[M_LB] - bytes
    q[Q_LR], q[Q_LB] = q[Q_LR] - rows, q[Q_LB] - bytes
  end
end

-- Batches behind a place in the order of registration, `n` at most, each followed by its
-- place.
function F.behind(after, n)
  local out, full, at = {}, n * 2, 1
  local alone = call('ZRANGEBYSCORE', P .. 'od', '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, n)
  if not F.any_blocks() then return alone end
  local function add(id, place)
    out[#out + 1], out[#out + 2] = id, place
  end
  local page, from = math.ceil(n / BLOCK_MIN), '(' .. after
  local firsts = call('ZREVRANGEBYSCORE', P .. 'bk', after, '-inf', 'LIMIT', 0, 1)
  local last = tonumber(after)
  repeat
    for _, first in ipairs(firsts) do
      local ids, places = F.members(tonumber(first))
      if not ids then return F.behind(after, n) end
      for i, id in ipairs(ids) do
        while at < #alone and tonumber(alone[at + 1]) < places[i] and #out < full do
          add(alone[at], tonumber(alone[at + 1]))
          at = at + 2
        end
        if places[i] > last and #out < full then add(id, places[i]) end
      end
      if #out >= full then return out end
    end
    firsts = call('ZRANGEBYSCORE', P .. 'bk', from, '+inf', 'LIMIT', 0, page)
    if #firsts > 0 then from = '(' .. firsts[#firsts] end
  until #firsts == 0
  while at < #alone and #out < full do
    add(alone[at], tonumber(alone[at + 1]))
    at = at + 2
  end
  return out
end

-- Those in a block, and their places; nothing where it could not be read, and its batches
-- are no longer in it.
function F.members(first)
  local k, ids, places = F.block(first), {}, {}
  if k then
    local keys, from = F.keys_of(k), #P + 3
    for i = k[K_GONE] + 1, k[K_N] do
      ids[#ids + 1], places[#places + 1] = ssub(keys[i], from), first + i - 1
    end
  elseif S.reading then
    local left, at = F.left_in(first, call('MGET', F.joined_key(first))[1])
    for i, id in ipairs(left) do ids[i], places[i] = id, at[i * 2 - 1] end
  else
    F.lost_block(first)
    return
  end
  return ids, places
end

-- Makes ready batches that are in blocks stand in the list, as far as `n` of the list
-- may go before them.
function F.unfold(queue, prio, tenant, n)
  if not F.any_blocks() then return end
  local blocks, list = F.ready_blocks(queue, prio, tenant), F.list_key(queue, prio, tenant)
  while true do
    local first = call('ZRANGE', blocks, 0, 0)[1]
    if not first then return end
    local last = call('ZRANGE', list, n - 1, n - 1, 'WITHSCORES')[2]
    if last and tonumber(last) < tonumber(first) then return end
    local k = F.block(tonumber(first))
    if k then
      F.take_apart(k)
    else
      F.lost_block(tonumber(first))
      call('ZREM', blocks, first)
    end
  end
end

function F.flush_blocks()
  for first, k in pairs(S.written) do
    if S.blocks[first] == k then F.write_block(k) end
  end
  S.written = {}
end
