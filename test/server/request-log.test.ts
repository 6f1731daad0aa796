import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { describe, it } from 'node:test'
import { setImmediate as setImmediatePromise } from 'node:timers/promises'
import fc from 'fast-check'
import { createLog, type LogFormat } from '../../src/server/request-log.ts'

function writableTo(write: (text: string) => void): Writable {
  return new Writable({
    decodeStrings: false,
    write: (text, _encoding, done) => {
      write(text)
      done()
    },
  })
}

const anyText = fc.string({ unit: 'binary' })

describe('a line of the log', () => {
  for (const format of ['json', 'text'] satisfies LogFormat[]) {
    it(`is one line that moves no cursor, whatever a request holds: ${format}`, () => {
      let printed = ''
      const stream = writableTo((text) => {
        printed += text
      })
      const log = createLog(stream, { format })
      fc.assert(
        fc.property(anyText, anyText, (reqPath, reqHost) => {
          printed = ''
          log.info({ reqPath, reqHost }, 'request')
          assert.match(printed, /^[^\p{Cc}]+\n$/u)
          if (format !== 'json') return
          const line = JSON.parse(printed)
          assert.deepEqual([line.reqPath, line.reqHost, line.msg], [reqPath, reqHost, 'request'])
        }),
      )
      // As a terminal takes the second set: the CSI that clears a screen.
      printed = ''
      log.info({ reqPath: '/\x9b2J\x7f' }, 'request')
      assert.ok(printed.includes('/\\u009b2J\\u007f'), printed)
    })
  }

  it('is written by itself, also when the one who reads them is slow', async () => {
    const written: string[] = []
    const slow = new Writable({
      decodeStrings: false,
      write: (text, _encoding, done) => {
        written.push(text)
        setImmediate(done)
      },
      writev: (chunks, done) => {
        written.push(chunks.map(({ chunk }) => chunk).join(''))
        setImmediate(done)
      },
    })
    const log = createLog(slow)
    const numbers = Array.from({ length: 50 }, (_, at) => at)
    for (const at of numbers) {
      log.info({ at }, 'line')
      if (at % 7 === 0) await setImmediatePromise()
    }
    while (written.length < numbers.length) await setImmediatePromise()
    assert.deepEqual(
      written.map((text) => JSON.parse(text).at),
      numbers,
    )
  })

  for (const format of ['json', 'text'] satisfies LogFormat[]) {
    it(`is lost, and counted, rather than that memory grows, while nobody reads: ${format}`, async () => {
      const written: string[] = []
      let goOn: (() => void) | undefined
      const stuck = new Writable({
        decodeStrings: false,
        write: (text, _encoding, done) => {
          written.push(text)
          if (written.length > 1) done()
          else goOn = done
        },
      })
      const log = createLog(stuck, { format })
      for (let at = 0; at < 10_000; at++) log.info({ at }, 'line')
      assert.equal(written.length, 1)
      assert.ok(stuck.writableLength < 1000, `${stuck.writableLength}`)
      goOn!()
      while (!written.at(-1)!.includes('lost')) await setImmediatePromise()
      assert.equal(written.length, 1 + 4096 + 1)
      assert.match(written.at(-1)!, /^[^\n]*"5903 lines are lost"[^\n]*\n$/)
      log.info('after')
      assert.match(written.at(-1)!, /after/)
    })
  }
})
