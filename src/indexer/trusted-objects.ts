/** Finds the objects whose hashes were taken from their ETags. */
import { setImmediate } from 'node:timers/promises'
import type { Catalog } from '../mapping/catalog.ts'
import type { Scope } from './scope.ts'
import type { Task } from './walk.ts'

/** Records looked at between two looks at the event loop: a few milliseconds. */
const PER_TURN = 2000

/**
 * Yields them in order, as objects to be read. Holds no snapshot, as catalog.entries(). Throws KeepgwError
 * where a record is damaged.
 */
export async function* trustedObjects(catalog: Catalog, scope: Scope): AsyncIterable<Task> {
  if (catalog.stats().trusted === 0) return
  let looked = 0
  for (const prefix of scope.prefixes) {
    for (const { key, record } of catalog.entries(prefix)) {
      if (record.trusted && scope.matches(key)) {
        const { etag, size, lastModified } = record
        const object = { key, etag, size, lastModified, archived: false }
        yield { object, before: record }
      }
      looked += 1
      if (looked % PER_TURN === 0) await setImmediate()
    }
  }
}
