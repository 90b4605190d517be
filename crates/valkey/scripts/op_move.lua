-- Moving a whole state to another coordinator, or here from one. While that goes
-- on the version in `m` is another one, so that every other function, also those
-- of older libraries, refuses; `mv` says what is going on.
--
-- ARGV: settings, what, the mark that is to be, the one that there is, and what
-- else it needs. A mark that is another one was set by somebody else meanwhile.
function F.op_move()
  F.read_meta()
  local m, what, mark = S.meta, ARGV[2], ARGV[3]
  local v = m[M_V]
  if v ~= 1 and (v < DRAINING or v > FILLING) then
    return { 'err', 'newer', string.format('%.0f', v) }
  end
  local before = call('GET', P .. 'mv') or ''
  if what ~= 'look' and what ~= 'queue' and before ~= ARGV[4] then
    return { 'err', 'moving', before }
  end
  if what == 'fill' and before == '' and F.count_all() > 0 then
    return { 'err', 'moving', before }
  end
  if what == 'enter' then
    m[M_V] = tonumber(ARGV[5])
    if m[M_V] == 1 then
      -- Nobody could extend a lease meanwhile.
      m[M_REV] = now
      m[M_NT] = 0
      call('DEL', P .. 'mv', P .. 'mp')
    else
      call('SET', P .. 'mv', mark)
    end
    F.write_meta()
  elseif what == 'fill' then
    -- The epoch and the rest of a token that all others must be above; then runs.
    local ep, lo = unp('<I4I8', ARGV[5])
    if ep > m[M_EP] or (ep == m[M_EP] and lo > m[M_LO]) then m[M_EP], m[M_LO] = ep, lo end
    call('DEL', P .. 'pr')
    for i = 6, #ARGV do call('RPUSH', P .. 'pr', ARGV[i]) end
    call('SET', P .. 'mp', '0')
    call('SET', P .. 'mv', mark)
    m[M_V] = FILLING
    F.write_meta()
  elseif what == 'forget' then
    -- All other keys are gone; tokens and places go on.
    S.meta = { 1, m[M_EP], m[M_LO], m[M_RUN], m[M_SEQ], now, FOREVER, 0, 0, 0, 0, 0, 0,
      rid = m.rid }
    m = S.meta
    call('DEL', P .. 'mv', P .. 'mp')
    F.write_meta()
  elseif what == 'queue' and m[M_V] == FILLING then
    local paused, draining, purged = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
    local q = F.Q(mark, true)
    q[Q_PA], q[Q_DR], q[Q_PU] = paused, draining, purged
    F.configure(q, ARGV[7])
    F.done()
  end
  local leases = 0
  for _, key in ipairs(call('ZRANGE', P .. 'ls', 0, 499)) do
    for _, member in ipairs(F.held_under(key)) do
      local k = string.byte(member) == 0 and F.block(F.named_block(member))
      leases = leases + (k and k[K_N] or 1)
    end
  end
  return { 'ok', string.format('%.0f', m[M_V]), call('GET', P .. 'mv') or '',
    call('GET', P .. 'mp') or '0', F.count_all(), leases,
    pack('<I4I8', m[M_EP], m[M_LO]) }
end
