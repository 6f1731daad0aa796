/** Programs that listen at a port: they are started for a while, and end with this process at the latest. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'

export interface Program {
  args: string[]
  env: NodeJS.ProcessEnv
  /** Where it will listen, on 127.0.0.1. */
  port: number
  /** The file of all that it prints. */
  log: string
}

export interface Supervised {
  pid: number
  stop(): Promise<void>
}

const HOST = '127.0.0.1'
const START_MS = 30_000
/** Kills the program when the pipe ends: by stop(), or because this process has died. */
const SUPERVISED = `{ cat <&3 >/dev/null; kill -9 $$; } & exec "$@" 3<&-`

/** Returns when the program listens. Throws with the end of its log where it does not. */
export async function startSupervised({ args, env, port, log }: Program): Promise<Supervised> {
  const file = openSync(log, 'w')
  const child = spawn('sh', ['-c', SUPERVISED, 'sh', ...args], {
    env,
    stdio: ['ignore', file, file, 'pipe'],
  })
  const exited = once(child, 'exit')
  const stop = async (): Promise<void> => {
    ;(child.stdio[3] as Duplex).end()
    await exited
  }
  const deadline = Date.now() + START_MS
  while (!(await accepts(port))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      await stop()
      throw new Error(`${args[0]} does not start: ${(await readFile(log, 'utf8')).slice(-2000)}`)
    }
    await delay(50)
  }
  return { pid: child.pid!, stop }
}

/** Returns a port that is free now; nothing keeps another process from taking it before it is used. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, HOST)
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await once(server.close(), 'close')
  return port
}

/** True while something listens at the port. */
export async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, HOST)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
