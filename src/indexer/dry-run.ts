/** Says what a run would do: puts the listing beside a catalog that it only looks at. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  findDescription,
  type MappingDescription,
  writeDescription,
} from '../mapping/description.ts'
import { assertSame, openForWriting, type WritableMapping } from '../mapping/open-mapping.ts'
import { countVanished } from './drop.ts'
import { EtagPolicy } from './etag-policy.ts'
import type { IndexOptions } from './index-options.ts'
import { RunRemote } from './run-remote.ts'
import { type IndexCounts, RunTally } from './run-tally.ts'
import { trustedObjects } from './trusted-objects.ts'
import { walk } from './walk.ts'

/**
 * Returns the counts of a run that would read and record everything. It holds the lock meanwhile, and
 * finishes a batch that was cut short. Throws KeepgwError.
 */
export async function dryRun(options: IndexOptions): Promise<IndexCounts> {
  const { mappings, remote, breakLock } = options
  const found = await findDescription(mappings)
  if (found !== undefined) assertSame(mappings, found.remote, remote)
  const description: MappingDescription = found ?? { version: 1, remote, ifMatch: true }
  // Where there is no mapping yet, the walk needs an empty catalog all the same.
  const empty = found === undefined ? await mkdtemp(join(tmpdir(), 'keepgw-')) : undefined
  try {
    if (empty !== undefined) await writeDescription(empty, description)
    const command = 'index --dry-run'
    const mapping = await openForWriting(empty ?? mappings, description, { command, breakLock })
    try {
      return await rehearse(options, mapping)
    } finally {
      await mapping.close()
    }
  } finally {
    if (empty !== undefined) await rm(empty, { recursive: true, force: true })
  }
}

async function rehearse(options: IndexOptions, mapping: WritableMapping): Promise<IndexCounts> {
  const { scope, trustEtags: wanted, observer } = options
  const { catalog } = mapping
  const remote = new RunRemote(options, mapping)
  const tally = new RunTally(observer)
  const { counts } = tally
  try {
    for await (const page of walk(remote.store, catalog, scope, options)) {
      tally.listed(page)
      for (const task of page.tasks) tally.indexed(task)
    }
    counts.dropped = countVanished(catalog, tally.unlisted)
    const etags = new EtagPolicy({ mapping, wanted, observer })
    if (!etags.mayTrust) {
      for await (const _task of trustedObjects(catalog, scope)) counts.proven += 1
    }
  } finally {
    counts.requests = await remote.close()
  }
  return counts
}
