const port: number = Number(Deno.env.get("PUP_CLUSTER_PORT") ?? "8000")
const instance: string | undefined = Deno.env.get("PUP_CLUSTER_INSTANCE")

Deno.serve({ hostname: "127.0.0.1", port }, () => new Response(`pup instance ${instance}.`))
