-- Changes by hand. ARGV: settings, what, then what it needs.
local refused = begin()
if refused then return refused end
local what = ARGV[2]
local out = {}

local function each(change)
  local ids = {}
  for i = 3, #ARGV do ids[i - 2] = ARGV[i] end
  load_all(ids)
  for i, id in ipairs(ids) do
    local r = load(id)
    out[i * 2 - 1] = r and change(r) or MISSING
  end
  propagate(64)
  for i, id in ipairs(ids) do out[i * 2] = state_of(id) end
end

if what == 'pause' or what == 'drain' or what == 'resume' or what == 'configure' then
  local name = ARGV[3]
  local q = Q(name)
  if not q and what ~= 'resume' then
    if call('SCARD', P .. 'qs') >= 4096 then return { 'err', 'over', 'queues', '4097', '4096' } end
    q = Q(name, true)
  end
  if q then
    if what == 'pause' then q.pa = 1 end
    if what == 'drain' then q.dr = 1 end
    if what == 'resume' then q.pa, q.dr = 0, 0 end
    if what == 'configure' then configure(q, ARGV[4]) end
    q.dirty = true
    wake[name] = true
  end
elseif what == 'cancel' then
  each(cancel)
elseif what == 'requeue' then
  each(requeue)
elseif what == 'watch' then
  meta.wu = max(meta.wu, now + tonumber(ARGV[3]))
  meta_dirty = true
end
done()
return { 'ok', now, meta.nt, meta.run, out, meta.en }
