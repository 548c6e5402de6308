console.log("one run of four")
