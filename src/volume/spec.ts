/** How a volume is named on the command line, and how it is opened. */
import { resolve } from 'node:path'
import { UsageError } from '../errors.ts'
import { readDescription } from '../mapping/description.ts'
import { ProofJournal } from '../mapping/proofs.ts'
import { MappingTree } from '../mapping/tree.ts'
import { openRemote } from '../remote/open.ts'
import { askedBy, type RemoteSpec } from '../remote/remote.ts'
import { formatSpec, parseBucket } from '../remote/spec.ts'
import { KeepVolume } from './keep/keep.ts'
import { MappedVolume } from './mapped.ts'
import { UnixVolume } from './unix/unix.ts'
import type { Volume } from './volume.ts'

/** What `--volume` names. */
export type VolumeSpec = MappedSpec | UnixSpec | KeepSpec

/** A remote that is served by the mapping of it. */
export interface MappedSpec {
  kind: 'mapped'
  /** Absolute path of the mapping tree. */
  mappings: string
  /** What the tree must be of. Where a bucket is named without a prefix, any part of it will do. */
  remote: RemoteSpec
  profile?: string
  credentialsFile?: string
}

/** A directory of a keepstore. */
export interface UnixSpec {
  kind: 'unix'
  /** Absolute path. */
  root: string
  serialize: boolean
  readOnly: boolean
}

/** Other keep services. */
export interface KeepSpec {
  kind: 'keep'
  /** Their URLs, without a slash at the end: at least one, none twice. */
  services: string[]
  readOnly: boolean
}

/** What a volume is opened with, beside its spec. */
export interface VolumeSettings {
  /** The cluster's system root token, for the index of other keep services. */
  systemRoot?: string | undefined
  /** What its blocks belong to; each kind of volume has its own where nobody says. */
  storageClasses?: readonly string[] | undefined
  /** True where nothing is to be written, whatever the spec says. */
  readOnly?: boolean | undefined
  /** Names this service to other keep services, which may ask it in turn. */
  id?: string | undefined
}

const EXAMPLES =
  'Write s3:MAPPINGS:BUCKET[:CREDENTIALS], file:MAPPINGS:DIR, unix:/DIR or keep:http://HOST:PORT'

/** What is a directory, and not a kind of volume. */
const PATH = /^\.{0,2}\//

/**
 * Returns what a `--volume` value names: `s3:MAPPINGS:BUCKET[/PREFIX][:CREDENTIALS]`, where
 * credentials with a `/` are a file and others a profile; `file:MAPPINGS:DIR`;
 * `unix:[serialize:][readonly:]/DIR` or a bare `/DIR`; `keep:[readonly:]URL[,URL…]`. Throws
 * UsageError.
 */
export function parseVolume(text: string): VolumeSpec {
  if (PATH.test(text)) return parseUnix(text, text)
  const [, kind = '', rest = ''] = /^([a-z0-9]+):(.*)$/s.exec(text) ?? []
  if (kind === 's3') return parseS3(text, rest)
  if (kind === 'file') return parseFile(text, rest)
  if (kind === 'unix') return parseUnix(text, rest)
  if (kind === 'keep') return parseKeep(text, rest)
  throw noVolume(text)
}

/** Returns the directories that a `--volumes` value names, with commas between. Throws UsageError. */
export function splitDirectories(text: string): string[] {
  const parts = text.split(',')
  const stray = parts.find((part) => !PATH.test(part))
  if (stray === undefined) return parts
  throw new UsageError(`"${stray}" in --volumes is no directory`, {
    hint: 'Write /DIR,/DIR; other volumes, each with a --volume of its own',
  })
}

/**
 * Opens a volume; nothing is asked of what lies elsewhere before the first read. Throws UsageError
 * where a mapping is of something else, MappingUnreachable where it cannot be read, and KeepgwError
 * where a directory cannot.
 */
