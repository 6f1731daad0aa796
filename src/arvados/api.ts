/** Requests to the Arvados API server. */
import { type IncomingMessage, STATUS_CODES } from 'node:http'
import { type RequestOptions, request } from 'node:https'
import { ExitCode, KeepgwError, messageOf } from '../errors.ts'
import type { ArvadosSettings } from './settings.ts'

/** One request, and what to tell the user if it breaks off. */
export interface ApiRequest {
  method: 'GET' | 'POST'
  /** Below the host, with its slash. */
  path: string
  /** JSON, in pieces. */
  body?: readonly Buffer[]
  /** What to do where no answer came, or one that leaves it open whether the request was done. */
  unsure?: string
}

/** What the server answered. */
export interface ApiAnswer {
  status: number
  /** The members of its JSON object; none for any other text. */
  json: Record<string, unknown>
}

/** The server reads all of a large request before it answers. */
const TIMEOUT_MS = 300_000
/** Bytes of an answer. */
const MAX_ANSWER = 1024 * 1024

/**
 * Sends a request once, never again: a second one could be done twice. Throws KeepgwError where no
 * answer comes, and the signal's reason. What it says holds no token.
 */
export async function askApi(
  { method, path, body, unsure }: ApiRequest,
  { host, token, insecure }: ArvadosSettings,
  signal: AbortSignal,
): Promise<ApiAnswer> {
  const length = body?.reduce((sum, piece) => sum + piece.length, 0)
  const entity = { 'Content-Type': 'application/json', 'Content-Length': length }
  const options: RequestOptions = {
    method,
    rejectUnauthorized: !insecure,
    headers: { Authorization: `Bearer ${token}`, ...(body === undefined ? {} : entity) },
    timeout: TIMEOUT_MS,
    signal,
  }
  let isConnected = false
  try {
    return await new Promise((resolve, reject) => {
      const sent = request(`https://${host}${path}`, options, (response) => {
        readAnswer(response).then(resolve, reject)
      })
      sent.on('socket', (socket) => {
        isConnected = sent.reusedSocket
        socket.once('secureConnect', () => {
          isConnected = true
        })
      })
      sent.on('error', reject)
      sent.on('timeout', () => sent.destroy(new Error(`no answer in ${TIMEOUT_MS / 1000} s`)))
      for (const piece of body ?? []) sent.write(piece)
      sent.end()
    })
  } catch (error) {
    // Before that nothing of the request was sent.
    const hint = isConnected ? unsure : connectionHint(error)
    if (signal.aborted && isConnected && unsure !== undefined) {
      throw new KeepgwError('interrupted', { hint: unsure, exitCode: ExitCode.interrupted })
    }
    signal.throwIfAborted()
    throw new KeepgwError(`the API server ${host} cannot be reached: ${messageOf(error)}`, {
      cause: error,
      ...(hint === undefined ? {} : { hint }),
    })
  }
}

function connectionHint(error: unknown): string {
  const { code = '' } = error as { code?: string }
  return /CERT|SIGN|ISSUER|ERR_TLS/.test(code)
    ? 'Name the authority’s certificate in NODE_EXTRA_CA_CERTS, or set ARVADOS_API_HOST_INSECURE=1'
    : 'Check ARVADOS_API_HOST, and that the server runs'
}

/** Returns what the server says in an answer that is no success, without the token. */
export function reasonOf({ status, json }: ApiAnswer, { token }: ArvadosSettings): string {
  const { errors } = json
  const said = Array.isArray(errors) ? errors.join('; ') : (STATUS_CODES[status] ?? '')
  return messageOf(said.replaceAll(token, '…')).slice(0, 1000)
}

/**
 * Returns the error for an answer that is no success. `hints` says what to do about a status; more is
 * known here of 401, and of the server's own failures.
 */
export function refusal(
  answer: ApiAnswer,
  settings: ArvadosSettings,
  hints: Readonly<Record<number, string>>,
  unsure?: string,
): KeepgwError {
  const { status } = answer
  const message = `the API server ${settings.host} answers ${status}: ${reasonOf(answer, settings)}`
  const known = status === 401 ? 'Check ARVADOS_API_TOKEN' : status >= 500 ? unsure : undefined
  const hint = hints[status] ?? known
  return new KeepgwError(message, hint === undefined ? {} : { hint })
}

/** Returns the error for an answer that no API server would give. */
export function notAnApi({ host }: ArvadosSettings): KeepgwError {
  return new KeepgwError(`what answers at ${host} is no Arvados API server`, {
    hint: 'Check ARVADOS_API_HOST',
  })
}

async function readAnswer(response: IncomingMessage): Promise<ApiAnswer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response) {
    length += chunk.length
    if (length <= MAX_ANSWER) chunks.push(chunk)
  }
  return { status: response.statusCode ?? 0, json: parsed(Buffer.concat(chunks).toString()) }
}

function parsed(text: string): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(text)
    return typeof json === 'object' && json !== null ? (json as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}
