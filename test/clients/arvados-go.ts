/**
 * Arvados' own programs, which are written in Go and are not fetched: KEEPGW_ARVADOS_BIN names the folder
 * that has them. Clients of Keep among them find their way by a stand-in API server.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ArvadosApi } from '../servers/arvados-api.ts'
import { CLUSTER_SECRET } from '../servers/keepstore.ts'

export type GoProgram = 'keepstore' | 'keep-block-check' | 'keep-exercise'

/** What a program came to. */
export interface GoOutcome {
  /** Its exit code. */
  code: number
  /** All that it printed. */
  output: string
}

/** Returns why the programs cannot be had, for tests to skip with, or false where they can. */
export function lacksArvadosGo(...programs: GoProgram[]): string | false {
  const missing = programs.filter((name) => !existsSync(arvadosGo(name)))
  if (missing.length === 0) return false
  return `needs Arvados’ ${missing.join(', ')}: name their folder in KEEPGW_ARVADOS_BIN`
}

/** Returns the path of a program. */
export function arvadosGo(name: GoProgram): string {
  return join(process.env.KEEPGW_ARVADOS_BIN || '/nonexistent', name)
}

/** Asks the cluster for these blocks, with signatures if the key is told. */
export async function keepBlockCheck(
  api: ArvadosApi,
  { dir, token, signed, locators }: Asked,
): Promise<GoOutcome> {
  const [config, list] = [join(dir, 'block-check.conf'), join(dir, 'locators')]
  const settings = [
    `ARVADOS_API_HOST=${api.host}`,
    `ARVADOS_API_TOKEN=${token}`,
    'ARVADOS_API_HOST_INSECURE=true',
    ...(signed ? [`ARVADOS_BLOB_SIGNING_KEY=${CLUSTER_SECRET}`] : []),
  ]
  await writeFile(config, settings.join('\n'))
  await writeFile(list, locators.join('\n'))
  return run('keep-block-check', ['-config', config, '-block-hash-file', list], { HOME: dir })
}

export interface Asked {
  /** Directory for its files. */
  dir: string
  token: string
  signed: boolean
  locators: string[]
}

/** Reads or writes for a while; `config` is the cluster's configuration. */
export function keepExercise(
  api: ArvadosApi,
  { config, token, args }: { config: string; token: string; args: string[] },
): Promise<GoOutcome> {
  return run('keep-exercise', args, {
    HOME: '/nonexistent',
    ARVADOS_API_HOST: api.host,
    ARVADOS_API_TOKEN: token,
    ARVADOS_API_HOST_INSECURE: 'true',
    ARVADOS_CONFIG: config,
  })
}

function run(name: GoProgram, args: string[], env: NodeJS.ProcessEnv): Promise<GoOutcome> {
  return new Promise((resolve, reject) => {
    execFile(arvadosGo(name), args, { env, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code
      if (typeof code === 'number') resolve({ code, output: stdout + stderr })
      else reject(error)
    })
  })
}
