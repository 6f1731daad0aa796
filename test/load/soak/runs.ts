/** The commands that an administrator has cron start: how they ended. */
import { keepgw, summaryOf } from '../../e2e/keepgw.ts'

/** One run after the other of each command. */
export class Runs {
  /** When the last index run began that has come to its end: as performance.now(). */
  indexed = -1
  readonly indexes: Record<string, number> = {}
  readonly verifies: Record<string, number> = {}
  verified = 0
  corrupt = 0
  /** What ended otherwise than it should, a line each. */
  readonly complaints: string[] = []
  readonly #bucket: string
  readonly #env: NodeJS.ProcessEnv

  constructor(bucket: string, env: NodeJS.ProcessEnv) {
    this.#bucket = bucket
    this.#env = env
  }

  async index(): Promise<void> {
    const began = performance.now()
    const { code, stderr } = await keepgw(['index', this.#bucket, '--json'], this.#env)
    count(this.indexes, code)
    if (code === 0) this.indexed = began
    else this.complaints.push(`index ended with ${code}: ${stderr.trim()}`)
  }

  /** Objects may change after they were indexed, so that blocks without a good place are no surprise. */
  async verify(): Promise<void> {
    const outcome = await keepgw(['verify', '--all', '--sample=5%', '--json'], this.#env)
    count(this.verifies, outcome.code)
    if (![0, 1, 3].includes(outcome.code ?? -1)) {
      this.complaints.push(`verify ended with ${outcome.code}: ${outcome.stderr.trim()}`)
      return
    }
    this.verified += Number(summaryOf(outcome).blocks)
    this.corrupt += outcome.stdout.split('"verdict":"corrupt"').length - 1
  }
}

function count(codes: Record<string, number>, code: number | null): void {
  codes[String(code)] = (codes[String(code)] ?? 0) + 1
}
