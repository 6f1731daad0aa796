/** keepgw and its peers: where they are found, and what they are told to do. */
import { execFileSync } from 'node:child_process'
import { accessSync, constants, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { environment } from '../test/e2e/keepgw.ts'
import type { Command } from './measure.ts'
import type { Route } from './store.ts'

/** The built keepgw. */
export const CLI = fileURLToPath(new URL('../dist/src/cli.js', import.meta.url))

/** A program of this machine. */
export interface Peer {
  program: string
  version: string
}

export interface Peers {
  rclone: Peer | undefined
  s5cmd: Peer | undefined
  /** Arvados' own keep service. */
  keepstore: Peer | undefined
}

/**
 * Returns the peers that KEEPGW_BENCH_RCLONE, KEEPGW_BENCH_S5CMD and KEEPGW_BENCH_KEEPSTORE name, or
 * PATH holds. Throws where one of them does not run.
 */
export function findPeers(): Peers {
  const { KEEPGW_BENCH_RCLONE, KEEPGW_BENCH_S5CMD, KEEPGW_BENCH_KEEPSTORE } = process.env
  return {
    rclone: findPeer('rclone', KEEPGW_BENCH_RCLONE, 'version'),
    s5cmd: findPeer('s5cmd', KEEPGW_BENCH_S5CMD, 'version'),
    keepstore: findPeer('keepstore', KEEPGW_BENCH_KEEPSTORE, '-version'),
  }
}

function findPeer(name: string, named: string | undefined, ask: string): Peer | undefined {
  const directories = (process.env.PATH ?? '').split(delimiter)
  const program = named ?? directories.map((dir) => join(dir, name)).find(isExecutable)
  if (program === undefined) return undefined
  const [line = ''] = execFileSync(program, [ask], { encoding: 'utf8' }).split('\n')
  // Python packages wrap the program: its cost would then be Python's too.
  const isScript = readFileSync(program).subarray(0, 2).toString() === '#!'
  const note = isScript ? ', started by a script whose cost counts: name the program itself' : ''
  return { program, version: `${line.replace(`${name} `, '')}${note}` }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** What keepgw is told beyond which bucket to index. */
export interface IndexSettings {
  flags?: string[]
  env?: NodeJS.ProcessEnv
}

/** Returns the built keepgw's index of a bucket, into the mapping `home`/`bucket`. */
export function keepgwIndex(
  route: Route,
  bucket: string,
  home: string,
  { flags = [], env = {} }: IndexSettings = {},
): Command {
  const shown = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  return {
    shown: [...shown, 'keepgw index BUCKET --json', ...flags].join(' '),
    args: [process.execPath, CLI, 'index', bucket, '--json', ...flags],
    env: { ...routeEnvironment(route, home), ...env },
  }
}

/** Returns the environment in which keepgw finds a store, and its mappings in `home`. */
export function routeEnvironment(route: Route, home: string): NodeJS.ProcessEnv {
  const ca = route.ca === undefined ? {} : { AWS_CA_BUNDLE: route.ca }
  // Compiled code is kept from run to run, as it is for users: mappings are not.
  return { ...environment(route, home), XDG_CACHE_HOME: `${home}-cache`, ...ca }
}

/** Returns rclone's reading of all objects' MD5 sums. It prints lines `MD5  KEY`. */
export function rcloneMd5Sum(rclone: Peer, route: Route, bucket: string, flags: string[]): Command {
  const ca = route.ca === undefined ? [] : ['--ca-cert', route.ca]
  const remote = {
    TYPE: 's3',
    PROVIDER: 'Other',
    ENDPOINT: route.endpoint,
    REGION: route.region,
    ACCESS_KEY_ID: route.accessKeyId,
    SECRET_ACCESS_KEY: route.secretAccessKey,
  }
  const variables = Object.entries(remote).map(([name, value]) => [
    `RCLONE_CONFIG_BENCH_${name}`,
    value,
  ])
  const how = ['md5sum', '--download', ...flags]
  return {
    shown: ['rclone', ...how, 'REMOTE:BUCKET'].join(' '),
    args: [rclone.program, ...how, ...ca, `bench:${bucket}`],
    // An empty name keeps the user's own configuration out.
    env: { PATH: process.env.PATH, RCLONE_CONFIG: '', ...Object.fromEntries(variables) },
  }
}

/** Returns s5cmd's listing of all objects. It prints lines `DATE TIME SIZE KEY`. */
export function s5cmdList(s5cmd: Peer, route: Route, bucket: string): Command {
  return {
    shown: "s5cmd --endpoint-url URL ls 's3://BUCKET/*'",
    args: [s5cmd.program, '--endpoint-url', route.endpoint, 'ls', `s3://${bucket}/*`],
    env: {
      PATH: process.env.PATH,
      AWS_REGION: route.region,
      AWS_ACCESS_KEY_ID: route.accessKeyId,
      AWS_SECRET_ACCESS_KEY: route.secretAccessKey,
    },
  }
}
