/** The WebAssembly module made of wasm/, and its memory. */
import { readFileSync } from 'node:fs'
import { KeepgwError } from '../errors.ts'

/** What is used of WebAssembly's interface, of which neither Node's types nor the language's tell. */
declare const WebAssembly: {
  validate(bytes: Uint8Array): boolean
  Module: new (bytes: Uint8Array) => object
  Instance: new (module: object) => { exports: unknown }
}

/** What src/hash/wasm/md5.ts exports. Addresses are in bytes. */
export interface KernelExports {
  memory: { buffer: ArrayBuffer; grow(pages: number): number }
  /** Returns the address of the lanes' pairs of addresses: of a state, and of its next bytes. */
  lanes(): number
  /** Returns the address from which on the memory is free. */
  heap(): number
  md5x8(blocks: number): void
  md5x4(blocks: number): void
  md5x1(state: number, data: number, blocks: number): void
}

/** Streams that the kernel takes a step further at once. */
export const LANES = 8

/** Bytes of one step of MD5. */
export const BLOCK_BYTES = 64

/** Two streams in four lanes take less time than one after the other (bench/lanes.ts). */
const SIMD_FROM = 2

/** Up to so many streams take less time in four lanes than in eight. */
const HALF = 4

const PAGE_BYTES = 65_536
const STATE_BYTES = 16

/** RFC 1321, section 3.3. */
const INITIAL_STATE = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476]

/** One stream's part of a run: addresses of its state and of its next bytes. */
export interface Lane {
  state: number
  data: number
}

/** MD5's compression, and the memory that it works in. For one thread. */
export class Kernel {
  readonly #exports: KernelExports
  /** Where md5x8 and md5x4 find their lanes, counted in words. */
  readonly #lanes: number
  /** A state for the lanes that have no stream. */
  readonly #idle: number
  /** The end of what was allocated. */
  #end: number
  #bytes!: Uint8Array
  #words!: Uint32Array

  /** `wasm` is the compiled module. Throws RangeError where there is no address space for it. */
  constructor(wasm: Uint8Array) {
    this.#exports = instantiate(wasm)
    this.#lanes = this.#exports.lanes() / 4
    this.#end = this.#exports.heap()
    this.#look()
    this.#idle = this.allocate(STATE_BYTES)
  }

  /** The memory; another object after each `allocate`. */
  get bytes(): Uint8Array {
    return this.#bytes
  }

  /** Returns the address of `size` bytes, for good. Throws RangeError where memory has run out. */
  allocate(size: number): number {
    const address = this.#end
    // Up to a line of the cache, not to a page: what lies alike in pages competes for lines.
    const end = Math.ceil((address + size) / BLOCK_BYTES) * BLOCK_BYTES
    const lacking = end - this.#bytes.length
    if (lacking > 0) {
      this.#exports.memory.grow(Math.ceil(lacking / PAGE_BYTES))
      this.#look()
    }
    this.#end = end
    return address
  }

  /** Makes the state at an address that of a stream without bytes. */
  reset(state: number): void {
    this.#words.set(INITIAL_STATE, state / 4)
  }

  /** Returns a copy of the state at an address: of a finished stream, its MD5. */
  read(state: number): Buffer {
    return Buffer.from(this.#bytes.subarray(state, state + STATE_BYTES))
  }

  /** Takes the next `blocks` times 64 bytes of at most eight streams into their states. */
  run(lanes: readonly Lane[], blocks: number): void {
    if (lanes.length < SIMD_FROM) {
      for (const { state, data } of lanes) this.#exports.md5x1(state, data, blocks)
      return
    }
    const used = lanes.length > HALF ? LANES : HALF
    let word = this.#lanes
    for (let i = 0; i < used; i++) {
      const lane = lanes[i]
      this.#words[word++] = lane?.state ?? this.#idle
      this.#words[word++] = lane?.data ?? lanes[0]!.data
    }
    if (used === HALF) this.#exports.md5x4(blocks)
    else this.#exports.md5x8(blocks)
  }

  #look(): void {
    this.#bytes = new Uint8Array(this.#exports.memory.buffer)
    this.#words = new Uint32Array(this.#exports.memory.buffer)
  }
}

/**
 * Returns a kernel, or undefined where this machine has no SIMD for it, or no address space. Throws
 * KeepgwError where the module was not built.
 */
export function loadKernel(): Kernel | undefined {
  const wasm = readModule()
  if (!WebAssembly.validate(wasm)) return undefined
  try {
    return new Kernel(wasm)
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** Returns the exports of a compiled module. Throws RangeError where there is no address space. */
export function instantiate(wasm: Uint8Array): KernelExports {
  return new WebAssembly.Instance(new WebAssembly.Module(wasm)).exports as KernelExports
}

/** Returns the compiled module of the kernel. Throws KeepgwError where it was not built. */
export function readModule(): Buffer {
  // The package has it beside this file; the source is run with the one that was built for that.
  const path = import.meta.url.endsWith('.ts') ? '../../dist/src/hash/md5.wasm' : './md5.wasm'
  const file = new URL(path, import.meta.url)
  try {
    return readFileSync(file)
  } catch (cause) {
    throw new KeepgwError(`${file.pathname} is missing: npm run build makes it`, { cause })
  }
}
