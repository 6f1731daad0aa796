/** A thread that reads segments from the remote and hashes them; hash-pool.ts is its other end. */
import { parentPort, workerData } from 'node:worker_threads'
import { messageOf } from '../errors.ts'
import { nodeEngine } from '../hash/md5.ts'
import { openRemote } from '../remote/open.ts'
import { RemoteError } from '../remote/remote.ts'
import { readResuming } from '../remote/resume.ts'
import type { HashAnswer, HashTask, WorkerSetup } from './hash-pool.ts'

const { spec, options } = workerData as WorkerSetup
const remote = openRemote(spec, options)

parentPort!.on('message', async ({ id, request }: HashTask) => {
  parentPort!.postMessage({ id, ...(await hash(request)) })
})

async function hash(request: HashTask['request']): Promise<Omit<HashAnswer, 'id'>> {
  const hasher = nodeEngine.open()
  try {
    await readResuming(remote, request, (chunk) => hasher.update(chunk))
    return { hash: await hasher.digest() }
  } catch (error) {
    const { failure, hint } =
      error instanceof RemoteError ? error : { failure: 'unreachable' as const, hint: undefined }
    return { failure: { failure, message: messageOf(error), hint } }
  }
}
