console.log(`task at ${new Date().toISOString()}`)
