/**
 * Which moments the crash tests try: always the same for a seed (KEEPGW_TEST_SEED), and of each kind a
 * few in `npm test`, or all (KEEPGW_TEST_MOMENTS=all) in `npm run test:crashes`.
 */
import { createHash, randomInt } from 'node:crypto'

const seed = Number(process.env.KEEPGW_TEST_SEED ?? randomInt(1_000_000_000))

/** Returns how many moments to try: `all` of them where that is asked for, else `few`. */
export function share(few: number, all: number): number {
  return process.env.KEEPGW_TEST_MOMENTS === 'all' ? all : few
}

/** Says how this run's moments are had again. */
export function announce(what: string): void {
  console.log(`${what}: KEEPGW_TEST_SEED=${seed}`)
}

/** Returns numbers from 0 up to (not including) 1, always the same for a seed. */
export function seededRandom(from = seed): () => number {
  let drawn = 0
  return () => {
    const digest = createHash('sha256').update(`${from} ${drawn++}`).digest()
    return digest.readUIntBE(0, 6) / 2 ** 48
  }
}

/** Returns one of the items; there must be one. */
export function pick<T>(items: readonly T[], random: () => number): T {
  return items[Math.floor(random() * items.length)]!
}
