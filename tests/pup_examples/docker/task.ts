const words: string[] = ["once", "more"]
console.log(words.join(" "))
