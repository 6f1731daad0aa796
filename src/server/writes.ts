/** What a service needs that writes, for as long as it runs. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from 'pino'
import { BufferPool } from '../buffer-pool.ts'
import { messageOf } from '../errors.ts'
import { MAX_BLOCK } from '../keep/locator.ts'
import { DEFAULT_SIGNING_TTL, type SigningKey, signLocator } from '../keep/signature.ts'
import { FailureMemory } from '../volume/failure-memory.ts'
import { KeepVolume } from '../volume/keep/keep.ts'
import { readBlock } from '../volume/read-block.ts'
import {
  hasTrash,
  isWritable,
  type TrashPolicy,
  type TrashVolume,
  type Volume,
  type WritableVolume,
} from '../volume/volume.ts'
import type { PullItem, TrashItem } from './lists.ts'
import { isMountOf } from './mounts.ts'
import { WorkList } from './work-list.ts'

/** Each takes up to 64 MiB. */
const PULLED_AT_ONCE = 1
/** Milliseconds: no timer is longer. */
const MAX_PAUSE = 2 ** 31 - 1
/** For whom locators are signed that are pulled; the other services check the signature alone. */
const PULL_TOKEN = 'keepgw-pulls-from-its-cluster'

/** What bounds writing, and what becomes of blocks that are thrown away. */
export interface WriteOptions {
  /** How many blocks of up to 64 MiB are received at once. */
  buffers: number
  /** False where no block is to be thrown away, nor any in the trash deleted: BlobTrash. */
  trash: boolean
  /** Seconds that a block stays in the trash; 0 deletes it at once. */
  trashLifetime: number
  /** Blocks of a trash list that are thrown away at once; 0 for none of them: BlobTrashConcurrency. */
  trashConcurrency: number
  /** Seconds between two looks at the trash; 0 where nothing in it is deleted: BlobTrashCheckInterval. */
  trashInterval: number
}

/** Memory for 512 MiB of blocks; and Arvados' own defaults. */
export const WRITING: WriteOptions = {
  buffers: 8,
  trash: true,
  trashLifetime: 1_209_600,
  trashConcurrency: 4,
  trashInterval: 86_400,
}

/** What writing is made of. The volumes stay the caller's. */
export interface WritesParts extends WriteOptions {
  volumes: readonly Volume[]
  signing: SigningKey | undefined
  log: Logger
  /** Milliseconds another service may be silent. */
  idleLimit: number
}

/**
 * Buffers, volumes that take blocks, and the lists that are worked on in the background. Safe for
 * concurrent use.
 */
export class Writes {
  readonly buffers: BufferPool
  readonly signing: SigningKey | undefined
  /** False where every block stays. */
  readonly trashes: boolean
  readonly policy: TrashPolicy
  readonly trashVolumes: readonly TrashVolume[]
  readonly trashList: WorkList<TrashItem>
  readonly pullList: WorkList<PullItem>
  readonly #volumes: readonly WritableVolume[]
  readonly #log: Logger
  readonly #idleLimit: number
  readonly #emptiesTrash: boolean
  readonly #stop = new AbortController()
  #turn = 0

  /** Returns undefined where no volume takes blocks: such a service refuses every write. */
  static of(parts: WritesParts): Writes | undefined {
    return parts.volumes.some(isWritable) ? new Writes(parts) : undefined
  }

