/**
 * MAPPINGS/.keepgw/remote.json says what a tree is of. A tree without a readable one is out of
 * reach (an unmounted disk), never empty.
 */
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname, isAbsolute, join } from 'node:path'
import { KeepgwError, messageOf } from '../errors.ts'
import type { RemoteSpec } from '../remote/remote.ts'
import { DENIED_HINT, isDenied } from './file-errors.ts'
import { MappingUnreachable } from './mapping.ts'
import { syncPath } from './sync.ts'

/** The contents of remote.json: the remote, without anything that names credentials. */
export interface MappingDescription {
  version: 1
  remote: RemoteSpec
  /** False once the store was seen to answer 412 to a true ETag: then answers are compared. */
  ifMatch: boolean
  /** False once an object's ETag looked like its MD5, and was not: then none is taken for it. */
  etagIsMd5?: false
}

/** Returns keepgw's own directory in a mapping. */
export function stateDir(mappings: string): string {
  return join(mappings, '.keepgw')
}

/** Reads remote.json. Throws MappingUnreachable where it cannot be read or is not ours. */
export async function readDescription(mappings: string): Promise<MappingDescription> {
  const file = join(stateDir(mappings), 'remote.json')
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EISDIR') throw damaged(file, mappings, error)
    const hint = `Is its disk mounted? A new mapping is made by: keepgw index BUCKET --mappings ${mappings}`
    throw new MappingUnreachable(`mapping ${mappings} is out of reach: ${messageOf(error)}`, {
      cause: error,
      hint: isDenied(error) ? DENIED_HINT : hint,
    })
  }
  try {
    return checked(JSON.parse(text))
  } catch (error) {
    throw damaged(file, mappings, error)
  }
}

function damaged(file: string, mappings: string, error: unknown): MappingUnreachable {
  return new MappingUnreachable(`${file} is damaged: ${messageOf(error)}`, {
    cause: error,
    hint: `Restore it from a backup, or remove it: keepgw index BUCKET --mappings ${mappings} writes it anew`,
  })
}

/**
 * Returns the description of a mapping, or undefined where `mappings` holds none yet. Throws
 * MappingUnreachable where there is one that cannot be read.
 */
export async function findDescription(mappings: string): Promise<MappingDescription | undefined> {
  try {
    return await readDescription(mappings)
  } catch (error) {
    const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException) : undefined
    if (cause?.code === 'ENOENT' || cause?.code === 'ENOTDIR') return undefined
    throw error
  }
}

/**
 * Writes remote.json whole or not at all, and makes the mapping's directories where missing. All of it
 * is on disk when the promise resolves. Throws KeepgwError; then the old one is still there.
 */
export async function writeDescription(
  mappings: string,
  description: MappingDescription,
): Promise<void> {
  const dir = stateDir(mappings)
  const beside = join(dir, `remote.json.${randomUUID()}`)
  try {
    await makeDirectory(dir)
    const handle = await open(beside, 'wx')
    try {
      await handle.writeFile(`${JSON.stringify(description, undefined, 2)}\n`)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(beside, join(dir, 'remote.json'))
    await syncPath(dir)
  } catch (error) {
    await rm(beside, { force: true }).catch(() => {})
    throw new KeepgwError(`cannot write the mapping ${mappings}: ${messageOf(error)}`, {
      cause: error,
      hint: 'Name a directory that you may write to with --mappings DIR',
    })
  }
}

/** As mkdir -p. Node's own spins for ever where a parent exists and takes no entries (/proc). */
async function makeDirectory(dir: string): Promise<void> {
  const parent = dirname(dir)
  if (!existsSync(parent) && parent !== dir) await makeDirectory(parent)
  if (existsSync(dir)) return
  await mkdir(dir)
  await syncPath(parent)
}

function checked(json: unknown): MappingDescription {
  const description = json as Partial<MappingDescription> | null
  if (description?.version !== 1) throw new Error(`unknown version ${description?.version}`)
  const remote = checkedRemote(description.remote)
  const { ifMatch, etagIsMd5 } = description
  const trust = etagIsMd5 === false ? { etagIsMd5 } : {}
  return { version: 1, remote, ifMatch: ifMatch !== false, ...trust }
}

/** What a bucket's description may hold beside its name, and how it is written. */
const S3_SETTINGS: Record<string, (value: unknown) => boolean> = {
  prefix: isText,
  endpoint: isText,
  region: isText,
  pathStyle: isBoolean,
  anonymous: isBoolean,
  requestPayer: (value) => value === 'requester',
}

/** Who asks is not the mapping's to say: what names credentials is left out. */
function checkedRemote(remote: unknown): RemoteSpec {
  const { kind, bucket, root, ...settings } = (remote ?? {}) as Record<string, unknown>
  if (kind === 'directory' && isText(root) && isAbsolute(root)) return { kind, root }
  if (kind !== 's3' || !isText(bucket)) throw new Error('it names no remote')
  const known = Object.entries(settings).filter(([name]) => Object.hasOwn(S3_SETTINGS, name))
  const odd = known.find(([name, value]) => !S3_SETTINGS[name]!(value))
  if (odd !== undefined) throw new Error(`its "${odd[0]}" is not of its kind`)
  return { kind, bucket, ...Object.fromEntries(known) }
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isBoolean(value: unknown): boolean {
  return typeof value === 'boolean'
}
