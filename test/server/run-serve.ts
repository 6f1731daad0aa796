/** Runs `keepgw serve` as a process of its own, for the tests of the command. */
import { fileURLToPath } from 'node:url'
import { flush, handle } from '@oclif/core'
import Serve from '../../commands/serve.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
await Serve.run(process.argv.slice(2), { root }).then(() => flush(), handle)
