-- Batches that wait for others.

-- All that it waited for has completed.
local function awake(r)
  local delay = options_of(r.S).delay
  leave(r)
  r.X = with_section(r.X, 'u')
  ready(r)
  if delay > 0 and r.reg + delay > now then
    r.state = SCHEDULED
    r.at = r.reg + delay
  end
  enter(r)
end

-- Makes a batch in state waiting wait for these.
local function wait_for(r, unmet)
  leave(r)
  r.from = nil
  r.X = with_section(r.X, 'u', packed_ids(unmet))
  enter(r)
  for _, parent in ipairs(unmet) do agenda[#agenda + 1] = parent end
end

local function met(parent, child)
  put(P .. 'e:' .. parent, child, false)
  meta.ed = meta.ed - 1
  meta_dirty = true
  ageing[parent] = true
  local r = load(child)
  if not r or r.state ~= WAITING then return end
  local left = {}
  for _, id in ipairs(ids_of(section(r.X, 'u') or '')) do
    if id ~= parent then left[#left + 1] = id end
  end
  r.X = with_section(r.X, 'u', #left > 0 and packed_ids(left) or nil)
  r.upd = now
  touch(r)
  if #left == 0 then awake(r) end
end

-- One that the child waits for will not complete.
local function drag(parent, p, child)
  local r = load(child)
  if not r or r.state ~= WAITING then
    put(P .. 'e:' .. parent, child, false)
    meta.ed = meta.ed - 1
    meta_dirty = true
    return
  end
  local names = { [FAILED] = 'failed', [CANCELLED] = 'cancelled', [EXPIRED] = 'expired' }
  local what = p and names[p.state] or 'lost'
  leave(r)
  fail_with(r, 'failed_precondition', true,
    'depends on batch ' .. parent .. ', which is ' .. what)
  finish(r, has(r.flags, F_CANCEL) and CANCELLED or FAILED)
  enter(r)
end

-- Tells those that wait for what ended, at most `budget` of them.
local function propagate(budget)
  flush()
  while #agenda > 0 and budget > 0 do
    local parent = agenda[1]
    local key = P .. 'e:' .. parent
    local edges = call('ZRANGE', key, 0, min(budget, 32) - 1, 'WITHSCORES')
    local p = load(parent)
    local over = #edges == 0 or (p and p.state <= PROCESSING)
    if not over then
      local completed = p and p.state == COMPLETED
      for i = 1, #edges, 2 do
        if completed then
          met(parent, edges[i])
        elseif p and tonumber(edges[i + 1]) >= PATIENT then
          over = true
          break
        else
          drag(parent, p, edges[i])
        end
        budget = budget - 1
      end
    end
    if over then table.remove(agenda, 1) end
    flush()
  end
end
