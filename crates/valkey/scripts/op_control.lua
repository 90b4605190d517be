-- Changes by hand. ARGV: settings, what, then what it needs.
function F.op_control()
  local refused = F.begin(true)
  if refused then return refused end
  local what = ARGV[2]
  local out = {}

  local function each(change)
    local ids = {}
    for i = 3, #ARGV do ids[i - 2] = ARGV[i] end
    F.load_all(ids)
    for i, id in ipairs(ids) do
      local r = F.load(id)
      out[i * 2 - 1] = r and change(r) or MISSING
    end
    F.propagate(24)
    for i, id in ipairs(ids) do out[i * 2] = F.state_of(id) end
  end

  if what == 'pause' or what == 'drain' or what == 'resume' or what == 'configure' then
    local name = ARGV[3]
    local q = F.Q(name)
    if not q and what ~= 'resume' then
      if call('SCARD', P .. 'qs') >= 4096 then return { 'err', 'over', 'queues', '4097', '4096' } end
      q = F.Q(name, true)
    end
    if q then
      if what == 'pause' then q[Q_PA] = 1 end
      if what == 'drain' then q[Q_DR] = 1 end
      if what == 'resume' then q[Q_PA], q[Q_DR] = 0, 0 end
      if what == 'configure' then F.configure(q, ARGV[4]) end
      q.dirty = true
      S.wake[name] = true
    end
  elseif what == 'cancel' then
    each(F.cancel)
  elseif what == 'requeue' then
    each(F.requeue)
  elseif what == 'watch' then
    S.meta[M_WU] = max(S.meta[M_WU], now + tonumber(ARGV[3]))
    S.meta_dirty = true
  end
  F.done()
  return { 'ok', now, S.meta[M_NT], S.meta[M_RUN], F.happened(), out, S.meta[M_EN] }
end
