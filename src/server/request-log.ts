/** The log: a line when a request comes and one when it is over, as Arvados services write them. */
import type { ServerResponse } from 'node:http'
import type { Writable } from 'node:stream'
import type { Middleware } from 'koa'
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino'
import { messageOf } from '../errors.ts'
import { tokenName, withoutToken } from '../keep/token.ts'
import type { Hedge } from '../volume/race.ts'
import type { Failover } from '../volume/source-walk.ts'
import { beginRequest, type Context, type RequestState } from './request.ts'
import type { Service } from './service.ts'

/** What is logged, and in which form. */
export interface LogOptions {
  /** What is less grave is not logged; `info` unless told. */
  level?: LogLevel
  /** `text` is for people: `time level message name=value…`; `json` unless told. */
  format?: LogFormat
  /** Each line has this process's pid: for several that write to one stream. */
  withPid?: boolean
}

/** Lines that wait for the one who reads them, some 400 bytes each; others are lost, rather than all memory. */
const MOST_WAITING = 4096
/** Characters of each text that a client sent. */
const MOST_LOGGED = 400

/** How grave a line is, the least first. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
/** What a line looks like. */
export type LogFormat = 'json' | 'text'

/**
 * Returns a log of JSON lines, to stderr unless told otherwise. pino's own destination would wait for
 * ever for a disk that is full; the process's stream loses the line, and the service goes on.
 */
export function createLog(
  stream: Writable = process.stderr,
  { level = 'info', format = 'json', withPid = false }: LogOptions = {},
): Logger {
  const options = {
    level,
    base: withPid ? { pid: process.pid } : null,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  }
  const printed = printableTo(lineByLine(stream, format))
  return pino(options, format === 'json' ? printed : asText(printed))
}

/** Middleware: gives each request its state, and logs and counts it. */
export function logRequests({ log, counters, metrics }: Service): Middleware<RequestState> {
  return async (ctx, next) => {
    const start = performance.now()
    let status: number | undefined
    ctx.state = beginRequest(ctx, () => {
      const end = performance.now()
      const answer = answerFields(ctx)
      const times = timeFields(start, status ?? end, end)
      counters.running -= 1
      counters.answered(answer.respStatusCode)
      counters.bytes += answer.respBytes
      metrics.observe(ctx.method, answer.respStatusCode, times)
      log.info({ ...fields, ...answer, ...times }, 'response')
    })
    onStatus(ctx.res, () => {
      status ??= performance.now()
    })
    const fields = requestFields(ctx)
    counters.requests += 1
    counters.running += 1
    ctx.set('X-Request-Id', ctx.state.id)
    log.info(fields, 'request')
    await next()
  }
}

/** Logs that a place of a block failed; wrong data is an error, because somebody must look at it. */
export function logFailover(log: Logger, id: string, hash: string, event: Failover): void {
  const { message, ...rest } = event
  const fields = { RequestID: id, hash, ...rest, reason: message }
  if (event.cause === 'corrupt') log.error(fields, 'stored data does not match its checksum')
  else log.warn(fields, event.resumed ? 'reading on at the same place' : 'failover')
}

/** Logs that a place was asked beside one that was slow. It is everyday business. */
export function logHedge(log: Logger, id: string, hash: string, hedge: Hedge): void {
  log.debug({ RequestID: id, hash, ...hedge }, 'asked another place, too')
}

function requestFields(ctx: Context): Record<string, unknown> {
  const { id, rawPath, query, token } = ctx.state
  return {
    RequestID: id,
    remoteAddr: `${ctx.req.socket.remoteAddress}:${ctx.req.socket.remotePort}`,
    reqMethod: ctx.method,
    reqHost: shortened(ctx.get('Host')),
    reqPath: shortened(rawPath),
    reqQuery: shortened(withoutToken(query)),
    reqBytes: Number(ctx.get('Content-Length')) || 0,
    ...(token === undefined ? {} : { tokenUUIDs: [tokenName(token)] }),
  }
}

/**
 * Returns what a line of the log has of a text that a client sent. Several processes write to one pipe, which
 * keeps lines apart up to 4096 bytes (PIPE_BUF); some characters take two in JSON.
 */
export function shortened(text: string): string {
  return text.length <= MOST_LOGGED ? text : `${text.slice(0, MOST_LOGGED)}…`
}

/** A status of 0 says that the client went away without any answer. */
function answerFields(ctx: Context) {
  const { bodyBytes, error } = ctx.state
  const isPlain = ctx.respond !== false && ctx.method !== 'HEAD' && ctx.res.headersSent
  return {
    respStatusCode: ctx.res.headersSent ? ctx.res.statusCode : 0,
    respBytes: isPlain ? (ctx.length ?? 0) : bodyBytes,
    ...(error === undefined ? {} : { respError: messageOf(error) }),
  }
}

function timeFields(start: number, status: number, end: number) {
  return {
    timeTotal: (end - start) / 1000,
    timeToStatus: (status - start) / 1000,
    timeWriteBody: (end - status) / 1000,
  }
}

/**
 * Returns what writes each line by itself, also when the one who reads them is slow: a stream writes all that
 * it has gathered at once, and of that much a pipe takes a part, with another process's lines behind it.
 */
function lineByLine(stream: Writable, format: LogFormat): DestinationStream {
  const waiting: string[] = []
  let lost = 0
  const isFree = (): boolean => stream.writableLength === 0
  const next = (): void => {
    if (!isFree()) return
    if (waiting.length > 0) stream.write(waiting.shift()!, next)
    else if (lost > 0) {
      const line = { level: 'warn', time: new Date().toISOString(), msg: `${lost} lines are lost` }
      lost = 0
      stream.write(`${format === 'json' ? JSON.stringify(line) : textOf(line)}\n`, next)
    }
  }
  return {
    write(line) {
      if (waiting.length === 0 && lost === 0 && isFree()) stream.write(line, next)
      else if (waiting.length < MOST_WAITING && lost === 0) waiting.push(line)
      else lost += 1
    },
  }
}

/**
 * JSON leaves DEL and the second set of control characters as they are, with which a terminal does as
 * it does with ESC. All of a line that may hold them is in strings.
 */
function printableTo(stream: DestinationStream): DestinationStream {
  return {
    write(line) {
      stream.write(line.replace(/[\x7f-\x9f]/g, escaped))
    },
  }
}

function escaped(character: string): string {
  return `\\u00${character.charCodeAt(0).toString(16)}`
}

/** Each line is JSON at first; its strings stay JSON, so that a line feed cannot make two of it. */
function asText(stream: DestinationStream): DestinationStream {
  return {
    write(line) {
      stream.write(`${textOf(JSON.parse(line))}\n`)
    },
  }
}

function textOf({ time, level, msg, ...fields }: Record<string, unknown>): string {
  const pairs = Object.entries(fields).map(([name, value]) => `${name}=${JSON.stringify(value)}`)
  return [time, level, JSON.stringify(msg), ...pairs].join(' ')
}

/** Node has no event for the moment an answer's status goes out: it is where writeHead is called. */
function onStatus(res: ServerResponse, call: () => void): void {
  const writeHead = res.writeHead
  res.writeHead = function (this: ServerResponse, ...args: unknown[]) {
    call()
    return Reflect.apply(writeHead, this, args)
  } as typeof writeHead
}
