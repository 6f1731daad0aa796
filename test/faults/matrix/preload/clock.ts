/**
 * Preloaded into a keepgw that is tested: in it, time goes by CLOCK times as fast, in all threads. What
 * gives up after a minute of silence then does so after three seconds. Only the date stays the world's.
 */
import { syncBuiltinESMExports } from 'node:module'
import timers from 'node:timers'
import promises from 'node:timers/promises'

const CLOCK = 20

function sooner<T extends object>(timer: T, msAt: number): T {
  return new Proxy(timer, {
    apply(call, self, args) {
      if (typeof args[msAt] === 'number') args[msAt] /= CLOCK
      return Reflect.apply(call as unknown as () => unknown, self, args)
    },
  })
}

timers.setTimeout = sooner(timers.setTimeout, 1)
timers.setInterval = sooner(timers.setInterval, 1)
globalThis.setTimeout = timers.setTimeout
globalThis.setInterval = timers.setInterval
promises.setTimeout = sooner(promises.setTimeout, 0)

const now = performance.now.bind(performance)
performance.now = () => now() * CLOCK
syncBuiltinESMExports()
