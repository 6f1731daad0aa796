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

/** The cluster's name where none is told: the one of Arvados' own examples. */
export const DEFAULT_CLUSTER_ID = 'zzzzz'

/** Returns the mount of a volume; `clusterId` is the cluster's five letters or digits. */
export function makeMount(volume: Volume, clusterId: string): Mount {
  const { storageClasses, replication, allowWrite, allowTrash } = volume
  const uuid = mountUuid(clusterId, volume.deviceId)
  return { uuid, volume, storageClasses, replication, allowWrite, allowTrash }
}

/**
 * Returns the UUID that any server of a cluster gives a device. keep-balance refuses to run when one
 * device shows up under two.
 */
export function mountUuid(clusterId: string, deviceId: string): string {
  return `${clusterId}-nyw5e-${deviceDigest(deviceId)}`
}

/** True if a mount's UUID is that of the volume, whatever the cluster. */
export function isMountOf(uuid: string, { deviceId }: Volume): boolean {
  return uuid.slice(-15) === deviceDigest(deviceId)
}

function deviceDigest(deviceId: string): string {
  return createHash('md5').update(deviceId).digest('hex').slice(0, 15)
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

/**
 * Returns the mounts that keep-balance is told of. Blocks of other keep services are not among them: a
 * copy that is counted twice lets it trash one that is needed, and to count none is safe.
 */
export function shownMounts(mounts: readonly Mount[]): Mount[] {
  return mounts.filter(({ volume }) => volume.listedElsewhere !== true)
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
