-- Records, whole and of one moment. ARGV: settings, identifiers.
function F.op_get()
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
    out[#out + 1] = got[i * 2 - 1] or ''
    out[#out + 1] = got[i * 2] or ''
    out[#out + 1] = tonumber(places[i] or 0)
  end
  return { 'ok', out }
end