export async function openVolume(spec: VolumeSpec, settings: VolumeSettings = {}): Promise<Volume> {
  if (spec.kind === 'mapped') return openMapped(spec, settings)
  const options = { ...settings, readOnly: spec.readOnly || settings.readOnly }
  if (spec.kind === 'unix') return UnixVolume.open(spec.root, { ...spec, ...options })
  return new KeepVolume({ ...spec, ...options })
}

async function openMapped(spec: MappedSpec, settings: VolumeSettings): Promise<Volume> {
  const { mappings } = spec
  const description = await readDescription(mappings)
  if (!isOf(description.remote, spec.remote)) {
    const [found, wanted] = [formatSpec(description.remote), formatSpec(spec.remote)]
    throw new UsageError(`${mappings} is the mapping of ${found}, another one than ${wanted}`, {
      hint: `Name the mapping that was made by: keepgw index ${wanted}`,
    })
  }
  const { remote } = description
  return new MappedVolume({
    storageClasses: settings.storageClasses,
    mapping: new MappingTree(mappings),
    proofs: new ProofJournal(mappings),
    description,
    readDescription: () => readDescription(mappings),
    openRemote: (options) =>
      openRemote(remote.kind === 's3' ? askedBy(remote, spec) : remote, options),
  })
}

/** Returns the options before a volume's name, each with a colon behind it, and the name. */
function takeOptions(rest: string, known: string[]): { options: Set<string>; name: string } {
  const options = new Set<string>()
  let name = rest
  for (;;) {
    const option = known.find((each) => name.startsWith(`${each}:`))
    if (option === undefined) return { options, name }
    options.add(option)
    name = name.slice(option.length + 1)
  }
}

function parseUnix(text: string, rest: string): UnixSpec {
  const { options, name } = takeOptions(rest, ['serialize', 'readonly'])
  if (!PATH.test(name) || name.includes('\0')) throw noVolume(text)
  const [serialize, readOnly] = [options.has('serialize'), options.has('readonly')]
  return { kind: 'unix', root: resolve(name), serialize, readOnly }
}

function parseKeep(text: string, rest: string): KeepSpec {
  const { options, name } = takeOptions(rest, ['readonly'])
  const services = name.split(',').map((part) => {
    if (!/^https?:\/\/[^/?#@\s]+\/*$/i.test(part) || !URL.canParse(part)) throw noVolume(text)
    return new URL(part).origin
  })
  if (new Set(services).size < services.length) {
    throw new UsageError(`"${text}" names a service twice`, { hint: 'Name each one once' })
  }
  return { kind: 'keep', services, readOnly: options.has('readonly') }
}

function noVolume(text: string): UsageError {
  return new UsageError(`"${text}" is no volume`, { hint: EXAMPLES })
}

function parseS3(text: string, rest: string): MappedSpec {
  const [mappings = '', bucket = '', credentials, ...more] = rest.split(':')
  if (mappings === '' || bucket === '' || credentials === '' || more.length > 0) {
    throw noVolume(text)
  }
  const remote = parseBucket(`s3://${bucket}`)
  const spec: MappedSpec = { kind: 'mapped', mappings: resolve(mappings), remote }
  if (credentials === undefined) return spec
  if (!credentials.includes('/')) return { ...spec, profile: credentials }
  return { ...spec, credentialsFile: resolve(credentials) }
}

function parseFile(text: string, rest: string): MappedSpec {
  const [, mappings = '', dir = ''] = /^([^:]*):(.*)$/s.exec(rest) ?? []
  if (mappings === '' || dir === '') {
    throw noVolume(text)
  }
  const remote = { kind: 'directory', root: resolve(dir) } as const
  return { kind: 'mapped', mappings: resolve(mappings), remote }
}

function isOf(found: RemoteSpec, wanted: RemoteSpec): boolean {
  if (found.kind === 's3' && wanted.kind === 's3') {
    if (found.bucket !== wanted.bucket) return false
    return wanted.prefix === undefined || wanted.prefix === found.prefix
  }
  return formatSpec(found) === formatSpec(wanted)
}
