/**
 * Preloaded into a keepgw that is tested: it dies, as by kill -9, at a call that writes to a mapping's
 * tree. KEEPGW_TEST_CRASH says at which one: `before|half|after CALL NTH`; `half` writes half of it.
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const [when, name, nth] = (process.env.KEEPGW_TEST_CRASH ?? '').split(' ') as [
  'before' | 'half' | 'after',
  'writeFileSync' | 'appendFileSync' | 'renameSync' | 'unlinkSync',
  string,
]
const IN_TREE = /\/[0-9a-f]{3}\/\.?[0-9a-f]{32}(\.new)?$/
const call = fs[name] as (...args: unknown[]) => void
let calls = 0

function replaced(...args: unknown[]): void {
  const isIt = IN_TREE.test(String(args[0])) && ++calls >= Number(nth)
  if (!isIt) call(...args)
  else dieAt(args)
}

function dieAt(args: unknown[]): void {
  if (when === 'half') {
    const bytes = Buffer.from(args[1] as string)
    call(args[0], bytes.subarray(0, bytes.length / 2), ...args.slice(2))
  } else if (when === 'after') call(...args)
  process.kill(process.pid, 'SIGKILL')
}

Object.assign(fs, { [name]: replaced })
syncBuiltinESMExports()
