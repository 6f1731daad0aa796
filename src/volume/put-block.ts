/** Puts one block into as many volumes as its writer wants copies. */
import { messageOf } from '../errors.ts'
import { RemoteError } from '../remote/remote.ts'
import {
  type NewBlock,
  type Stored,
  VolumeFull,
  type Wanted,
  type WritableVolume,
} from './volume.ts'

/** A block, how often it is wanted, and where it may go. */
export interface PutQuery {
  /** In the order in which they are tried; those that have the block already come before. */
  volumes: readonly WritableVolume[]
  block: NewBlock
  wanted: Wanted
  /** Aborts when nobody waits for the answer any more. */
  signal: AbortSignal
  /** Told of each volume that did not take the block. */
  onFailure?: (volume: WritableVolume, error: unknown) => void
}

/**
 * Stores copies in different volumes, several at once. Returns once what was wanted is on disk, or no
 * volume is left: also with fewer copies than wanted, which the client counts and makes good at other
 * services. Throws where there is none: VolumeFull if every volume is full or has other storage
 * classes, else RemoteError `unreachable`; or the signal's reason.
 */
export async function putBlock(query: PutQuery): Promise<Stored> {
  const { block, wanted, signal, onFailure } = query
  const progress = new Progress(wanted)
  const queue = await holdersFirst(query.volumes, block.hash)
  const failed: unknown[] = []
  for (;;) {
    const wave = progress.take(queue)
    if (wave.length === 0) break
    const share = { ...wanted, replicas: Math.ceil(progress.missing / wave.length) }
    const puts = wave.map(async (volume) => {
      try {
        progress.add(await volume.put(block, share, signal))
      } catch (error) {
        signal.throwIfAborted()
        failed.push(error)
        onFailure?.(volume, error)
      }
    })
    // All of them end before the block's memory is used again.
    await Promise.allSettled(puts)
    signal.throwIfAborted()
  }
  if (progress.replicas > 0) return progress.stored()
  if (failed.every((error) => error instanceof VolumeFull)) {
    throw new VolumeFull('no volume has room for the block')
  }
  const why = failed.map(messageOf).join('; ')
  throw new RemoteError('unreachable', `no volume took the block: ${why}`)
}

/** Otherwise a block that is written again would get one more copy each time. */
async function holdersFirst(
  volumes: readonly WritableVolume[],
  hash: string,
): Promise<WritableVolume[]> {
  const holds = await Promise.all(volumes.map((each) => each.holds(hash).catch(() => false)))
  return [...volumes.filter((_, at) => holds[at]), ...volumes.filter((_, at) => !holds[at])]
}

/** What has been stored, and what is missing. */
class Progress {
  readonly #wanted: Wanted
  readonly #classes: Record<string, number> = {}
  #locator: string | undefined
  #written = 0
  replicas = 0

  constructor(wanted: Wanted) {
    this.#wanted = wanted
  }

  /** Copies that are missing in the class that misses most, or at all. */
  get missing(): number {
    const { replicas, classes } = this.#wanted
    if (classes.length === 0) return Math.max(0, replicas - this.replicas)
    return Math.max(...classes.map((each) => this.#missingIn(each)))
  }

  /** Takes from the queue the volumes that are to be tried next, at once. */
  take(queue: WritableVolume[]): WritableVolume[] {
    const classes = this.#wanted.classes.filter((each) => this.#missingIn(each) > 0)
    const wave: WritableVolume[] = []
    let planned = 0
    for (const volume of [...queue]) {
      if (planned >= this.missing) break
      if (this.#wanted.classes.length > 0 && !volume.offers(classes)) continue
      queue.splice(queue.indexOf(volume), 1)
      wave.push(volume)
      planned += volume.replication
    }
    return wave
  }

  add(stored: Stored): void {
    this.replicas += stored.replicas
    for (const [name, count] of Object.entries(stored.classes)) {
      this.#classes[name] = (this.#classes[name] ?? 0) + count
    }
    this.#locator ??= stored.locator
    this.#written += stored.written
  }

  stored(): Stored {
    const [classes, locator, written] = [this.#classes, this.#locator, this.#written]
    return { replicas: this.replicas, classes, locator, written }
  }

  #missingIn(name: string): number {
    return Math.max(0, this.#wanted.replicas - (this.#classes[name] ?? 0))
  }
}
