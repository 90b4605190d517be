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
  if call('MSETNX', unpack(ARGV, from)) == 0 then return end
  local base = F.next_seq()
  local pairs_of = {}
  local id_at = #P + 3
  for i = 1, n do
    pairs_of[i * 2 - 1] = base + i - 1
    pairs_of[i * 2] = ssub(ARGV[from + i * 2 - 2], id_at)
  end
  call('ZADD', P .. 'od', unpack(pairs_of))
  local first = base
  for i = 1, n_blocks do
    local count, block_rows, block_bytes, home
    count, block_rows, block_bytes, home, at = unp('<HddI4', head, at)
    F.add_block({ first, PENDING, count, 0, home, block_rows, block_bytes, prio, 0, 0, 0, 0, 0, 0,
      queue, tenant, '', '', ARGV[2 + i] })
    call('ZADD', F.ready_blocks(queue, prio, tenant), first, first)
    first = first + count
  end
  local alone = (first - base) * 2
  if n * 2 > alone then call('ZADD', F.list_key(queue, prio, tenant), unpack(pairs_of, alone + 1)) end
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
      return { 'ok', now, S.meta[M_NT], S.meta[M_RUN], base }
    end
    -- A queue that was made for it alone is not kept.
    S.queues, S.queue_list = {}, {}
  end
  local specs = {}
  local from = 3
  if string.byte(ARGV[2]) == 1 then from = 3 + select(7, unp('<Bi4ddHc0Hc0H', ARGV[2])) end
  for i = from, #ARGV, 2 do specs[#specs + 1] = F.spec_of(ARGV[i], ARGV[i + 1]) end
  refused = F.admit(specs, true)
  if refused then return refused end
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
  return { 'ok', now, S.meta[M_NT], S.meta[M_RUN], out }
end
