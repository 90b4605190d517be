-- Counts of queues, and when the oldest pending batch of each was registered:
-- of the first 8 priorities, and in each the first 32 tenants.
-- ARGV: settings, names.
function F.op_stats()
  local out = {}
  for i = 2, #ARGV do
    local name = ARGV[i]
    local oldest
    for _, prio in ipairs(call('ZRANGE', P .. 'lv:' .. name, 0, 7)) do
      for _, ring in ipairs({ 'rg:', 'rc:' }) do
        local tenants = call('ZRANGE', P .. ring .. name .. '\0' .. prio, 0, 31)
        for _, tenant in ipairs(tenants) do
          local first = call('ZRANGE', F.ready_blocks(name, prio, tenant), 0, 0)[1]
          local k = first and F.block(tonumber(first))
          if k and (not oldest or k[K_FIRST] + k[K_GONE] < oldest) then
            oldest = k[K_FIRST] + k[K_GONE]
          end
          local got = call('ZRANGE', F.list_key(name, prio, tenant), 0, 0, 'WITHSCORES')
          if got[1] and (not oldest or tonumber(got[2]) < oldest) then
            oldest = tonumber(got[2])
          end
        end
      end
    end
    out[#out + 1] = call('GET', P .. 'q:' .. name) or ''
    out[#out + 1] = oldest or 0
  end
  return { 'ok', out }
end
