-- ARGV: settings; a head; the joined keys of each block; the key and the record of
-- each batch.
--
-- The head tells whether all are plain: of one queue, tenant and priority, each
-- another, without options; and which of them, in order, are blocks. If they are new
-- as well they go in by few commands, however many they are.
function F.register_plain(head)
  local _, prio, rows, bytes, queue, tenant, n_blocks, at = unp('<Bi4ddHc0Hc0H', head)
  local from = 3 + n_blocks
  local n = (#ARGV - from + 1) / 2
  local q = F.Q(queue, true)
  if n > CHUNK / 2 or S.meta[M_WU] > now or q[Q_DR] == 1 or q[Q_MT] >= 0 then return end
  local meta, cfg = S.meta, S.cfg
  if meta[M_LV] + n > cfg.max_live or (cfg.max_bytes >= 0 and meta[M_LB] + bytes > cfg.max_bytes)
    or (q[Q_MB] >= 0 and q[Q_LB] + bytes > q[Q_MB])
    or (q.new and call('SCARD', P .. 'qs') >= 4096) then
    return
  end
  local before = meta[M_SEQ]
  local base, blocks, first = F.next_seq(), {}, nil
  first = base
  for i = 1, n_blocks do
    local count, block_rows, block_bytes, home
    count, block_rows, block_bytes, home, at = unp('<HddI4', head, at)
    blocks[i] = { first, PENDING, count, 0, home, block_rows, block_bytes, prio, 0, 0, 0, 0, 0, 0,
      queue, tenant, '', '', ARGV[2 + i] }
    first = first + count
  end
  -- Those in blocks come before the others, and have their places in their records.
  local records, alone = ARGV, from + (first - base) * 2
  if n_blocks > 0 then
    records = {}
    for i = from, #ARGV, 2 do
      local at_key = i - from + 1
      records[at_key] = ARGV[i]
      if i < alone then
        records[at_key + 1] = F.placed(ARGV[i + 1], base + (i - from) / 2)
      else
        records[at_key + 1] = ARGV[i + 1]
      end
    end
  end
  if call('MSETNX', unpack(records, n_blocks > 0 and 1 or from)) == 0 then
    meta[M_SEQ] = before
    return
  end
  for _, k in ipairs(blocks) do
    F.add_block(k)
    call('ZADD', F.ready_blocks(queue, prio, tenant), k[K_FIRST], k[K_FIRST])
  end
  local pairs_of, id_at = {}, #P + 3
  for i = alone, #ARGV, 2 do
    pairs_of[#pairs_of + 1] = base + (i - from) / 2
    pairs_of[#pairs_of + 1] = ssub(ARGV[i], id_at)
  end
  if pairs_of[1] then
    call('ZADD', P .. 'od', unpack(pairs_of))
    call('ZADD', F.list_key(queue, prio, tenant), unpack(pairs_of))
  end
  local simple = prio == 0 and tenant == ''
  if not (simple and q[PENDING] > 0 and q[Q_MIXED] == 0) then
    call('ZADD', P .. 'rg:' .. queue .. '\0' .. prio, 0, tenant)
    call('ZADD', P .. 'lv:' .. queue, -prio, prio)
    if not simple then q[Q_MIXED] = 1 end
  end
  meta[M_SEQ] = base + n - 1
  meta[M_LV], meta[M_LB] = meta[M_LV] + n, meta[M_LB] + bytes
  S.meta_dirty = true
  q[PENDING], q[Q_LR], q[Q_LB] = q[PENDING] + n, q[Q_LR] + rows, q[Q_LB] + bytes
  q.dirty = true
  F.went(PENDING, n)
  S.wake[queue] = 1
  return base
end

function F.op_register()
  local refused = F.begin()
  if refused then return refused end
  if string.byte(ARGV[2]) == 1 then
    local base = F.register_plain(ARGV[2])
    if base then
      F.done()
      return { 'ok', now, S.meta[M_NT], S.meta[M_RUN], F.happened(), base }
    end
    -- A queue that was made for it alone is not kept.
    S.queues, S.queue_list = {}, {}
  end
  local specs = {}
  local from = 3
  if string.byte(ARGV[2]) == 1 then from = 3 + select(7, unp('<Bi4ddHc0Hc0H', ARGV[2])) end
  for i = from, #ARGV, 2 do specs[#specs + 1] = F.spec_of(ARGV[i], ARGV[i + 1]) end
  refused = F.admit(specs, true)
  if refused then return F.refused(refused) end
  local answers = F.enter_all(specs)
  F.done()
  local out = {}
  for i, a in ipairs(answers) do
    local r = a[1]
    out[#out + 1] = r[R_ID] == specs[i].id and '' or r[R_ID]
    out[#out + 1] = r[R_STATE]
    out[#out + 1] = a[2]
    out[#out + 1] = F.seq(r)
  end
  return { 'ok', now, S.meta[M_NT], S.meta[M_RUN], F.happened(), out }
end