  constructor(parts: WritesParts) {
    const { volumes, signing, log, idleLimit, buffers, trash, trashInterval } = parts
    this.trashes = trash
    this.#emptiesTrash = trash && trashInterval > 0
    this.buffers = new BufferPool(buffers, MAX_BLOCK)
    this.signing = signing
    // A block stays for as long as it would if it were signed for.
    this.policy = { minAge: signing?.ttl ?? DEFAULT_SIGNING_TTL, lifetime: parts.trashLifetime }
    this.#volumes = volumes.filter(isWritable)
    this.trashVolumes = volumes.filter(hasTrash)
    this.#log = log
    this.#idleLimit = idleLimit
    this.trashList = new WorkList(parts.trashConcurrency, (item) => this.#trash(item))
    this.pullList = new WorkList(PULLED_AT_ONCE, (item, signal) => this.#pull(item, signal))
    void this.#emptyEvery(trashInterval || WRITING.trashInterval)
  }

  /** Returns the volumes in the order in which the next block is to be offered to them. */
  nextVolumes(): WritableVolume[] {
    const at = this.#turn++ % this.#volumes.length
    return [...this.#volumes.slice(at), ...this.#volumes.slice(0, at)]
  }

  /** True for a request of this Via header that this service has passed on itself. */
  passedOn(via: string): boolean {
    return this.#volumes.some((volume) => volume.passedOn?.(via))
  }

  /** Deletes what broken writes have left, and what has been in the trash for its lifetime. Never throws. */
  async emptyTrash(): Promise<void> {
    for (const volume of this.trashVolumes) {
      try {
        await volume.emptyTrash({ trashStays: !this.#emptiesTrash })
      } catch (error) {
        this.#log.error({ volume: String(volume), reason: messageOf(error) }, 'trash not emptied')
      }
    }
  }

  /** Ends the work in the background. */
  async close(): Promise<void> {
    this.#stop.abort()
    await Promise.all([this.trashList.close(), this.pullList.close()])
  }

  /** At once for the first time: a service that is restarted every night would never come to it. */
  async #emptyEvery(seconds: number): Promise<void> {
    const { signal } = this.#stop
    const pause = Math.min(seconds * 1000, MAX_PAUSE)
    while (!signal.aborted) {
      await this.emptyTrash()
      await delay(pause, undefined, { ref: false, signal }).catch(() => {})
    }
  }

  async #trash({ locator: { hash }, mtimeNs, mountUuid }: TrashItem): Promise<void> {
    if (!this.trashes) return
    for (const volume of this.trashVolumes) {
      if (mountUuid !== '' && !isMountOf(mountUuid, volume)) continue
      const fields = { hash, volume: String(volume) }
      try {
        const outcome = await volume.trash(hash, this.policy, mtimeNs)
        this.#log.info({ ...fields, outcome }, 'trash list')
      } catch (error) {
        this.#log.error({ ...fields, reason: messageOf(error) }, 'block not trashed')
      }
    }
  }

  async #pull(item: PullItem, signal: AbortSignal): Promise<void> {
    const { hash, size } = item.locator
    const volume = this.nextVolumes().find((each) => {
      return item.mountUuid === '' || isMountOf(item.mountUuid, each)
    })
    const fields = { hash, servers: item.servers, volume: String(volume) }
    try {
      if (volume === undefined) throw new Error(`no writable mount ${item.mountUuid}`)
      const data = await this.#fetch(item, signal)
      await volume.put({ hash, data }, { replicas: 1, classes: [] }, signal)
      this.#log.info({ ...fields, size }, 'block pulled')
    } catch (error) {
      this.#log.warn({ ...fields, reason: messageOf(error) }, 'block not pulled')
    }
  }

  async #fetch({ locator, servers }: PullItem, signal: AbortSignal): Promise<Buffer> {
    const { hash, size } = locator
    const reader = { locator: this.sign(`${hash}+${size}`, PULL_TOKEN), token: PULL_TOKEN }
    const source = new KeepVolume({ services: servers, readOnly: true })
    let data = Buffer.alloc(0)
    let at = 0
    const failures = new FailureMemory()
    const query = { volumes: [source], hash, size, reader, signal, failures }
    try {
      await readBlock(
        { ...query, idleLimit: this.#idleLimit },
        {
          begin(length) {
            data = Buffer.allocUnsafeSlow(length)
          },
          write(chunk) {
            data.set(chunk, at)
            at += chunk.length
          },
        },
      )
    } finally {
      await source.close()
    }
    return data
  }

  /** Returns the locator signed for the token, where this service has a key for that. */
  sign(locator: string, token: string): string {
    if (this.signing === undefined) return locator
    const expiry = Date.now() / 1000 + this.signing.ttl
    return signLocator(locator, token, expiry, this.signing)
  }
}
