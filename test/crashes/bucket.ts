/** A bucket that changes from one run to the next. */
import type { TestBucket } from '../servers/s3.ts'

const BLOCK = 67_108_864

/** What lies in a bucket: key to content. */
export type Content = ReadonlyMap<string, string>

/** Contents that many objects share; the first one has more lines than fit into 4 KiB. */
const SHARED = Array.from({ length: 8 }, (_, i) => `shared by many: ${i}`)

/** Returns `count` small objects, a third of them repeating another, and one of two blocks. */
export function firstContent(count: number, random: () => number): Content {
  const content = new Map<string, string>()
  for (let i = 0; i < count; i++) content.set(keyOf('first', i), text(`first ${i}`, random))
  content.set('empty', '')
  content.set('odd/a b:c 100%41 é', 'an odd key')
  content.set('large', `${'\0'.repeat(BLOCK)}${SHARED[1]}`)
  return content
}

/**
 * Returns the content later on: of a hundred objects 5 are deleted and 25 changed (some to what
 * another object was), 20 are added and 5 copied.
 */
export function laterContent(name: string, content: Content, random: () => number): Content {
  const later = new Map(content)
  let i = 0
  for (const [key, old] of content) {
    const dice = random()
    if (key === 'large') continue
    if (dice < 0.05) later.delete(key)
    else if (dice < 0.3) later.set(key, text(`${name} ${i}`, random))
    else if (dice < 0.5) later.set(keyOf(name, i), text(`${name} new ${i}`, random))
    else if (dice < 0.55) later.set(keyOf(`${name}-copy`, i), old)
    i += 1
  }
  // Two objects change places.
  const [a, b] = [...later.keys()].filter((key) => later.get(key) === content.get(key))
  later.set(a!, content.get(b!)!).set(b!, content.get(a!)!)
  return later
}

function keyOf(name: string, i: number): string {
  return `d${i % 7}/${name}-${String(i).padStart(5, '0')}`
}

function text(unique: string, random: () => number): string {
  const dice = random()
  if (dice < 0.15) return SHARED[0]!
  return dice < 0.33 ? SHARED[Math.floor(random() * SHARED.length)]! : unique
}

/** Makes the bucket, which holds `from`, hold `to`. */
export async function store(bucket: TestBucket, from: Content, to: Content): Promise<void> {
  const work = [
    ...[...from.keys()].filter((key) => !to.has(key)).map((key) => () => bucket.remove(key)),
    ...[...to]
      .filter(([key, data]) => from.get(key) !== data)
      .map(([key, data]) => () => {
        return data.length > BLOCK ? bucket.putLarge(key, Buffer.from(data)) : bucket.put(key, data)
      }),
  ]
  const hands = Array.from({ length: 16 }, async () => {
    for (let next = work.pop(); next !== undefined; next = work.pop()) await next()
  })
  await Promise.all(hands)
}
