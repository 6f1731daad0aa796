/**
 * What no process of keepgw may print. Every test that starts one watches it: whatever it says, in
 * whatever way, must hold none of the secrets that it was given, and nothing that moves a cursor.
 */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'

/** Variables whose values are secrets. */
const VARIABLES = [
  'AWS_SECRET_ACCESS_KEY',
  'AWS_SESSION_TOKEN',
  'KEEPGW_SYSTEM_ROOT_TOKEN',
  'KEEPGW_MANAGEMENT_TOKEN',
  'KEEPGW_BLOB_SIGNING_KEY',
  'ARVADOS_API_TOKEN',
]
/** What is shorter may be a part of any word. */
const SHORTEST = 8
/** In files: beside what a process was started with. */
const others = new Set<string>()

/** Makes known what is a secret of files or requests. Returns it. */
export function secret(text: string): string {
  others.add(text)
  return text
}

/** Returns the secrets among the variables that a process is started with. */
export function secretsOf(env: NodeJS.ProcessEnv): string[] {
  return VARIABLES.flatMap((name) => env[name] ?? [])
}

/** Throws where a text holds one of the secrets, also in another form. */
export function assertKeepsSecrets(text: string, secrets: Iterable<string>, who: string): void {
  for (const each of new Set([...secrets, ...others])) {
    for (const form of formsOf(each)) {
      const at = text.indexOf(form)
      if (at < 0) continue
      const around = text.slice(Math.max(0, at - 200), at).replace(form, '…')
      assert.fail(`${who} shows a secret (as ${form.slice(0, 2)}…) behind: ${around}`)
    }
  }
}

/** Watches a process to its end: what it has printed by then makes the test file fail, unless `tell` takes it. */
export function watch<T extends ChildProcess>(
  child: T,
  env: NodeJS.ProcessEnv,
  tell: (error: unknown) => void = fail,
): T {
  const printed = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.on('data', (chunk: Buffer | string) => {
      printed[name] += chunk.toString()
    })
  }
  child.once('close', () => {
    const who = child.spawnargs.slice(1, 4).join(' ')
    try {
      assertKeepsSecrets(printed.stdout + printed.stderr, secretsOf(env), who)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
      assert.doesNotMatch(printed.stderr, /[\0-\x08\x0b-\x1f\x7f-\x9f]/, `${who} prints raw bytes`)
    } catch (error) {
      tell(error)
    }
  })
  return child
}

/** Nobody waits for it: what is thrown to nobody fails the test that runs. */
function fail(error: unknown): never {
  throw error
}

/** The third part of a v2 token is what is secret of it. */
function formsOf(text: string): Set<string> {
  const plain = text.startsWith('v2/') ? text.slice(text.lastIndexOf('/') + 1) : text
  if (plain.length < SHORTEST) return new Set()
  const bytes = Buffer.from(plain)
  const forms = [plain, encodeURIComponent(plain), bytes.toString('hex')]
  for (const before of [0, 1, 2]) {
    // Behind so many bytes of something else, without the characters that these have a part in.
    const shifted = Buffer.concat([Buffer.alloc(before), bytes])
    const whole = shifted.subarray(0, shifted.length - (shifted.length % 3))
    for (const encoding of ['base64', 'base64url'] as const) {
      forms.push(whole.toString(encoding).slice(before === 0 ? 0 : before + 1))
    }
  }
  return new Set(forms)
}
