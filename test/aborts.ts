/** What calls reject with when their signal is aborted. */

/** True for the error that an aborted AbortSignal makes of a pending call. */
export function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && (thrown.name === 'AbortError' || thrown.name === 'TimeoutError')
}
