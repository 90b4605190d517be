-- Records, whole and of one moment. ARGV: settings, identifiers.
function F.op_get()
  S.reading = true
  local keys, ids = {}, {}
  for i = 2, #ARGV do
    ids[i - 1] = ARGV[i]
    keys[#keys + 1] = P .. 'b:' .. ARGV[i]
    keys[#keys + 1] = P .. 's:' .. ARGV[i]
  end
  local got = call('MGET', unpack(keys))
  local places = call('ZMSCORE', P .. 'od', unpack(ids))
  local out = {}
  for i = 1, #ids do
    local b, s = got[i * 2 - 1], got[i * 2]
    out[#out + 1] = b or ''
    out[#out + 1] = s or b and F.apart(ids[i], b) or ''
    out[#out + 1] = tonumber(places[i] or b and F.place_in(b) or 0)
  end
  return { 'ok', out }
end
