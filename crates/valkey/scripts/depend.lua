-- Batches that wait for others.

-- All that it waited for has completed.
function F.awake(r)
  local delay = F.options_of(r[R_S]).delay
  F.leave(r)
  r[R_X] = F.with_section(r[R_X], 'u')
  F.ready(r)
  if delay > 0 and F.registered(r) + delay > now then
    r[R_STATE] = SCHEDULED
    r[R_AT] = F.registered(r) + delay
  end
  F.enter(r)
end

-- Makes a batch in state waiting wait for these.
function F.wait_for(r, unmet)
  F.leave(r)
  r[R_X] = F.with_section(r[R_X], 'u', F.packed_ids(unmet))
  F.enter(r)
  for _, parent in ipairs(unmet) do S.agenda[#S.agenda + 1] = parent end
end

function F.met(parent, child)
  F.put(P .. 'e:' .. parent, child, false)
  S.meta[M_ED] = S.meta[M_ED] - 1
  S.meta_dirty = true
  S.ageing[parent] = true
  local r = F.load(child)
  if not r or r[R_STATE] ~= WAITING then return end
  local left = {}
  for _, id in ipairs(F.ids_of(F.section(r[R_X], 'u') or '')) do
    if id ~= parent then left[#left + 1] = id end
  end
  r[R_X] = F.with_section(r[R_X], 'u', #left > 0 and F.packed_ids(left) or nil)
  r[R_UPD] = now
  F.touch(r)
  if #left == 0 then F.awake(r) end
end

-- One that the child waits for will not complete.
function F.drag(parent, p, child)
  local r = F.load(child)
  if not r or r[R_STATE] ~= WAITING then
    F.put(P .. 'e:' .. parent, child, false)
    S.meta[M_ED] = S.meta[M_ED] - 1
    S.meta_dirty = true
    return
  end
  local names = { [FAILED] = 'failed', [CANCELLED] = 'cancelled', [EXPIRED] = 'expired' }
  local what = p and names[p[R_STATE]] or 'lost'
  F.leave(r)
  F.fail_with(r, 'failed_precondition', true,
    'depends on batch ' .. parent .. ', which is ' .. what)
  F.finish(r, F.has(r[R_FIXED], F_CANCEL) and CANCELLED or FAILED)
  F.enter(r)
end

-- Tells those that wait for what ended, at most `budget` of them.
function F.propagate(budget)
  F.flush()
  while #S.agenda > 0 and budget > 0 do
    local parent = S.agenda[1]
    local key = P .. 'e:' .. parent
    local edges = call('ZRANGE', key, 0, min(budget, 32) - 1, 'WITHSCORES')
    local p = F.load(parent)
    local over = #edges == 0 or (p and p[R_STATE] <= PROCESSING)
    if not over then
      local completed = p and p[R_STATE] == COMPLETED
      for i = 1, #edges, 2 do
        if completed then
          F.met(parent, edges[i])
        elseif p and tonumber(edges[i + 1]) >= PATIENT then
          over = true
          break
        else
          F.drag(parent, p, edges[i])
        end
        budget = budget - 1
      end
    end
    if over then table.remove(S.agenda, 1) end
    F.flush()
  end
end
