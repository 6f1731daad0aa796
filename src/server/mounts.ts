/** Mounts: how a Keep service shows its volumes to keep-balance. */
import { createHash } from 'node:crypto'
import { UsageError } from '../errors.ts'
import type { Volume } from '../volume/volume.ts'

/** A volume as the service shows it. */
export interface Mount {
  /** The same at every server of the same storage: keep-balance merges mounts by it. */
  readonly uuid: string
  readonly volume: Volume
  /** Storage classes that its blocks belong to. */
  readonly storageClasses: readonly string[]
  /** Copies that one block in it counts for. */
  readonly replication: number
  readonly allowWrite: boolean
  readonly allowTrash: boolean
}

export interface MountOptions {
  /** The cluster's five letters or digits. */
  clusterId: string
  storageClasses: readonly string[]
}

/** The cluster's name where none is told: the one of Arvados' own examples. */
export const DEFAULT_CLUSTER_ID = 'zzzzz'

/**
 * Not `default`: keep-balance would trash Keep's own copy of a block and rely on an object that its
 * owner may change.
 */
export const DEFAULT_STORAGE_CLASS = 'keepgw'

/** Returns the mount of a volume that is only read. */
export function makeMount(volume: Volume, { clusterId, storageClasses }: MountOptions): Mount {
  return {
    uuid: mountUuid(clusterId, volume.deviceId),
    volume,
    storageClasses,
    replication: 1,
    allowWrite: false,
    allowTrash: false,
  }
}

/**
 * Returns the UUID that any server of a cluster gives a device. keep-balance refuses to run when one
 * device shows up under two.
 */
export function mountUuid(clusterId: string, deviceId: string): string {
  const digest = createHash('md5').update(deviceId).digest('hex')
  return `${clusterId}-nyw5e-${digest.slice(0, 15)}`
}

/** Throws UsageError where two mounts are of one device: its blocks would be listed twice. */
export function assertDistinct(mounts: readonly Mount[]): void {
  const seen = new Map<string, Mount>()
  for (const mount of mounts) {
    const other = seen.get(mount.uuid)
    if (other !== undefined) {
      throw new UsageError(
        `${other.volume} and ${mount.volume} are of the same storage, ${mount.volume.deviceId}`,
        { hint: 'Serve one mapping of it' },
      )
    }
    seen.set(mount.uuid, mount)
  }
}

/** Returns what `GET /mounts` says of a mount, in the words of the Keep protocol. */
export function mountEntry(mount: Mount) {
  return {
    uuid: mount.uuid,
    device_id: mount.volume.deviceId,
    allow_write: mount.allowWrite,
    allow_trash: mount.allowTrash,
    replication: mount.replication,
    storage_classes: Object.fromEntries(mount.storageClasses.map((name) => [name, true])),
  }
}
