// What http_app.js is, for Deno: deno run --allow-net --allow-env http_app_deno.ts

const port = Number(Deno.env.get("PUP_CLUSTER_PORT"));
const greeting = `hello from ${Deno.env.get("PUP_CLUSTER_INSTANCE")}\n`;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function* chunks() {
  for (let left = 100; left; left -= 1) {
    await pause(100);
    yield new TextEncoder().encode("chunk\n");
  }
}

Deno.serve({ port, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
  const path = new URL(request.url).pathname;
  if (path === "/stream") return new Response(ReadableStream.from(chunks()));
  if (path === "/slow") await pause(300);
  return new Response(greeting);
});
