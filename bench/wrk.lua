-- What the bench adds to wrk: threads spread over several servers, a body to upload, figures as JSON.
-- BENCH_PORTS  ports of 127.0.0.1, separated by spaces: thread n goes to port n
-- BENCH_BODY   bytes of the body of each request; 0 is a GET

local ports = {}
for port in os.getenv("BENCH_PORTS"):gmatch("%d+") do
   ports[#ports + 1] = port
end

local size = tonumber(os.getenv("BENCH_BODY"))
if size > 0 then
   wrk.method = "POST"
   wrk.body = string.rep("x", size)
end

local threads = 0

function setup(thread)
   local port = ports[threads % #ports + 1]
   threads = threads + 1
   thread.addr = wrk.lookup("127.0.0.1", port)[1]
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "duration": %d, "errors": %d, "p50": %d, "p99": %d}\n',
      summary.requests, summary.duration,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50), latency:percentile(99)))
end
