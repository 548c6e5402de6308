console.log("running, until this file is changed")
setTimeout(() => {}, 1000 * 60 * 60)
