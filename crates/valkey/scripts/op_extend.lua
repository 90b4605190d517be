-- ARGV: settings, then one extension each.
local refused = begin()
if refused then return refused end
local ids, asked = {}, {}
for i = 2, #ARGV do
  local e = {}
  e.flags, e.ep, e.lo, e.dur, e.id, e.progress = unp('<BI4I8dBc0I4c0', ARGV[i])
  asked[i - 1], ids[i - 1] = e, e.id
end
load_all(ids)
local out = {}
for _, e in ipairs(asked) do
  local r = load(e.id)
  local verdict, deadline, cancelled = MISSING, 0, 0
  if r then
    verdict = STALE
    if stands(r, e.ep, e.lo) then
      verdict = APPLIED
      if e.dur > 0 then r.dur = e.dur end
      r.dl = now + r.dur
      deadline = r.dl
      put(P .. 'ls', lease_member(r), r.dl)
      soon(r.dl)
      if e.flags % 2 == 1 then start(r) end
      if e.flags >= 2 then r.X = with_section(r.X, 'p', e.progress) end
      r.upd = now
      touch(r)
    else
      missed(r)
      if r.state == CANCELLED and r.ep == e.ep and r.lo == e.lo then cancelled = 1 end
    end
  elseif bad[e.id] then
    verdict = STALE
  end
  out[#out + 1] = verdict
  out[#out + 1] = cancelled
  out[#out + 1] = deadline
end
done()
return { 'ok', now, meta.nt, meta.run, out }
