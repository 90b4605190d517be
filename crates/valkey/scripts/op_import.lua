-- Takes batches over from another coordinator, in the order of registration.
--
-- ARGV: settings, the place that the last of them has there; the key of each, what
-- never changes of it, its state or nothing, and when it was registered.
function F.op_import()
  F.read_meta()
  if S.meta[M_V] ~= FILLING then return F.refusal() end
  for i = 3, #ARGV, 4 do
    local id, b, s, place = ssub(ARGV[i], #P + 3), ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
    -- One that is there was taken over before.
    if not F.load(id) then F.take_over(id, b, s ~= '' and s, place) end
  end
  F.done()
  call('SET', P .. 'mp', ARGV[2])
  return { 'ok' }
end

function F.take_over(id, b, s, place)
  local r = F.decode(id, b, s)
  r[R_NEW], r[R_USED] = true, false
  r[R_SEQ] = max(S.meta[M_SEQ] + 1, place)
  S.meta[M_SEQ] = r[R_SEQ]
  S.meta_dirty = true
  S.recs[id] = r
  F.put(P .. 'od', id, r[R_SEQ])
  local o = F.options_of(r[R_S])
  for _, parent in ipairs(o.parents) do F.put(P .. 'li:' .. parent, id, r[R_SEQ]) end
  local until_then = F.registered(r) + o.window
  if o.key ~= '' and until_then > now then
    local key = P .. 'dk:' .. r[R_QUEUE] .. '\0' .. r[R_TENANT] .. '\0' .. o.key
    if not call('GET', key) then
      call('SET', key, id)
      F.put(P .. 'kt', id, until_then)
      F.soon(until_then)
      r[R_FLAGS] = r[R_FLAGS] + F_REMEMBERED
    end
  end
  -- Those that wait for it may have come before it.
  local waits = P .. 'e:' .. id
  if (S.idx[waits] and next(S.idx[waits])) or call('EXISTS', waits) == 1 then
    r[R_FLAGS] = r[R_FLAGS] + F_CHILDREN
  end
  local at = s and r[R_UPD] or F.registered(r)
  F.enter(r)
  r[R_UPD] = at
  if r[R_STATE] ~= WAITING then return end
  -- One that has ended may not yet have told.
  for _, parent in ipairs(F.ids_of(F.section(r[R_X], 'u') or '')) do
    local p = F.load(parent)
    if p and p[R_STATE] > PROCESSING then S.agenda[#S.agenda + 1] = parent end
  end
end
