/** Memory of a bounded number of buffers: each is made when it is first needed, and kept for reuse. */
export class BufferPool {
  readonly #bytes: number
  readonly #free: Buffer[] = []
  #left: number

  /** Of at most `count` buffers of so many bytes. */
  constructor(count: number, bytes: number) {
    this.#left = count
    this.#bytes = bytes
  }

  /** True where all are in use. */
  get isEmpty(): boolean {
    return this.#left === 0
  }

  /** Returns a buffer, or undefined where all are in use. */
  take(): Buffer | undefined {
    if (this.isEmpty) return undefined
    this.#left -= 1
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#bytes)
  }

  /** Takes a buffer back that nobody looks at, or writes to, any more. */
  give(buffer: Buffer): void {
    this.#free.push(buffer)
    this.#left += 1
  }
}
