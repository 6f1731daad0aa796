/**
 * The Arvados Python SDK: the client whose word on manifests and blocks counts. It is fetched once from
 * PyPI, with all that it needs, and run as a process of its own.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const VERSION = '3.2.1'
const CACHE = fileURLToPath(new URL(`../../.cache/arvados-sdk-${VERSION}/`, import.meta.url))
const SCRIPT = fileURLToPath(new URL('arvados_sdk.py', import.meta.url))

/** A keep service, as the API server lists it. */
export interface KeepService {
  uuid: string
  service_host: string
  service_port: number
  service_ssl_flag: boolean
  service_type: string
  read_only: boolean
}

/** The services that a client is told of, or the one URL of ARVADOS_KEEP_SERVICES. */
export type KeepServices = readonly KeepService[] | string

/** Returns the entry of a service on this machine, by its URL or port. */
export function keepService(url: string | number, type: string, uuid: string): KeepService {
  const port = typeof url === 'number' ? url : Number(new URL(url).port)
  return {
    uuid,
    service_host: '127.0.0.1',
    service_port: port,
    service_ssl_flag: false,
    service_type: type,
    read_only: false,
  }
}

/** Returns a port that nobody listens at. */
export async function deadPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await once(server.close(), 'close')
  return port
}

/** What the SDK makes of a manifest. */
export interface Normalized {
  text: string
  portableDataHash: string
  /** By `./PATH`. Segments are of locators, each from an offset on, some bytes. */
  files: Record<string, [locator: string, offset: number, size: number][]>
}

/** What the SDK reads of the files of a manifest. */
interface FilesRead {
  /** By `./PATH`. */
  files: Record<string, [md5: string, size: number]>
}

/** What the SDK makes of a locator. */
export interface SdkLocator {
  hash: string
  size: number | null
  /** But for that of the signature. */
  hints: string[]
  /** Its hint, written anew. */
  signature: string | null
}

/** A running SDK. Calls may be made at once, and are answered in turn; each rejects with the SDK's error. */
export interface ArvadosSdk extends AsyncDisposable {
  normalize(manifest: string): Promise<Normalized>
  /** Reads every file of a manifest from the services. */
  read(manifest: string, services: KeepServices, token?: string): Promise<FilesRead>
  get(
    locator: string,
    services: KeepServices,
    token?: string,
  ): Promise<{ md5: string; size: number }>
  head(locator: string, services: KeepServices, token?: string): Promise<{ found: boolean }>
  /**
   * Stores a block in so many copies, and returns what a service answered. `classes` are the storage
   * classes to have it in, `default` unless told.
   */
  put(
    data: Buffer,
    copies: number,
    services: KeepServices,
    token?: string,
    classes?: string[],
  ): Promise<{ locator: string }>
  /** Writes files into a new collection, which is saved nowhere, and returns its manifest. */
  write(
    files: Record<string, Buffer>,
    copies: number,
    services: KeepServices,
    token?: string,
  ): Promise<{ manifest: string }>
  /** Parses locators; null stands for what is none. */
  locators(texts: readonly string[]): Promise<{ parsed: (SdkLocator | null)[] }>
}

const run = promisify(execFile)

/**
 * Returns why the SDK cannot be had, for tests to skip with, or false where it can. Throws under
 * CI=true, where tests must not be left out.
 */
export async function lacksArvadosSdk(): Promise<string | false> {
  try {
    await fetchArvadosSdk()
    return false
  } catch (error) {
    const bar = '*'.repeat(80)
    console.error(
      `\n${bar}\n*** NO ARVADOS SDK. The tests that need it are LEFT OUT: whether real clients can\n*** read what keepgw serves and writes is not known.\n***\n${(error as Error).message.trim().replace(/^/gm, '***   ')}\n***\n*** It is fetched with pip: install python3 (3.10 or newer) with pip, and let it reach PyPI.\n${bar}`,
    )
    if (process.env.CI === 'true') throw error
    return 'needs the Arvados Python SDK; see the notice'
  }
}

/** Returns the directory of its modules. Safe to call from several processes at once. */
async function fetchArvadosSdk(): Promise<string> {
  if (existsSync(CACHE)) return CACHE
  console.error(`Fetching the Arvados Python SDK ${VERSION} for the tests, once`)
  await mkdir(join(CACHE, '..'), { recursive: true })
  const work = await mkdtemp(join(CACHE, '..', 'arvados-sdk-'))
  const install = ['-m', 'pip', 'install', '--quiet', '--only-binary=:all:', '--target', work]
  try {
    await run('python3', [...install, `arvados-python-client==${VERSION}`])
    await run('python3', ['-c', 'import arvados.collection'], { env: environment(work) })
    // The directory appears whole or not at all; another process may have been quicker.
    await rename(work, CACHE).catch((error) => {
      if (!existsSync(CACHE)) throw error
    })
    return CACHE
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** Nothing of the user's settings or tokens reaches it. */
function environment(modules: string): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, PYTHONPATH: modules, HOME: '/nonexistent', PYTHONUTF8: '1' }
}

/** Starts the SDK, which lacksArvadosSdk() has found to be there. */
export async function startArvadosSdk(): Promise<ArvadosSdk> {
  const env = environment(await fetchArvadosSdk())
  const child = spawn('python3', [SCRIPT], { env, stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const answers = createInterface(child.stdout)[Symbol.asyncIterator]()
  let last: Promise<unknown> = Promise.resolve()
  const call = <Answer>(method: string, request: object): Promise<Answer> => {
    const answer = last.then(async () => {
      child.stdin.write(`${JSON.stringify({ method, ...request })}\n`)
      const { value, done } = await answers.next()
      if (done) throw new Error(`the Arvados SDK has ended: ${await ended}`)
      const { error, ...rest } = JSON.parse(value)
      if (error !== undefined) throw new Error(error)
      return rest as Answer
    })
    last = answer.catch(() => {})
    return answer
  }
  return {
    normalize: async (manifest) => named<Normalized>(await call('normalize', { manifest })),
    read: async (manifest, services, token) =>
      named<FilesRead>(await call('read', { manifest, services, token })),
    get: (locator, services, token) => call('get', { locator, services, token }),
    head: (locator, services, token) => call('head', { locator, services, token }),
    put: (data, copies, services, token, classes) =>
      call('put', { data: data.toString('base64'), copies, services, token, classes }),
    write(contents, copies, services, token) {
      const files = Object.entries(contents).map(([name, data]) => [name, data.toString('base64')])
      return call('write', { files: Object.fromEntries(files), copies, services, token })
    },
    locators: (texts) => call('locators', { texts }),
    async [Symbol.asyncDispose]() {
      child.stdin.end()
      await ended
    },
  }
}

type AsPairs<Answer extends { files: Record<string, unknown> }> = Omit<Answer, 'files'> & {
  files: [name: string, file: Answer['files'][string]][]
}

/**
 * Returns an answer with its files by their names. They come as pairs: JSON.parse of Node 24 at times takes
 * a property name that is written with an escape for one of an object that it has parsed before.
 */
function named<Answer extends { files: Record<string, unknown> }>(answer: AsPairs<Answer>): Answer {
  return { ...answer, files: Object.fromEntries(answer.files) } as unknown as Answer
}
