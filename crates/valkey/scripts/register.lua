-- Registration: the parts that outputs of work share with `register`.

-- One specification: the key of its record, and the record.
function F.spec_of(key, b)
  local _, fixed, prio, rows, bytes, home, locations = unp('<BBi4I8I8I4I4c0', b)
  local s = ssub(b, BLEN + #locations + 1)
  local queue, tenant, _, options, digest = unp('<Hc0Hc0Hc0I4c0c8', s)
  return { id = ssub(key, #P + 3), b = b, prio = prio, rows = rows, bytes = bytes, home = home,
    fixed = fixed, locations = locations, queue = queue, tenant = tenant, digest = digest,
    options = options == '' and F.no_options() or F.options_of(s) }
end

function F.digest_of(r)
  local _, _, _, _, digest = unp('<Hc0Hc0Hc0I4c0c8', r[R_S])
  return digest
end

-- The batch that has the key of `s`, if its time is not over.
function F.first_of(s, options)
  local id = call('GET', P .. 'dk:' .. s.queue .. '\0' .. s.tenant .. '\0' .. options.key)
  if not id then return end
  local r = F.load(id)
  if r and F.registered(r) + F.options_of(r[R_S]).window > now then return r end
end

function F.none_waits_for_itself(fresh)
  local open, children, free, left = {}, {}, {}, 0
  for id, s in pairs(fresh) do
    local n = 0
    for _, parent in ipairs(s.options.depends) do
      if fresh[parent] then
        n = n + 1
        children[parent] = children[parent] or {}
        table.insert(children[parent], id)
      end
    end
    open[id] = n
    left = left + 1
    if n == 0 then free[#free + 1] = id end
  end
  while #free > 0 do
    local id = table.remove(free)
    open[id] = nil
    left = left - 1
    for _, child in ipairs(children[id] or {}) do
      open[child] = open[child] - 1
      if open[child] == 0 then free[#free + 1] = child end
    end
  end
  if left == 0 then return end
  local least
  for id in pairs(open) do
    if not least or id < least then least = id end
  end
  return { 'err', 'circle', least }
end

function F.fits(holder, live, more, limit)
  if limit < 0 or more == 0 or live + more <= limit then return end
  local n = function(x) return string.format('%.0f', x) end
  if more > limit then return { 'err', 'bytes', n(more), n(limit) } end
  return { 'err', 'full', holder, n(live), n(more), n(limit) }
end

-- Whether all of these can be registered; changes nothing. Answers with an
-- error, or nothing. What is made of other batches is taken by draining queues
-- too, and whatever its bytes: the work it comes from could not end otherwise.
function F.admit(specs, first_hand)
  local ids = {}
  for i, s in ipairs(specs) do ids[i] = s.id end
  F.load_all(ids)
  local fresh, aliases, keys, bytes = {}, {}, {}, {}
  local new, new_keys, depends, new_queues, all = 0, 0, 0, 0, 0
  for i, s in ipairs(specs) do
    local r = F.load(s.id)
    if r or fresh[s.id] then
      local digest = r and F.digest_of(r) or fresh[s.id].digest
      if digest ~= s.digest then return { 'err', 'conflict', i - 1, r and r[R_B] or '' } end
    else
      local key = s.options.key ~= '' and s.queue .. '\0' .. s.tenant .. '\0' .. s.options.key
      if key and (keys[key] or F.first_of(s, s.options)) then
        aliases[s.id] = true
      else
        if key then
          keys[key] = true
          new_keys = new_keys + 1
        end
        fresh[s.id] = s
        new = new + 1
        local q = F.Q(s.queue)
        if q and first_hand and q[Q_DR] == 1 then return { 'err', 'draining', s.queue } end
        if not q and not bytes[s.queue] then new_queues = new_queues + 1 end
        bytes[s.queue] = (bytes[s.queue] or 0) + s.bytes
        all = all + s.bytes
        depends = depends + #s.options.depends
      end
    end
  end
  if new == 0 then return end
  local over = function(what, actual, limit)
    if actual > limit then
      return { 'err', 'over', what, string.format('%.0f', actual), string.format('%.0f', limit) }
    end
  end
  local e = over('live batches', S.meta[M_LV] + new, S.cfg.max_live)
  if not e and new_queues > 0 then e = over('queues', call('SCARD', P .. 'qs') + new_queues, 4096) end
  if not e and new_keys > 0 then
    e = over('dedup keys', call('ZCARD', P .. 'kt') + new_keys, S.cfg.max_keys)
  end
  if not e and depends > 0 then e = over('dependencies', S.meta[M_ED] + depends, S.cfg.max_edges) end
  if not e and first_hand then
    e = F.fits('', S.meta[M_LB], all, S.cfg.max_bytes)
    for name, more in pairs(bytes) do
      local q = F.Q(name)
      if not e and q then e = F.fits(name, q[Q_LB], more, q[Q_MB]) end
    end
  end
  if e or depends == 0 then return e end
  for id, s in pairs(fresh) do
    for _, parent in ipairs(s.options.depends) do
      if not fresh[parent] and not aliases[parent] and not F.load(parent) then
        return { 'err', 'parent', id, parent }
      end
    end
  end
  return F.none_waits_for_itself(fresh)
end

-- What is refused changes nothing of what was asked for; what was found on the way, as blocks
-- that were taken apart and records that cannot be read, is written all the same.
function F.refused(answer)
  F.done()
  return answer
end

-- One payload may be in several places: the newest first, 64 at most.
function F.add_locations(r, s)
  if r[R_STATE] > PROCESSING or r[R_HOME] == 0 or s.locations == '' then return end
  local known, places = {}, {}
  local function read(packed, list)
    local at = 1
    while at <= #packed do
      local place
      place, at = unp('<Hc0', packed, at)
      if not known[place] then
        known[place] = list
        list[#list + 1] = place
      end
    end
  end
  local old, new = {}, {}
  local before = F.section(r[R_X], 'l')
  if before then
    before = ssub(before, 5)
  else
    before = select(7, unp('<BBi4I8I8I4I4c0', r[R_B]))
  end
  read(before, old)
  read(s.locations, new)
  if #new == 0 then return end
  for _, list in ipairs({ new, old }) do
    for _, place in ipairs(list) do
      if #places < 64 then places[#places + 1] = pack('<Hc0', #place, place) end
    end
  end
  r[R_HOME] = bit.tobit(bit.bor(r[R_HOME], s.home)) % 4294967296
  r[R_X] = F.with_section(r[R_X], 'l', pack('<I4', r[R_HOME]) .. table.concat(places))
  r[R_UPD] = now
  F.touch(r)
end

function F.unmet_of(parents)
  local unmet, seen = {}, {}
  for _, id in ipairs(parents) do
    local p = F.load(id)
    if p and p[R_STATE] ~= COMPLETED and not seen[id] then
      seen[id] = true
      unmet[#unmet + 1] = id
    end
  end
  return unmet
end

-- Registers admitted batches; answers with id, state, created, sequence each.
function F.enter_all(specs)
  local answers, waiting, aliases = {}, {}, {}
  for _, s in ipairs(specs) do
    local r = F.load(s.id)
    local created = 0
    local o = s.options
    if r then
      F.add_locations(r, s)
    else
      r = o.key ~= '' and F.first_of(s, o)
      if r then aliases[s.id] = r[R_ID] end
    end
    if not r then
      created = 1
      r = F.new_record(s.id, s.b)
      r[R_SEQ] = F.next_seq()
      if o.expires >= 0 then r[R_EXP] = now + o.expires end
      local waits = false
      for _, parent in ipairs(o.depends) do
        local p = F.load(parent)
        if not p or p[R_STATE] ~= COMPLETED then waits = true end
      end
      if waits then
        r[R_STATE] = WAITING
        waiting[#waiting + 1] = { r, o.depends }
      elseif o.delay > 0 then
        r[R_STATE] = SCHEDULED
        r[R_AT] = now + o.delay
      end
      S.recs[s.id] = r
      F.put(P .. 'od', r[R_ID], r[R_SEQ])
      for _, parent in ipairs(o.parents) do F.put(P .. 'li:' .. parent, r[R_ID], r[R_SEQ]) end
      if o.key ~= '' then
        local key = P .. 'dk:' .. s.queue .. '\0' .. s.tenant .. '\0' .. o.key
        local before = call('GET', key)
        if before then
          -- Its time is over.
          F.put(P .. 'kt', before, false)
          local b = F.load(before)
          if b and F.has(b[R_FLAGS], F_REMEMBERED) then
            b[R_FLAGS] = b[R_FLAGS] - F_REMEMBERED
            F.touch(b)
            if b[R_STATE] > PROCESSING then F.age_if_free(b) end
          end
        end
        call('SET', key, r[R_ID])
        F.put(P .. 'kt', r[R_ID], now + o.window)
        F.soon(now + o.window)
        r[R_FLAGS] = r[R_FLAGS] + F_REMEMBERED
      end
      F.enter(r)
    end
    answers[#answers + 1] = { r, created }
  end
  for _, one in ipairs(waiting) do
    local r, parents = one[1], one[2]
    local known = {}
    for i, id in ipairs(parents) do known[i] = aliases[id] or id end
    local unmet = F.unmet_of(known)
    if #unmet == 0 then F.awake(r) else F.wait_for(r, unmet) end
  end
  if #waiting > 0 then F.propagate(24) end
  return answers
end
