/** A part of a cluster's configuration, read setting by setting. */
import { UsageError } from '../errors.ts'
import { parseDuration } from './duration.ts'

/**
 * One mapping of a YAML file. Each method returns a setting, or undefined where it is not there or
 * empty, and throws UsageError with the file and the setting's whole name where it is not of its
 * kind. Messages hold no value of a text: it may be a secret.
 */
export class Section {
  readonly #file: string
  readonly #path: string
  readonly #values: ReadonlyMap<string, unknown>

  /** `path` is the section's name, with dots; '' for the whole file. */
  constructor(file: string, path: string, value: unknown) {
    this.#file = file
    this.#path = path
    if (value === undefined || value === null) this.#values = new Map()
    else if (isMapping(value)) this.#values = new Map(Object.entries(value))
    else throw this.#error(path, 'is no mapping of settings')
  }

  /** The names in it. */
  get names(): string[] {
    return [...this.#values.keys()]
  }

  /** Returns a section below; an empty one where it is not there. */
  section(name: string): Section {
    return new Section(this.#file, this.#nameOf(name), this.#get(name))
  }

  text(name: string): string | undefined {
    const value = this.#get(name)
    if (value === undefined || value === null || value === '') return undefined
    if (typeof value === 'string') return value
    throw this.bad(name, 'is no text: put it in quotes')
  }

  boolean(name: string): boolean | undefined {
    const value = this.#get(name)
    if (value === undefined || value === null) return undefined
    if (typeof value === 'boolean') return value
    throw this.bad(name, 'is neither true nor false')
  }

  /** A whole number, 0 or more. */
  count(name: string): number | undefined {
    const value = this.#get(name)
    if (value === undefined || value === null) return undefined
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
    throw this.bad(name, 'is no whole number of 0 or more')
  }

  /** Seconds. */
  duration(name: string): number | undefined {
    // Arvados takes this one without a unit, and without quotes.
    if (this.#get(name) === 0) return 0
    const text = this.text(name)
    if (text === undefined) return undefined
    const seconds = parseDuration(text)
    if (seconds !== undefined) return seconds
    throw this.bad(name, 'is no duration such as 336h or 1h30m')
  }

  /** One of the values that it may have. */
  choice<T extends string>(name: string, values: Record<string, T>): T | undefined {
    const text = this.text(name)
    if (text === undefined) return undefined
    const value = Object.hasOwn(values, text) ? values[text] : undefined
    if (value !== undefined) return value
    throw this.bad(name, `is none of ${Object.keys(values).join(', ')}`)
  }

  /** Throws UsageError for a name that is not among these. */
  allowOnly(names: readonly string[]): void {
    const unknown = this.names.find((name) => !names.includes(name))
    if (unknown !== undefined) throw this.bad(unknown, 'is an unknown setting')
  }

  /** Returns the error for a setting that cannot be taken. */
  bad(name: string, why: string, hint?: string): UsageError {
    return this.#error(this.#nameOf(name), why, hint)
  }

  /** A name in other letters is a slip, and to pass over it could turn signing off. */
  #get(name: string): unknown {
    if (this.#values.has(name)) return this.#values.get(name)
    const slip = this.names.find((each) => each.toLowerCase() === name.toLowerCase())
    if (slip === undefined) return undefined
    throw this.bad(slip, 'is an unknown setting', `It is written ${name}`)
  }

  #nameOf(name: string): string {
    return this.#path === '' ? name : `${this.#path}.${name}`
  }

  #error(path: string, why: string, hint?: string): UsageError {
    const options = hint === undefined ? {} : { hint }
    return new UsageError(`${this.#file}: ${path || 'the file'} ${why}`, options)
  }
}

function isMapping(value: unknown): value is Record<string, unknown> {
  // YAML also knows dates, sets and bytes.
  return typeof value === 'object' && Object.getPrototypeOf(value ?? []) === Object.prototype
}
