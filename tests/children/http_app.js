// A web server of Node, written as if nobody ever restarted it: SIGTERM ends it at once.
//
//     GET /stream    a chunk each tenth of a second, for 10 s
//     GET /slow      the greeting, after 0.3 s
//     GET ...        the greeting, which names the instance
//
// http_app_deno.ts, http_asgi.py, http_wsgi.py, http_app.php and http_exits.py answer the same.

const http = require("http");

const greeting = `hello from ${process.env.PUP_CLUSTER_INSTANCE}\n`;

function stream(response) {
  let left = 100;
  const timer = setInterval(() => {
    response.write("chunk\n");
    left -= 1;
    if (!left) response.end();
  }, 100);
  response.on("close", () => clearInterval(timer));
}

http.createServer((request, response) => {
  request.resume();
  if (request.url === "/stream") stream(response);
  else if (request.url === "/slow") setTimeout(() => response.end(greeting), 300);
  else response.end(greeting);
}).listen(Number(process.env.PUP_CLUSTER_PORT), "127.0.0.1");
