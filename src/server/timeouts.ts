/** How long a server waits for its clients: none of them holds memory, or a place in the limits, for ever. */

/** Milliseconds. */
export interface ClientTimeouts {
  /** In which a connection's TLS is agreed on, or the head of a request comes. */
  head: number
  /** In which a request comes whole, its body included. */
  request: number
  /** In which a client takes a block. */
  answer: number
  /** Without any byte of a body that is to come, or any taken of an answer that is there. */
  silence: number
  /** From one request of a connection to the next. */
  idle: number
}

/**
 * A block in an hour is 19 kB/s, at which Arvados' clients have given up long ago (the Python SDK below
 * 32 kB/s). Connections are kept for longer than Go's clients keep theirs (90 s): so it is they who close
 * them, and none sends a request just when the server does.
 */
export const CLIENT_TIMEOUTS: ClientTimeouts = {
  head: 60_000,
  request: 3_600_000,
  answer: 3_600_000,
  silence: 300_000,
  idle: 120_000,
}
