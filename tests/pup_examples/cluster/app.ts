const port: number = Number(Deno.env.get("PUP_CLUSTER_PORT") ?? "8000")
const instance: string | undefined = Deno.env.get("PUP_CLUSTER_INSTANCE")

Deno.serve({ port }, () => new Response(`pup instance ${instance}.`))
