/**
 * Finite automata: they tell whether a text matches a pattern in one pass, whatever the two are. The
 * states of the deterministic one are made as they are met, and forgotten when they are many. Pure.
 */

/** What a text is to be made of, part by part. A character is a Unicode code point. */
export type Pattern = Part[]

/** What a stretch of the text is to be made of. */
export type Part =
  /** One such character. */
  | { one: Test }
  /** Any number of such characters. */
  | { many: Test }
  /** One of these. */
  | { either: Pattern[] }

type Test = (character: string) => boolean

/** A node of the pattern: whoever is there goes on to all of `to`, at the price of a character if there is a test. */
interface Node {
  test?: Test
  to: Node[]
}

/** All nodes with a test that a text so far can have led to. */
interface State {
  nodes: Node[]
  isFinal: boolean
  next: Map<string, State>
}

/** Steps that are remembered: a few hundred kilobytes. */
const MAX_STEPS = 4096

/** A pattern that texts are held against, one after the other. Bounded in memory, whatever they are. */
export class Automaton {
  readonly #end: Node = { to: [] }
  readonly #first: Node
  /** Numbers that name sets of nodes. */
  readonly #numbers = new Map<Node, number>()
  readonly #states = new Map<string, State>()
  #steps = 0

  constructor(pattern: Pattern) {
    this.#first = build(pattern, this.#end)
  }

  /** Returns whether the whole text matches, in a time proportional to its length. */
  matches(text: string): boolean {
    let state = this.#stateOf([this.#first])
    for (const character of text) {
      state = state.next.get(character) ?? this.#step(state, character)
      if (state.nodes.length === 0 && !state.isFinal) return false
    }
    return state.isFinal
  }

  #step(state: State, character: string): State {
    const passed = state.nodes.filter(({ test }) => test!(character))
    if (this.#steps === MAX_STEPS) {
      this.#states.clear()
      this.#steps = 0
    }
    const next = this.#stateOf(passed.flatMap(({ to }) => to))
    state.next.set(character, next)
    this.#steps += 1
    return next
  }

  #stateOf(from: Node[]): State {
    const reached = new Set<Node>()
    const waiting = [...from]
    for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
      if (reached.has(node)) continue
      reached.add(node)
      if (node.test === undefined) waiting.push(...node.to)
    }
    const nodes = [...reached].filter(({ test }) => test !== undefined)
    const isFinal = reached.has(this.#end)
    const numbers = nodes.map((node) => this.#numberOf(node)).sort((a, b) => a - b)
    const name = `${numbers} ${isFinal}`
    let state = this.#states.get(name)
    if (state === undefined) {
      state = { nodes, isFinal, next: new Map() }
      this.#states.set(name, state)
    }
    return state
  }

  #numberOf(node: Node): number {
    const number = this.#numbers.get(node) ?? this.#numbers.size
    this.#numbers.set(node, number)
    return number
  }
}

/** Returns the node that stands before the pattern, where `end` stands behind it. */
function build(pattern: Pattern, end: Node): Node {
  return pattern.reduceRight((behind, part) => {
    if ('one' in part) return { test: part.one, to: [behind] }
    if ('either' in part) return { to: part.either.map((each) => build(each, behind)) }
    const loop: Node = { to: [behind] }
    loop.to.push({ test: part.many, to: [loop] })
    return loop
  }, end)
}
