// Fails after a while, so that it is started again.
console.log(`time zone ${Deno.env.get("TZ")}`)
setTimeout(() => {
  throw new Error("enough")
}, 1000)
