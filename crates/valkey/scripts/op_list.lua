-- A part of a list. ARGV: settings, after which place, how many at most, how
-- many to look at, states as bits (0 is all), queue, prefix, parent.
function F.op_list()
  S.reading = true
  local after, limit, scan, states = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
  local queue, prefix, parent = ARGV[6], ARGV[7], ARGV[8]
  local seen
  if parent ~= '' then
    seen = call('ZRANGEBYSCORE', P .. 'li:' .. parent, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0,
      scan)
  else
    seen = F.behind(after, scan)
  end
  local ids = {}
  for i = 1, #seen, 2 do
    if ssub(seen[i], 1, #prefix) == prefix then ids[#ids + 1] = seen[i] end
  end
  F.load_all(ids)
  local out = {}
  local found, last = 0, after
  local more = #seen == scan * 2
  for i = 1, #seen, 2 do
    if found == limit then
      more = true
      break
    end
    last = seen[i + 1]
    local r = S.recs[seen[i]]
    if r and (states == 0 or F.has(states, 2 ^ (r[R_STATE] - 1))) and (queue == '' or r[R_QUEUE] == queue) then
      found = found + 1
      out[#out + 1] = r[R_ID]
      out[#out + 1] = r[R_B]
      out[#out + 1] = r[R_RAW] or ''
      out[#out + 1] = tonumber(seen[i + 1])
    end
  end
  return { 'ok', out, string.format('%.0f', last), more and 1 or 0 }
end
