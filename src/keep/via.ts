/** By whom a request was passed on: its Via header, by which one that goes round in a circle is known. */
import { randomUUID } from 'node:crypto'

/** Returns a name for a service, which no other one has. */
export function newServiceId(): string {
  return `keepgw-${randomUUID()}`
}

/** Returns the Via of a request that this service passes on; `before` is the one that it came with. */
export function viaOf(before: string | undefined, id: string): string {
  return before ? `${before}, 1.1 ${id}` : `1.1 ${id}`
}

/** True for a request that this service has passed on before. */
export function cameAround(via: string | undefined, id: string): boolean {
  return via?.includes(id) === true
}
