/** The file that configures an Arvados cluster: /etc/arvados/config.yml. */
import { readFile } from 'node:fs/promises'
import { parseDocument } from 'yaml'
import { messageOf, UsageError } from '../errors.ts'
import { Section } from './section.ts'

/** Where Arvados has it, unless ARVADOS_CONFIG names another one. */
export const DEFAULT_CONFIG = '/etc/arvados/config.yml'

/** What may stand at the top of the file. */
const TOP_LEVEL = ['Clusters', 'AutoReloadConfig']

/** The part of the file that is about one cluster. */
export interface ClusterSection {
  file: string
  clusterId: string
  section: Section
}

/**
 * Reads the configuration of a cluster: the one named, or the only one there is. Undefined for a file
 * without any setting. Throws UsageError, which names the file and the place, and holds nothing of
 * its contents.
 */
export async function readClusterSection(
  file: string,
  clusterId?: string,
): Promise<ClusterSection | undefined> {
  const root = new Section(file, '', parse(file, await read(file)))
  if (root.names.length === 0) return undefined
  root.allowOnly(TOP_LEVEL)
  const clusters = root.section('Clusters')
  const id = clusterId ?? only(file, clusters.names)
  if (!clusters.names.includes(id)) {
    throw new UsageError(`${file}: Clusters.${id} is not there`, {
      hint: `The file has: ${clusters.names.join(', ') || 'no cluster'}`,
    })
  }
  if (!isClusterId(id))
    throw clusters.bad(id, 'is no cluster id: five lower-case letters or digits')
  return { file, clusterId: id, section: clusters.section(id) }
}

/** True for five lower-case letters or digits. */
export function isClusterId(text: string): boolean {
  return /^[a-z0-9]{5}$/.test(text)
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new UsageError(`the configuration cannot be read: ${messageOf(error)}`, {
      cause: error,
      hint: 'Let the user of keepgw read it, name a smaller one with --config FILE, or say --config=/dev/null',
    })
  }
}

function parse(file: string, text: string): unknown {
  const document = parseYaml(file, text)
  const [error] = document.errors
  if (error !== undefined) {
    // The parser's message may quote the file.
    const [at] = error.linePos ?? []
    const place = at === undefined ? '' : ` in line ${at.line}, column ${at.col}`
    const what = error.code.toLowerCase().replaceAll('_', ' ')
    throw new UsageError(`${file}: no valid YAML${place}: ${what}`)
  }
  try {
    return document.toJS()
  } catch {
    throw new UsageError(`${file}: no valid YAML: an alias that leads nowhere, or too far`)
  }
}

function parseYaml(file: string, text: string): ReturnType<typeof parseDocument> {
  try {
    // As Arvados, whose parser takes `yes` and `off` for booleans and knows merge keys.
    return parseDocument(text, { version: '1.1', merge: true })
  } catch {
    throw new UsageError(`${file}: no valid YAML: too much in each other`)
  }
}

function only(file: string, ids: string[]): string {
  if (ids.length === 1) return ids[0]!
  if (ids.length === 0) throw new UsageError(`${file}: Clusters has no cluster`)
  throw new UsageError(`${file}: Clusters has ${ids.length} clusters`, {
    hint: `Say which with --cluster-id: ${ids.join(', ')}`,
  })
}
