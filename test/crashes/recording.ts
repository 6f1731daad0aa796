/**
 * Records what a command does to the files below a directory: every call to the system that changes
 * or syncs them, of all its threads and children, with all bytes, through strace.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** When a call began and ended, as places in the order of all that happened. */
interface Span {
  start: number
  end: number
}

/** What was done to the files; paths are absolute. */
export type Operation = Span &
  (
    | { kind: 'open'; path: string; create: boolean; truncate: boolean }
    | { kind: 'mkdir'; path: string }
    /** `lasting`: on disk when the call has ended, as with O_DSYNC. */
    | { kind: 'write'; path: string; offset: number | 'end'; data: Buffer; lasting: boolean }
    | { kind: 'truncate'; path: string; size: number }
    | { kind: 'rename'; from: string; to: string }
    | { kind: 'remove'; path: string }
    /** Of one file's data, of a directory's names, or of all that is on the file system. */
    | { kind: 'sync'; path: string; of: 'one' | 'all' }
  )

/** Changes or syncs files, or says where the next write goes. */
const CALLS = [
  ...['open', 'openat', 'openat2', 'creat', 'lseek', 'mmap', 'msync', 'io_uring_setup'],
  ...['write', 'pwrite64', 'writev', 'pwritev', 'pwritev2', 'sendfile', 'copy_file_range'],
  ...['truncate', 'ftruncate', 'fallocate', 'rename', 'renameat', 'renameat2'],
  ...['link', 'linkat', 'symlink', 'symlinkat', 'unlink', 'unlinkat', 'rmdir', 'mkdir', 'mkdirat'],
  ...['fsync', 'fdatasync', 'sync', 'syncfs', 'sync_file_range'],
]
/** Longer than any write: strace would shorten it. */
const LONGEST = String(2 ** 26)

/** Says why nothing can be recorded here; undefined where it can. */
export function whyNoRecording(): string | undefined {
  try {
    execFileSync('strace', ['-f', '--seccomp-bpf', '-o', '/dev/null', 'true'], { stdio: 'pipe' })
    return undefined
  } catch (error) {
    const reason = (error as Error).message.split('\n', 2).join(': ')
    return `needs strace, and leave to trace (${reason})`
  }
}

/**
 * Runs a command to its end, which must be good, and returns what it did to the files below `root`,
 * in the order in which the calls ended. `scratch` takes the record for a moment.
 */
