#!/usr/bin/env node
// Only this file is read by a Node that is too old for the rest, so it imports nothing at first.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(`keepgw: needs Node 22.19 or newer, this is ${process.versions.node}\n`)
  process.exit(1)
}
const { enableCompileCache } = await import('node:module')
const { compileCacheDir } = await import('./compile-cache.ts')
const cache = compileCacheDir()
if (cache !== undefined) {
  enableCompileCache(cache)
  // Threads look for it here.
  process.env.NODE_COMPILE_CACHE = cache
}
const { main } = await import('./main.ts')
await main(process.argv.slice(2), import.meta.url)

export {}
