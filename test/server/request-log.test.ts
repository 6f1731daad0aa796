import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { createLog, type LogFormat } from '../../src/server/request-log.ts'

const anyText = fc.string({ unit: 'binary' })

describe('a line of the log', () => {
  for (const format of ['json', 'text'] satisfies LogFormat[]) {
    it(`is one line that moves no cursor, whatever a request holds: ${format}`, () => {
      let printed = ''
      const write = (text: string) => {
        printed += text
      }
      const log = createLog({ write }, { format })
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
})
