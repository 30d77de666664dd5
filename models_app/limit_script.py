"""The counting itself: the Lua script that `models_app.limit_store` has Redis run.

It is text here and is loaded by Redis. Knows no user, no setting, no ledger and no connection.
"""

from typing import Final

SCRIPT: Final = """
local asked = cmsgpack.unpack(ARGV[1])
local prefix, now = asked.prefix, asked.now
local loaded, buckets, touched, leases, born = {}, {}, {}, {}, nil

-- ------------------------------------------------------------ what has a lease

-- When it ended or will; 0: so long ago that it is forgotten.
local function lease_of(holder)
  if not leases[holder] then
    leases[holder] = tonumber(redis.call('ZSCORE', prefix .. 'holders', holder) or 0)
  end
  return leases[holder]
end

local function is_alive(holder) return lease_of(holder) > now end

-- Redis has been empty since `born`, and what was used before is known by others only.
local function begin()
  born = tonumber(redis.call('GET', prefix .. 'epoch') or nil)
  if not born then
    born = now
    redis.call('SET', prefix .. 'epoch', born, 'PX', asked.epoch)
  end
end

local function renew_holder()
  if lease_of(asked.holder) - now > asked.renewed then return end
  local holders = prefix .. 'holders'
  leases[asked.holder] = now + asked.lease
  redis.call('PEXPIRE', prefix .. 'epoch', asked.epoch)
  redis.call('PEXPIRE', prefix .. 'calls', asked.epoch)
  redis.call('ZADD', holders, leases[asked.holder], asked.holder)
  redis.call('ZREMRANGEBYSCORE', holders, '-inf', now - 2 * asked.open)
  redis.call('PEXPIRE', holders, 4 * asked.open)
end

-- ------------------------------------------------------------ buckets

local function is_slots(spec) return spec.period == 0 and spec.ends == 0 end

local function load_bucket(spec)
  if loaded[spec.key] == nil then
    loaded[spec.key] = redis.call('GET', prefix .. 'bucket:' .. spec.key)
  end
  return loaded[spec.key]
end

-- Whether the use so far has to be told by whoever has written it down.
local function is_missing(spec)
  if is_slots(spec) or load_bucket(spec) then return false end
  if spec.period > 0 then return now < born + spec.period end
  return spec.ends > now
end

-- In units of which `spec.amount` drain in a millisecond: all numbers stay whole.
local function scale_of(spec) return spec.period > 0 and spec.period or 1 end

-- What drains is a queue of pairs, in one table: the number of the call that may give an amount
-- back, or 0, and the amount.
local function drain(bucket, spec)
  local queue, gone = bucket.queue, math.min(bucket.sum, (now - bucket.at) * spec.amount)
  if gone <= 0 then return end
  bucket.sum = bucket.sum - gone
  local first = 1
  while gone > 0 and queue[first] do
    local part = math.min(gone, queue[first + 1])
    gone, queue[first + 1] = gone - part, queue[first + 1] - part
    if queue[first + 1] == 0 then first = first + 2 end
  end
  if first > 1 then
    local kept = {}
    for place = first, #queue do kept[#kept + 1] = queue[place] end
    bucket.queue = kept
  end
end

local function bucket_of(spec)
  local bucket = buckets[spec.key]
  if bucket then return bucket end
  local packed = load_bucket(spec)
  bucket = packed and cmsgpack.unpack(packed) or {at = now, sum = 0, queue = {}, slots = {}}
  if spec.period > 0 then drain(bucket, spec) end
  bucket.at = math.max(now, bucket.at)
  buckets[spec.key] = bucket
  return bucket
end

local function push(bucket, spec, number, amount)
  local queue, last = bucket.queue, #bucket.queue
  bucket.sum = bucket.sum + amount
  if spec.period == 0 then return end
  if queue[last - 1] == number then
    queue[last] = queue[last] + amount
  else
    queue[last + 1], queue[last + 2] = number, amount
  end
end

-- What never drains can always be given back, whoever put it there.
local function give_back(bucket, spec, number, most)
  local queue = bucket.queue
  if spec.period == 0 then
    bucket.sum = math.max(0, bucket.sum - most)
    return
  end
  for place = #queue - 1, 1, -2 do
    if queue[place] == number and most > 0 then
      local part = math.min(most, queue[place + 1])
      most, bucket.sum = most - part, bucket.sum - part
      queue[place + 1] = queue[place + 1] - part
    end
  end
end

-- Neighbours that nobody can give back any more become one; what is empty goes.
local function forget_owner(bucket, number)
  local queue, kept = bucket.queue, {}
  for place = 1, #queue, 2 do
    local owner, amount, last = queue[place], queue[place + 1], #kept
    if owner == number then owner = 0 end
    if amount > 0 and owner == 0 and kept[last - 1] == 0 then
      kept[last] = kept[last] + amount
    elseif amount > 0 then
      kept[last + 1], kept[last + 2] = owner, amount
    end
  end
  bucket.queue = kept
end

local function sum_of(bucket)
  local sum = bucket.sum
  for holder, held in pairs(bucket.slots) do
    if is_alive(holder) then sum = sum + held end
  end
  return sum
end

local function is_kept(spec, bucket)
  if is_slots(spec) then return next(bucket.slots) ~= nil end
  return bucket.sum > 0 or spec.period == 0 or now < born + spec.period
end

local function lifetime_of(spec, bucket)
  if is_slots(spec) then return asked.open end
  if spec.period > 0 then
    return math.max(math.ceil(sum_of(bucket) / spec.amount), born + spec.period - now)
  end
  return spec.ends - now
end

local function save_buckets()
  for key, spec in pairs(touched) do
    local bucket, name = buckets[key], prefix .. 'bucket:' .. key
    if is_kept(spec, bucket) then
      local lasts = math.max(1000, lifetime_of(spec, bucket)) + asked.open
      redis.call('SET', name, cmsgpack.pack(bucket), 'PX', lasts)
    else
      redis.call('DEL', name)
    end
  end
end

-- ------------------------------------------------------------ calls

local function new_call()
  return {specs = asked.specs, repeats = asked.repeats, tries = {}, charges = {}, settled = {},
          slots = {}, known = {}, done = {}, count = 0}
end

local function load_call(id)
  local packed = redis.call('GET', prefix .. 'call:' .. id)
  return packed and cmsgpack.unpack(packed)
end

local function save_call(call, id)
  local name, kept, lasts = prefix .. 'call:' .. id, call, 2 * asked.open
  if call.repeats then
    lasts = asked.repeated
  elseif next(call.done) then
    kept, lasts = {done = call.done, count = call.count, tries = {}}, asked.settled
  end
  redis.call('SET', name, cmsgpack.pack(kept), 'PX', lasts)
end

local function held_by(call, unit)
  local most = call.settled[unit] or 0
  for _, try in pairs(call.tries) do most = math.max(most, try.amounts[unit] or 0) end
  return most
end

-- Every try that is open takes a slot of its own, for as long as its holder is alive.
local function slots_of(call, unit)
  local slots, sum = {}, 0
  for _, try in pairs(call.tries) do
    local amount = try.amounts[unit] or 0
    if amount > 0 then slots[try.holder] = (slots[try.holder] or 0) + amount end
    sum = sum + amount
  end
  return slots, sum
end

local function change_of(call, spec)
  if not is_slots(spec) then return held_by(call, spec.unit) - (call.charges[spec.key] or 0) end
  local _, change = slots_of(call, spec.unit)
  for _, held in pairs(call.slots[spec.key] or {}) do change = change - held end
  return change
end

local function charge_slots(call, spec)
  local bucket, wanted = bucket_of(spec), slots_of(call, spec.unit)
  for holder, held in pairs(call.slots[spec.key] or {}) do
    local left = (bucket.slots[holder] or 0) - held
    bucket.slots[holder] = left > 0 and left or nil
  end
  for holder, held in pairs(wanted) do
    bucket.slots[holder] = (bucket.slots[holder] or 0) + held
  end
  for holder in pairs(bucket.slots) do
    if lease_of(holder) == 0 then bucket.slots[holder] = nil end
  end
  call.slots[spec.key] = wanted
end

-- Whether a try that this Redis has never heard of was told together with the use so far: it is
-- named, or it had ended so long before that it was written down by then. What drains was told
-- with all that had ended before this Redis began, or it has drained since.
local function is_known(bucket, spec, try)
  if spec.period > 0 and asked.ended and asked.ended < born then return true end
  if not bucket.told then return false end
  if asked.ended and asked.ended + asked.late < bucket.told then return true end
  return redis.call('SISMEMBER', prefix .. 'known:' .. spec.key, try) == 1
end

local function charge_amounts(call, spec, try)
  local bucket, change = bucket_of(spec), change_of(call, spec)
  if not call.charges[spec.key] and is_known(bucket, spec, try) then
    call.known[spec.key] = true
  end
  if change > 0 and not call.known[spec.key] then
    push(bucket, spec, call.number, change * scale_of(spec))
  elseif change < 0 and not call.known[spec.key] then
    give_back(bucket, spec, call.number, -change * scale_of(spec))
  end
  call.charges[spec.key] = held_by(call, spec.unit)
  local is_over = not next(call.tries) and not call.repeats
  if is_over and spec.period > 0 then forget_owner(bucket, call.number) end
end

local function charge(call, try)
  if not call.number then
    call.number = redis.call('INCR', prefix .. 'calls')
    if call.number == 1 then redis.call('PEXPIRE', prefix .. 'calls', asked.epoch) end
  end
  for _, spec in ipairs(call.specs) do
    touched[spec.key] = spec
    if is_slots(spec) then
      charge_slots(call, spec)
    else
      charge_amounts(call, spec, try)
    end
  end
end

-- Whoever still holds such a try has resumed it long before.
local function end_left_tries()
  local left = redis.call('ZRANGEBYSCORE', prefix .. 'open', '-inf', now, 'LIMIT', 0, 100)
  for _, member in ipairs(left) do
    local id, try = member:match('^(%S+) (%S+)$')
    local call = load_call(id)
    redis.call('ZREM', prefix .. 'open', member)
    if call and call.tries[try] then
      call.tries[try] = nil
      charge(call, try)
      save_call(call, id)
    end
  end
end

-- ------------------------------------------------------------ what is asked

local function state_of(spec, wait)
  local bucket = bucket_of(spec)
  local sum, scale = sum_of(bucket), scale_of(spec)
  local remaining = math.max(0, math.floor((spec.amount * scale - sum) / scale))
  local reset = 0
  if spec.period > 0 then
    reset = math.ceil(sum / spec.amount)
  elseif not is_slots(spec) then
    reset = math.max(0, spec.ends - now)
  end
  return {remaining, reset, wait or 0}
end

-- Milliseconds until an addition fits; 0: it does now.
local function wait_for(spec, change)
  local over = sum_of(bucket_of(spec)) + (change - spec.amount) * scale_of(spec)
  if change <= 0 or over <= 0 then return 0 end
  if is_slots(spec) then return asked.slot end
  return math.max(1, spec.period > 0 and math.ceil(over / spec.amount) or spec.ends - now)
end

-- `specs` where the call has others than those that came with the question.
local function reply(call, states, missing, specs)
  return {
    call = call, states = states or {}, missing = missing or {}, specs = specs or {}, born = born,
  }
end

local function missing_of(specs)
  local missing = {}
  for _, spec in ipairs(specs) do
    if is_missing(spec) then missing[#missing + 1] = spec.key end
  end
  return missing
end

local function look()
  local states, missing = {}, missing_of(asked.specs)
  if missing[1] then return reply('', nil, missing) end
  for place, spec in ipairs(asked.specs) do states[place] = state_of(spec) end
  return reply('', states)
end

-- A try that is resumed was let in before, by a Redis that was lost or with less: nothing refuses
-- it, and the waits tell which limits are over.
local function reserve()
  local id, call = asked.call, load_call(asked.call)
  if call and call.count >= asked.most and not call.tries[asked.try] then
    id, call = asked.try, nil
  end
  local specs = call and call.specs
  call = call or new_call()
  -- Whoever asked has left already, and its settlement came first.
  if call.done[asked.try] then return reply(id) end
  local missing = missing_of(call.specs)
  if missing[1] then return reply(id, nil, missing) end
  end_left_tries()
  renew_holder()
  if not call.tries[asked.try] then call.count = call.count + 1 end
  call.tries[asked.try] = {amounts = asked.amounts, holder = asked.holder}
  local waits, is_refused = {}, false
  for place, spec in ipairs(call.specs) do
    waits[place] = wait_for(spec, change_of(call, spec))
    is_refused = is_refused or waits[place] > 0
  end
  if not is_refused or asked.op == 'resume' then
    charge(call, asked.try)
    save_call(call, id)
    redis.call('ZADD', prefix .. 'open', now + asked.open, id .. ' ' .. asked.try)
  end
  local states = {}
  for place, spec in ipairs(call.specs) do
    states[place] = state_of(spec, waits[place])
  end
  save_buckets()
  return reply(id, states, nil, specs)
end

local function settle()
  local id, call = asked.call, load_call(asked.call) or new_call()
  if call.done[asked.try] then return reply(id) end
  local missing = missing_of(call.specs)
  if missing[1] then return reply(id, nil, missing) end
  redis.call('ZREM', prefix .. 'open', id .. ' ' .. asked.try)
  call.tries[asked.try] = nil
  call.done[asked.try] = true
  for unit, amount in pairs(asked.amounts) do
    call.settled[unit] = math.max(call.settled[unit] or 0, amount)
  end
  charge(call, asked.try)
  save_call(call, id)
  save_buckets()
  return reply(id)
end

-- The first to tell the use so far is believed.
local function tell()
  for _, past in ipairs(asked.pasts) do
    local spec, known = past.spec, prefix .. 'known:' .. past.spec.key
    if not load_bucket(spec) then
      local bucket = bucket_of(spec)
      touched[spec.key] = spec
      if past.fill > 0 then push(bucket, spec, 0, past.fill) end
      bucket.told = now
      for _, try in ipairs(past.tries) do redis.call('SADD', known, try) end
      redis.call('PEXPIRE', known, lifetime_of(spec, bucket) + asked.open)
    end
  end
  save_buckets()
  return reply('')
end

local function renew()
  renew_holder()
  end_left_tries()
  save_buckets()
  return reply('')
end

begin()
local operations = {
  reserve = reserve, resume = reserve, settle = settle, look = look, tell = tell, renew = renew,
}
return cmsgpack.pack(operations[asked.op]())
"""
