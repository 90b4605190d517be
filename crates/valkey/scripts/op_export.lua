-- Records as they are, readable or not, in the order of registration.
-- ARGV: settings, after which place, how many at most.
function F.op_export()
  S.reading = true
  local seen = F.behind(ARGV[2], tonumber(ARGV[3]))
  local keys, out = {}, {}
  for i = 1, #seen, 2 do
    keys[i] = P .. 'b:' .. seen[i]
    keys[i + 1] = P .. 's:' .. seen[i]
  end
  if #keys == 0 then return { 'ok', out } end
  local got = call('MGET', unpack(keys))
  for i = 1, #seen, 2 do
    out[#out + 1] = seen[i]
    local b, s = got[i], got[i + 1]
    out[#out + 1] = b or ''
    out[#out + 1] = s or b and F.apart(seen[i], b) or ''
    out[#out + 1] = string.format('%.0f', seen[i + 1])
  end
  return { 'ok', out }
end
