/**
 * Writes oclif.manifest.json, from which oclif knows the commands without loading them: a start
 * loads the one command it runs. (Loaded side by side, the SDK's CommonJS modules can meet half
 * loaded in Node's module loader.) Part of `npm run build`.
 */
import { rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Config } from '@oclif/core'

const root = fileURLToPath(new URL('..', import.meta.url))
const file = fileURLToPath(new URL('../oclif.manifest.json', import.meta.url))

rmSync(file, { force: true })
const config = await Config.load({ root })
const own = config.getPluginsList().find((plugin) => plugin.root === config.root)
// Its type declarations do not name it.
const { manifest } = own as unknown as { manifest: object }
writeFileSync(file, `${JSON.stringify(manifest)}\n`)
