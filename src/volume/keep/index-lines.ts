/** The index that a keep service answers with. */
import { RemoteError } from '../../remote/remote.ts'
import type { IndexedBlock } from '../volume.ts'

/** Characters of a line are fewer. */
const LONGEST = 1024
const LINE = /^([0-9a-f]{32})\+(\d{1,8}) (\d{1,19})$/

/**
 * Yields the blocks of an index as it comes. Throws RemoteError `unreachable` for a line that is
 * none, and where the empty line is missing that says it is complete.
 */
export async function* readIndex(body: AsyncIterable<Uint8Array>): AsyncGenerator<IndexedBlock> {
  let rest = ''
  let isComplete = false
  for await (const chunk of body) {
    const lines = (rest + Buffer.from(chunk).toString('latin1')).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > LONGEST) throw new RemoteError('unreachable', 'the index has an endless line')
    for (const line of lines) {
      if (isComplete) throw new RemoteError('unreachable', 'the index goes on behind its end')
      if (line === '') isComplete = true
      else yield parseLine(line)
    }
  }
  if (!isComplete || rest !== '') throw new RemoteError('unreachable', 'the index is cut short')
}

function parseLine(line: string): IndexedBlock {
  const [, hash, length, mtime] = LINE.exec(line) ?? []
  if (hash === undefined || length === undefined || mtime === undefined) {
    throw new RemoteError('unreachable', 'the index has a line that is none')
  }
  // Services before 2015 gave seconds.
  const mtimeNs = mtime.length <= 11 ? BigInt(mtime) * 1_000_000_000n : BigInt(mtime)
  return { hash, length: Number(length), mtimeNs }
}
