/** How a volume is named on the command line, and how it is opened. */
import { resolve } from 'node:path'
import { UsageError } from '../errors.ts'
import { readDescription } from '../mapping/description.ts'
import { ProofJournal } from '../mapping/proofs.ts'
import { MappingTree } from '../mapping/tree.ts'
import { openRemote } from '../remote/open.ts'
import type { RemoteSpec } from '../remote/remote.ts'
import { formatSpec, parseBucket } from '../remote/spec.ts'
import { MappedVolume } from './mapped.ts'
import type { Volume } from './volume.ts'

/** A remote that is served by the mapping of it. */
export interface VolumeSpec {
  /** Absolute path of the mapping tree. */
  mappings: string
  /** What the tree must be of. Where a bucket is named without a prefix, any part of it will do. */
  remote: RemoteSpec
  profile?: string
  credentialsFile?: string
}

const EXAMPLES = 'Write s3:MAPPINGS:BUCKET, s3:MAPPINGS:BUCKET:PROFILE or file:MAPPINGS:DIR'
const LATER = new Set(['unix', 'keep'])

/**
 * Returns what a `--volume` value names: `s3:MAPPINGS:BUCKET[/PREFIX][:CREDENTIALS]`, where
 * credentials with a `/` are a file and others a profile, or `file:MAPPINGS:DIR`. Throws UsageError.
 */
export function parseVolume(text: string): VolumeSpec {
  const [, kind = '', rest = ''] = /^([a-z0-9]+):(.*)$/s.exec(text) ?? []
  if (kind === 's3') return parseS3(text, rest)
  if (kind === 'file') return parseFile(text, rest)
  if (LATER.has(kind) || /^\.{0,2}\//.test(text)) {
    throw new UsageError(`volumes like "${text}" are not there yet`, { hint: EXAMPLES })
  }
  throw new UsageError(`"${text}" is no volume`, { hint: EXAMPLES })
}

/**
 * Opens a volume; nothing is asked of its remote before the first read. Throws UsageError where the
 * mapping is of something else, and MappingUnreachable where it cannot be read.
 */
export async function openVolume(spec: VolumeSpec): Promise<Volume> {
  const { mappings, profile, credentialsFile } = spec
  const description = await readDescription(mappings)
  if (!isOf(description.remote, spec.remote)) {
    const [found, wanted] = [formatSpec(description.remote), formatSpec(spec.remote)]
    throw new UsageError(`${mappings} is the mapping of ${found}, another one than ${wanted}`, {
      hint: `Name the mapping that was made by: keepgw index ${wanted}`,
    })
  }
  const { remote } = description
  const credentials = {
    ...(profile === undefined ? {} : { profile }),
    ...(credentialsFile === undefined ? {} : { credentialsFile }),
  }
  return new MappedVolume({
    mapping: new MappingTree(mappings),
    proofs: new ProofJournal(mappings),
    description,
    readDescription: () => readDescription(mappings),
    openRemote: (options) =>
      openRemote(remote.kind === 's3' ? { ...remote, ...credentials } : remote, options),
  })
}

function parseS3(text: string, rest: string): VolumeSpec {
  const [mappings = '', bucket = '', credentials, ...more] = rest.split(':')
  if (mappings === '' || bucket === '' || credentials === '' || more.length > 0) {
    throw new UsageError(`"${text}" is no volume`, { hint: EXAMPLES })
  }
  const spec = { mappings: resolve(mappings), remote: parseBucket(`s3://${bucket}`) }
  if (credentials === undefined) return spec
  if (!credentials.includes('/')) return { ...spec, profile: credentials }
  return { ...spec, credentialsFile: resolve(credentials) }
}

function parseFile(text: string, rest: string): VolumeSpec {
  const [, mappings = '', dir = ''] = /^([^:]*):(.*)$/s.exec(rest) ?? []
  if (mappings === '' || dir === '') {
    throw new UsageError(`"${text}" is no volume`, { hint: EXAMPLES })
  }
  return { mappings: resolve(mappings), remote: { kind: 'directory', root: resolve(dir) } }
}

function isOf(found: RemoteSpec, wanted: RemoteSpec): boolean {
  if (found.kind === 's3' && wanted.kind === 's3') {
    if (found.bucket !== wanted.bucket) return false
    return wanted.prefix === undefined || wanted.prefix === found.prefix
  }
  return formatSpec(found) === formatSpec(wanted)
}
