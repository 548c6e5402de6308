// A web server that loses no request when it is asked to stop.

const http = require("http");

const port = Number(process.env.PUP_CLUSTER_PORT || 8030);
const instance = process.env.PUP_CLUSTER_INSTANCE || "0";
let stopping = false;

const server = http.createServer((request, response) => {
  // Who asks again over a connection that was kept is told that it is the last time.
  if (stopping) response.setHeader("Connection", "close");
  response.setHeader("Content-Type", "text/plain");
  const slow = request.url.match(/^\/slow\/(\d+)$/);
  if (slow) {
    // An answer that takes its time: try it during a restart.
    setTimeout(() => response.end("That took a while\n"), Math.min(slow[1], 20) * 1000);
  } else {
    response.end(`Hello from instance ${instance}, pid ${process.pid}\n`);
  }
});

process.on("SIGTERM", () => {
  stopping = true;
  // Accept nothing more. Node ends when the last connection has.
  server.close();
  // Connections between two requests would keep it: clients that use theirs within this second get
  // their answer with `Connection: close`, the others see theirs closed. (Node 19 and newer do so
  // in close(), at once.)
  setTimeout(() => server.closeIdleConnections && server.closeIdleConnections(), 1000);
});

server.listen(port, "127.0.0.1");
