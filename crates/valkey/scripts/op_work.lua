-- Results, starts and the next claims in one step.
--
-- ARGV: settings; counts of runs, plain completions, other outcomes, starts, groups of
-- claims and other claims, the budget for what is due; of each run, which are completions with
-- consecutive tokens, the first token, and the keys in one; the keys of
-- other plain ones, then their tokens in one; the outcomes, each followed by its
-- outputs; the starts; what the claims of each group ask for, and who they are; each
-- other claim with its queues and identifiers.
function F.op_work()
  local refused = F.begin(true)
  if refused then return refused end
  local n_runs, n_plain, n_outcomes, n_starts, n_groups, n_claims, budget =
    unp('<I4I4I4I4I4I4I4', ARGV[2])
  local from = 2 + n_runs * 2
  local at = from + n_plain
  if n_plain > 0 then at = at + 1 end
  local outcomes, ids = {}, {}
  for i = 1, n_outcomes do
    at = at + 1
    local kind, ep, lo, delay, n, id, error = unp('<BI4I8dHBc0I4c0', ARGV[at])
    local o = { kind = kind, ep = ep, lo = lo, delay = delay, id = id, error = error, outputs = {} }
    for k = 1, n do o.outputs[k] = F.spec_of(ARGV[at + k * 2 - 1], ARGV[at + k * 2]) end
    at = at + n * 2
    outcomes[i], ids[i] = o, id
  end
  if n_outcomes > 0 then
    F.load_all(ids)
    -- Only outputs of leases that stand come into being.
    local specs, ending = {}, {}
    for _, o in ipairs(outcomes) do
      if #o.outputs > 0 and not ending[o.id] and F.stands(F.load(o.id), o.ep, o.lo) then
        ending[o.id] = true
        for _, s in ipairs(o.outputs) do specs[#specs + 1] = s end
      end
    end
    if #specs > 0 then
      refused = F.admit(specs, false)
      if refused then return F.refused(refused) end
    end
  end
  F.tick(budget)
  -- What is not as plain as the client thought, by number: verdict and state.
  local others, base = {}, 0
  local alone = { keys = {}, raws = {}, tokens = {}, numbers = {} }
  for i = 1, n_runs do base = base + F.settle_run(ARGV[1 + i * 2], ARGV[2 + i * 2], base, alone) end
  for i = 1, n_plain do
    local count = #alone.keys + 1
    alone.keys[count] = ARGV[from + i]
    alone.tokens[count] = ssub(ARGV[from + n_plain + 1], i * 12 - 11, i * 12)
    alone.numbers[count] = base + i - 1
  end
  if alone.keys[1] then
    for _, i in ipairs(F.settle_plain(alone.keys, alone.tokens, alone.raws)) do
      local ep, lo = unp('<I4I8', alone.tokens[i])
      local id = ssub(alone.keys[i], #P + 3)
      local verdict = F.settle({ kind = 1, ep = ep, lo = lo, delay = 0, id = id, error = '',
        outputs = {} })
      others[#others + 1] = alone.numbers[i]
      others[#others + 1] = verdict
      others[#others + 1] = F.state_of(id)
    end
  end
  local settled, started = {}, {}
  local made = {}
  for i, o in ipairs(outcomes) do
    settled[i] = F.settle(o)
    if settled[i] == APPLIED then
      for _, s in ipairs(o.outputs) do made[#made + 1] = s end
    end
  end
  if #made > 0 then F.enter_all(made) end
  if #S.agenda > 0 then F.propagate(24) end
  for i = 1, n_starts do
    at = at + 1
    local ep, lo = unp('<I4I8', ARGV[at])
    local id = ssub(ARGV[at], 13)
    started[i * 2 - 1] = F.begin_lease(id, ep, lo)
    started[i * 2] = F.state_of(id)
  end
  local answers = {}
  for i, o in ipairs(outcomes) do
    answers[i * 2 - 1] = settled[i]
    answers[i * 2] = F.state_of(o.id)
  end
  local given = F.claim_all(at, n_groups, n_claims)
  if n_runs == 0 and n_plain == 0 and n_outcomes == 0 and n_starts == 0 and n_groups == 0
    and n_claims == 0 then
    -- A sweep: a wake whose taker died is given again, or one that came to nobody.
    for i = 3, #ARGV do S.wake[ARGV[i]] = true end
    for _, queue in ipairs(call('SRANDMEMBER', P .. 'qs', 16)) do S.wake[queue] = true end
  end
  F.done()
  return { 'ok', now, S.meta[M_NT], S.meta[M_RUN], F.happened(), others, answers, started, given }
end
