/** Requests that Node's parser refuses: broken ones, and the TOUCH method that it does not know. */
import type { Socket } from 'node:net'
import { withoutToken } from '../keep/token.ts'
import { CORS_HEADERS, isWrite } from './app.ts'
import { parseTarget, requestId } from './request.ts'
import { shortened } from './request-log.ts'
import type { Service } from './service.ts'

/** What Node gives with a `clientError`. */
export interface ParserError extends Error {
  code?: string
  rawPacket?: Buffer
}

/**
 * Answers on the bare socket: 405 to a TOUCH, or another write, where nothing is written; else 400 (431 for
 * too long headers, 408 if late).
 */
export function answerUnparsed(
  { log, counters, writes }: Service,
  error: ParserError,
  socket: Socket,
) {
  const head = error.rawPacket?.toString('latin1') ?? ''
  const [, method = '', target = ''] = /^([A-Z]+) (\S+) HTTP\/1\.[01]\r?\n/.exec(head) ?? []
  const { rawPath, path, query } = parseTarget(target)
  const id = requestId(/^x-request-id: *(.*?)\r?$/im.exec(head)?.[1] ?? '')
  const { status, text } =
    writes === undefined && isWrite(method, path ?? '')
      ? { status: 405, text: 'Method Not Allowed' }
      : refusalOf(error)
  counters.requests += 1
  counters.answered(status)
  counters.errors.refused += 1
  const request = { RequestID: id, reqMethod: method.slice(0, 32), reqPath: shortened(rawPath) }
  const reqQuery = shortened(withoutToken(query))
  log.info({ ...request, reqQuery, respStatusCode: status }, 'response')
  socket.write(rawAnswer(status, text, { ...CORS_HEADERS, 'X-Request-Id': id }))
  socket.destroySoon()
}

function refusalOf({ code }: ParserError): { status: number; text: string } {
  if (code === 'HPE_HEADER_OVERFLOW') {
    return { status: 431, text: 'Request Header Fields Too Large' }
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return { status: 408, text: 'Request Timeout' }
  return { status: 400, text: 'Bad Request' }
}

function rawAnswer(status: number, text: string, headers: Record<string, string>): string {
  const all = {
    ...headers,
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': String(text.length + 1),
    Connection: 'close',
  }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return `HTTP/1.1 ${status} ${text}\r\n${lines.join('')}\r\n${text}\n`
}
