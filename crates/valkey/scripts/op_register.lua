-- ARGV: settings, then one packed specification each.
function F.op_register()
  local refused = F.begin()
  if refused then return refused end
  local specs = {}
  for i = 2, #ARGV do specs[i - 1] = F.spec_of(ARGV[i]) end
  refused = F.admit(specs, true)
  if refused then return refused end
  local answers = F.enter_all(specs)
  F.done()
  local out = {}
  for i, a in ipairs(answers) do
    local r = a[1]
    out[#out + 1] = r[R_ID] == specs[i].id and '' or r[R_ID]
    out[#out + 1] = r[R_STATE]
    out[#out + 1] = a[2]
    out[#out + 1] = r[R_SEQ]
  end
  return { 'ok', now, S.meta.nt, S.meta.run, out }
end
