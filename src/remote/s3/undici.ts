/**
 * The parts of undici that are used here. Its main module loads all of fetch, WebSocket and caches
 * besides, which costs more than half of a thread's start.
 */
import { createRequire } from 'node:module'
import type { buildConnector as BuildConnector, Pool as PoolClass } from 'undici'

const require = createRequire(import.meta.url)

export const Pool: typeof PoolClass = require('undici/lib/dispatcher/pool.js')
export const buildConnector: typeof BuildConnector = require('undici/lib/core/connect.js')

export type Pool = PoolClass
export type { Dispatcher } from 'undici'
