/** One at a time at a disk, where its administrator wants that. */
import { Slots } from '../../slots.ts'

/** Runs pieces of work one after the other, in the order they come. */
export class Mutex {
  readonly #slots = new Slots(1)

  /** Returns what the work returns, and throws what it throws. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    await this.#slots.take()
    try {
      return await work()
    } finally {
      this.#slots.free()
    }
  }
}

/** Lets everything through at once. */
export const noMutex: Pick<Mutex, 'run'> = { run: (work) => work() }

/** A mutex for each name, for as long as somebody holds or wants it. */
export class NamedMutexes {
  readonly #held = new Map<string, { mutex: Mutex; users: number }>()

  /** Runs the work alone among all of this name. */
  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const entry = this.#held.get(name) ?? { mutex: new Mutex(), users: 0 }
    this.#held.set(name, entry)
    entry.users += 1
    try {
      return await entry.mutex.run(work)
    } finally {
      entry.users -= 1
      if (entry.users === 0) this.#held.delete(name)
    }
  }
}
