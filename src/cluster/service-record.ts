/** The record of a gateway in the API server's keep_services table. */
import { type ApiAnswer, askApi, notAnApi, refusal } from '../arvados/api.ts'
import type { ArvadosSettings } from '../arvados/settings.ts'
import { KeepgwError, UsageError } from '../errors.ts'
import { addressOf, rendezvousOf, serviceUuid } from './register.ts'

/** What the Python SDK asks only for locators whose `+K@` hint names it. */
const SERVICE_TYPE = 'gateway:keepgw'
/** All that a cluster can have. */
const MAX_SERVICES = 1000
const HINTS = { 403: 'Only administrators may make records of services' }
const UNSURE =
  'The record may have been made all the same: run this command again, which will say so'

/** A keep service, as far as the API server shows it. */
interface ListedService {
  uuid: string
  service_host: string
  service_port: number
  service_ssl_flag: boolean
  service_type: string
  read_only: boolean
  owner_uuid: string
  modified_by_user_uuid: string
  created_at: string
  modified_at: string
}

/** A service that the API server lists. */
export interface RecordedService {
  uuid: string
  /** False where the service was listed already. */
  isNew: boolean
}

/**
 * Makes the record of the gateway at `url`, whose UUID is always the same for a URL, unless the API
 * server lists that service already. Throws KeepgwError, above all where the cluster's services come
 * from its configuration: a first record would hide them from everybody. Throws UsageError where the
 * API server is not that of the cluster `wanted`.
 */
export async function recordService(
  url: URL,
  wanted: string | undefined,
  settings: ArvadosSettings,
  signal: AbortSignal,
): Promise<RecordedService> {
  const clusterId = await clusterIdOf(settings, signal)
  if (wanted !== undefined && wanted !== clusterId) {
    throw new UsageError(`${settings.host} is the API server of ${clusterId}, not of ${wanted}`)
  }
  const listed = await listServices(settings, signal)
  const known = listed.find((service) => urlOf(service) === url.origin)
  if (known !== undefined) return { uuid: known.uuid, isNew: false }
  if (listed.length > 0 && !listed.some((service) => isRecord(service, clusterId))) {
    throw hiding(listed)
  }
  const uuid = serviceUuid(clusterId, rendezvousOf(url))
  const record = {
    uuid,
    // An IPv6 address with its brackets: Arvados' clients put the two together as they are.
    service_host: url.hostname,
    service_port: addressOf(url).port,
    service_ssl_flag: url.protocol === 'https:',
    service_type: SERVICE_TYPE,
    read_only: true,
  }
  const body = [Buffer.from(JSON.stringify({ keep_service: record }))]
  const request = {
    method: 'POST',
    path: '/arvados/v1/keep_services',
    body,
    unsure: UNSURE,
  } as const
  const { uuid: made } = successOf(await askApi(request, settings, signal), settings, UNSURE)
  if (typeof made !== 'string') throw notAnApi(settings)
  return { uuid: made, isNew: true }
}

async function clusterIdOf(settings: ArvadosSettings, signal: AbortSignal): Promise<string> {
  const request = { method: 'GET', path: '/arvados/v1/config' } as const
  const { ClusterID: id } = successOf(await askApi(request, settings, signal), settings)
  if (typeof id !== 'string') throw notAnApi(settings)
  return id
}

async function listServices(
  settings: ArvadosSettings,
  signal: AbortSignal,
): Promise<ListedService[]> {
  const path = `/arvados/v1/keep_services?limit=${MAX_SERVICES}`
  const answer = await askApi({ method: 'GET', path }, settings, signal)
  const { items } = successOf(answer, settings)
  if (!Array.isArray(items)) throw notAnApi(settings)
  return items
}

function successOf(
  answer: ApiAnswer,
  settings: ArvadosSettings,
  unsure?: string,
): Record<string, unknown> {
  if (answer.status === 200) return answer.json
  throw refusal(answer, settings, HINTS, unsure)
}

/**
 * True for what the API server cannot have made of its configuration: of that it makes services of
 * the types disk and proxy that belong to the system user, take blocks, and are as old as its process.
 * All services that it lists are of one kind or the other.
 */
function isRecord(service: ListedService, clusterId: string): boolean {
  const systemUser = `${clusterId}-tpzed-000000000000000`
  return (
    !['disk', 'proxy'].includes(service.service_type) ||
    service.read_only ||
    service.owner_uuid !== systemUser ||
    service.modified_by_user_uuid !== systemUser ||
    service.created_at !== service.modified_at
  )
}

function hiding(listed: ListedService[]): KeepgwError {
  const urls = listed.map(urlOf).join(' ')
  return new KeepgwError(
    `a record would hide the services that the cluster’s configuration names: ${urls}`,
    {
      hint: 'Put the gateway into that configuration, as this command says without --database-record; or make records of all these services first',
    },
  )
}

function urlOf(service: ListedService): string {
  const { service_host: host, service_port: port, service_ssl_flag: ssl } = service
  const isBare = host.includes(':') && !host.startsWith('[')
  const name = isBare ? `[${host}]` : host
  return URL.parse(`${ssl ? 'https' : 'http'}://${name}:${port}`)?.origin ?? host
}
