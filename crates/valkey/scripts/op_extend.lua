-- ARGV: settings, then one extension each.
function F.op_extend()
  local refused = F.begin(true)
  if refused then return refused end
  local ids, asked = {}, {}
  for i = 2, #ARGV do
    local e = {}
    e.flags, e.ep, e.lo, e.dur, e.id, e.progress = unp('<BI4I8dBc0I4c0', ARGV[i])
    asked[i - 1], ids[i - 1] = e, e.id
  end
  F.load_all(ids)
  local out = {}
  for _, e in ipairs(asked) do
    local r = F.load(e.id)
    local verdict, deadline, cancelled = MISSING, 0, 0
    if r then
      verdict = STALE
      if F.stands(r, e.ep, e.lo) then
        verdict = APPLIED
        if e.dur > 0 then r[R_DUR] = e.dur end
        r[R_DL] = now + r[R_DUR]
        deadline = r[R_DL]
        if e.flags % 2 == 1 then F.start(r) end
        if e.flags >= 2 then r[R_X] = F.with_section(r[R_X], 'p', e.progress) end
        r[R_UPD] = now
        F.touch(r)
      else
        F.missed(r)
        if r[R_STATE] == CANCELLED and r[R_EP] == e.ep and r[R_LO] == e.lo then cancelled = 1 end
      end
    elseif S.bad[e.id] then
      verdict = STALE
    end
    out[#out + 1] = verdict
    out[#out + 1] = cancelled
    out[#out + 1] = deadline
  end
  F.done()
  return { 'ok', now, S.meta[M_NT], S.meta[M_RUN], F.happened(), out }
end
