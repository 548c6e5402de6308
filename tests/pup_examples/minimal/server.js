console.log(`I am ${Deno.env.get("PUP_PROCESS_ID")}`)
