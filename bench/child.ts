/** Servers of the bench's own, each in a process of its own so that its CPU is not a contender's. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { AddressInfo, Server } from 'node:net'
import { fileURLToPath } from 'node:url'

export interface ChildServer {
  /** http://127.0.0.1:PORT */
  endpoint: string
  pid: number
  stop(): Promise<void>
}

/** Starts a script beside this one, which ends in serveParent(). Throws where it does not start. */
export async function startChild(script: string, args: string[] = []): Promise<ChildServer> {
  const file = fileURLToPath(new URL(script, import.meta.url))
  const child = spawn(process.execPath, [file, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const failed = ended.then(([code]) => {
    throw new Error(`${script} ended with ${code} before it listened`)
  })
  const [port] = await Promise.race([once(child.stdout, 'data'), failed])
  failed.catch(() => {})
  const stop = async (): Promise<void> => {
    child.stdin.end()
    await ended
  }
  return { endpoint: `http://127.0.0.1:${String(port).trim()}`, pid: child.pid!, stop }
}

/** In the child: listens on a free port, tells it, and ends with the parent or at its stop(). */
export function serveParent(server: Server): void {
  server.listen(0, '127.0.0.1', () => tellParent((server.address() as AddressInfo).port))
}

/** In the child: tells the port that it listens on, and ends with the parent or at its stop(). */
export function tellParent(port: number | string): void {
  process.stdout.write(`${port}\n`)
  process.stdin.resume().once('close', () => process.exit(0))
}
