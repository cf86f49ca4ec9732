-- One slice of the pass over all keys: pages of SCAN, looked at on the server, until the time or the pages are used up.
-- A page expires the dead keys that it meets. Arguments: cursor, keys per page (a hint), most pages, most seconds,
-- "yes" to measure memory, and the limits of large keys: bytes of a string, fields of a hash, members of a set, elements
-- of others. The answer: cursor, seconds (empty without a clock), keys seen, keys that may not be read, groups (a line
-- each: keys, bytes; expiry, type and prefix), the largest key of each type, and the large keys.
local cursor, count, pages, seconds = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local measured = ARGV[5] == 'yes'
local limits = {string = tonumber(ARGV[6]), hash = tonumber(ARGV[7]), set = tonumber(ARGV[8])}
local other_limit = tonumber(ARGV[9])
-- Bytes below which no key of a type is large, so that its elements need not be counted: two are the least that one
-- takes (an integer of an intset or listpack). A list is always counted: its nodes may be compressed, and its memory is
-- told from the first of them.
local noticed = {string = limits.string, hash = 2 * limits.hash, set = 2 * limits.set, list = 0}
local other_noticed = 2 * other_limit
local lengths = {string = 'STRLEN', hash = 'HLEN', set = 'SCARD', zset = 'ZCARD', list = 'LLEN', stream = 'XLEN'}
local call, guarded, find, sub = redis.call, redis.pcall, string.find, string.sub

-- os.clock is there on newer servers only; where it is, TIME stands still within a script. Without either (the login
-- may not use TIME) the number of pages alone bounds the slice, and nobody knows how long it took.
local os = rawget(_G, 'os')
local timed = not guarded('TIME').err
local clock = os and os.clock or function()
    if not timed then return 0 end
    local now = call('TIME')
    return tonumber(now[1]) + tonumber(now[2]) / 1000000
end

local begun, seen, refused = clock(), 0, 0
local keys, bytes, largest, names, large = {}, {}, {}, {}, {}
repeat
    local page = call('SCAN', cursor, 'COUNT', count)
    cursor = page[1]
    for _, key in ipairs(page[2]) do
        local left = guarded('PTTL', key) -- the first look tells whether the login may read the key
        if type(left) == 'table' then
            refused = refused + 1
        elseif left ~= -2 then
            seen = seen + 1
            local kind = call('TYPE', key).ok
            local colon = find(key, ':', 1, true)
            local expiry = left < 0 and '0' or left < 3600000 and '1' or left < 86400000 and '2'
                or left < 604800000 and '3' or '4'
            local group = expiry .. kind .. (colon and ':' .. sub(key, 1, colon - 1) or '')
            keys[group] = (keys[group] or 0) + 1
            if measured then
                local size = call('MEMORY', 'USAGE', key) or 0
                bytes[group] = (bytes[group] or 0) + size
                if size > (largest[kind] or 0) then
                    largest[kind], names[kind] = size, key
                end
                if size >= (noticed[kind] or other_noticed) then
                    local elements = lengths[kind] and guarded(lengths[kind], key)
                    if type(elements) ~= 'number' then elements = -1 end
                    if elements > (limits[kind] or other_limit) then
                        large[#large + 1] = {kind, size, elements, key}
                    end
                end
            end
        end
    end
    pages = pages - 1
until cursor == '0' or pages <= 0 or clock() - begun >= seconds

local groups, greatest = {}, {}
for group, number in pairs(keys) do
    groups[#groups + 1] = number .. ' ' .. (bytes[group] or 0) .. ' ' .. string.gsub(group, '%c', '?')
end
for kind, size in pairs(largest) do
    greatest[#greatest + 1] = {kind, size, names[kind]}
end
local took = (os and os.clock or timed) and tostring(clock() - begun) or ''
return {cursor, took, seen, refused, table.concat(groups, '\n'), greatest, large}