export async function record(
  [program = '', ...args]: string[],
  { env, root, scratch }: { env: NodeJS.ProcessEnv; root: string; scratch: string },
): Promise<Operation[]> {
  const file = join(scratch, 'strace')
  // What libuv may do through a ring in memory is no call that could be seen.
  const own = ['-E', 'UV_USE_IO_URING=0', '-E', `PATH=${env.PATH}`]
  const flags = ['-f', '--seccomp-bpf', '-y', '-xx', '-s', LONGEST, '-o', file, ...own]
  const child = spawn('strace', [...flags, '-e', `trace=${CALLS}`, program, ...args], {
    env: { ...env, PATH: process.env.PATH },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} under strace: ${code}: ${stderr}`)
  return parse(readFileSync(file, 'latin1'), root)
}

/** Returns the operations below `root` that strace's output (with -f -y -xx) tells of. */
export function parse(text: string, root: string): Operation[] {
  const reader = new CallReader(root)
  const begun = new Map<string, { head: string; start: number }>()
  for (const [at, line] of text.split('\n').entries()) {
    const [, thread = '', rest = ''] = /^(\d+) +(.*)$/.exec(line) ?? []
    const unfinished = /^(.*) <unfinished \.\.\.>$/.exec(rest)
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest)
    if (unfinished !== null) {
      begun.set(thread, { head: unfinished[1]!, start: at })
    } else if (resumed !== null) {
      const { head, start } = begun.get(thread)!
      reader.read(head + resumed[1]!, { start, end: at })
    } else {
      reader.read(rest, { start: at, end: at })
    }
  }
  return reader.operations
}

/** An open file: where the next write without an offset goes. */
interface OpenFile {
  position: number | 'end'
  lasting: boolean
}

/** Makes operations of calls, in the order in which they ended. */
class CallReader {
  readonly operations: Operation[] = []
  readonly #root: string
  /** By descriptor and path: a child's descriptors are others. */
  readonly #files = new Map<string, OpenFile>()

  constructor(root: string) {
    this.#root = root
  }

  read(text: string, span: Span): void {
    const [, name = '', args = '', result = ''] = /^(\w+)\((.*)\) += (-?\d+)/.exec(text) ?? []
    // The other ring that libuv has is of epoll's calls only.
    if (args.includes('IORING_SETUP_SQPOLL')) throw new Error('files may be written without a call')
    // What failed has changed nothing.
    if (name === '' || result.startsWith('-')) return
    if (/"\.\.\./.test(args)) throw new Error(`strace has shortened a ${name}`)
    const call = { name, args, result: Number(result), strings: stringsIn(args) }
    this.#readCall(call, span)
  }

  #readCall({ name, args, result, strings }: Call, span: Span): void {
    const [first = '', second = ''] = strings
    const file = descriptorIn(args)
    switch (name) {
      case 'open':
      case 'openat':
        if (this.#isInside(first)) this.#open(first, args, result, span)
        return
      case 'mkdir':
      case 'mkdirat':
        if (this.#isInside(first)) this.operations.push({ kind: 'mkdir', path: first, ...span })
        return
      case 'unlink':
      case 'unlinkat':
      case 'rmdir':
        if (this.#isInside(first)) this.operations.push({ kind: 'remove', path: first, ...span })
        return
      case 'rename':
      case 'renameat':
      case 'renameat2':
        if (!this.#isInside(first) && !this.#isInside(second)) return
        this.operations.push({ kind: 'rename', from: first, to: second, ...span })
        return
      case 'sync':
        this.operations.push({ kind: 'sync', path: '/', of: 'all', ...span })
        return
    }
    const path = file?.path ?? strings.find((text) => this.#isInside(text))
    if (path === undefined || !this.#isInside(path)) return
    if (file === undefined) throw new Error(`a recording cannot hold a ${name} of ${path}`)
    const numbers = numbersIn(args)
    switch (name) {
      case 'lseek':
        this.#file(file).position = result
        return
      case 'write':
      case 'writev':
      case 'pwrite64':
      case 'pwritev': {
        const data = Buffer.concat(strings.map((text) => Buffer.from(text, 'latin1')))
        const isPlaced = name.startsWith('p')
        this.#write(file, data.subarray(0, result), isPlaced ? numbers.at(-1)! : undefined, span)
        return
      }
      case 'ftruncate':
        this.operations.push({ kind: 'truncate', path, size: numbers.at(-1)!, ...span })
        return
      case 'fsync':
      case 'fdatasync':
        this.operations.push({ kind: 'sync', path, of: 'one', ...span })
        return
      case 'syncfs':
        this.operations.push({ kind: 'sync', path, of: 'all', ...span })
        return
      case 'mmap':
        // The catalog's table of readers is made anew by whoever comes first after a boot.
        if (!/PROT_WRITE.*MAP_SHARED/.test(args) || path.endsWith('/lock.mdb')) return
    }
    throw new Error(`a recording cannot hold a ${name} of ${path}`)
  }

  #open(path: string, args: string, descriptor: number, span: Span): void {
    const flags = new Set(/O_\w+(?:\|O_\w+)*/.exec(args)?.[0].split('|'))
    this.#files.set(`${descriptor} ${path}`, {
      position: flags.has('O_APPEND') ? 'end' : 0,
      lasting: flags.has('O_DSYNC') || flags.has('O_SYNC'),
    })
    const [create, truncate] = [flags.has('O_CREAT'), flags.has('O_TRUNC')]
    if (create || truncate) this.operations.push({ kind: 'open', path, create, truncate, ...span })
  }

  #write(file: Descriptor, data: Buffer, placed: number | undefined, span: Span): void {
    const open = this.#file(file)
    const offset = placed ?? open.position
    const { path } = file
    this.operations.push({ kind: 'write', path, offset, data, lasting: open.lasting, ...span })
    if (placed === undefined && open.position !== 'end') open.position += data.length
  }

  #file({ path, number }: Descriptor): OpenFile {
    const file = this.#files.get(`${number} ${path}`)
    if (file === undefined) throw new Error(`${path} was written, and nobody has opened it`)
    return file
  }

  #isInside(path: string): boolean {
    return path === this.#root || path.startsWith(`${this.#root}/`)
  }
}

interface Call {
  name: string
  args: string
  result: number
  /** Decoded, a character a byte. */
  strings: string[]
}

interface Descriptor {
  number: number
  path: string
}

function stringsIn(args: string): string[] {
  return Array.from(args.matchAll(/"([^"]*)"/g), ([, hex]) => decode(hex!))
}

/** The first argument, where it is a file that has not been deleted yet. */
function descriptorIn(args: string): Descriptor | undefined {
  const [, number, path] = /^(\d+)<([^>]+)>(?!\()/.exec(args) ?? mapped(args) ?? []
  if (path === undefined) return undefined
  return { number: Number(number), path: decode(path) }
}

/** The file of mmap(address, length, protection, flags, FILE, offset). */
function mapped(args: string): RegExpExecArray | null {
  return /^(?:NULL|0x[0-9a-f]+), .*MAP_SHARED.*?, (\d+)<([^>]+)>/.exec(args)
}

function numbersIn(args: string): number[] {
  return Array.from(args.matchAll(/, (\d+)(?=,|$)/g), ([, digits]) => Number(digits))
}

function decode(hex: string): string {
  return Buffer.from(hex.replaceAll('\\x', ''), 'hex').toString('latin1')
}
