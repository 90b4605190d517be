-- The functions that clients call; `NAME` has the version and the digest of
-- the text, so that those of several versions are there at the same time.
function F.offer(name, op, flags)
  redis.register_function({
    function_name = 'NAME_' .. name,
    callback = function(keys, args)
      F.reset(keys, args)
      return op()
    end,
    flags = flags,
  })
end

F.offer('register', F.op_register, {})
-- Work may end where memory is full, or nothing would ever make room.
F.offer('work', F.op_work, { 'allow-oom' })
F.offer('extend', F.op_extend, { 'allow-oom' })
F.offer('control', F.op_control, { 'allow-oom' })
F.offer('sweep', F.op_sweep, { 'allow-oom' })
F.offer('move', F.op_move, {})
F.offer('import', F.op_import, {})
F.offer('export', F.op_export, { 'no-writes' })
F.offer('get', F.op_get, { 'no-writes' })
F.offer('list', F.op_list, { 'no-writes' })
F.offer('stats', F.op_stats, { 'no-writes' })
