import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { globSync, readdirSync, readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type CommandWords, readCommands } from '../man/commands.ts'
import { manPages } from '../man/generate.ts'
import { commandLine, paragraphs, prose, section } from '../man/roff.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const pages = await manPages()
const commands = await readCommands()

/** Returns what a formatter complains about, or undefined where it is not installed. */
function complaints(formatter: string, args: string[]): string | undefined {
  const { error, stderr, status } = spawnSync(formatter, args, {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  })
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') return undefined
  return status === 0 ? stderr : `${formatter} ended with ${status}: ${stderr}`
}

describe('the manual pages', () => {
  test('are those that the commands describe: run `npm run man` where this fails', () => {
    const committed = readdirSync(`${ROOT}man`).filter((name) => name.endsWith('.1'))
    assert.deepEqual(committed.sort(), [...pages.keys()].sort())
    for (const [name, text] of pages) {
      assert.equal(readFileSync(`${ROOT}man/${name}`, 'utf8'), text, name)
    }
  })

  for (const [formatter, options] of [
    ['groff', ['-man', '-ww', '-Tascii']],
    ['man', ['--local-file', '--warnings', '-Tutf8']],
    ['mandoc', ['-Tlint', '-Wwarning']],
  ] as const) {
    test(`have nothing that ${formatter} warns of`, (t) => {
      for (const name of pages.keys()) {
        const found = complaints(formatter, [...options, `${ROOT}man/${name}`])
        if (found === undefined) return t.skip(`${formatter} is not installed`)
        assert.equal(found, '', name)
      }
    })
  }

  test('have plain ASCII only, which every formatter reads', () => {
    for (const [name, text] of pages) assert.match(text, /^[\n\x20-\x7e]*$/, name)
  })

  test('have the date of their last change', () => {
    for (const [name, text] of pages) assert.match(text, /^\.TH \S+ 1 "\d{4}-\d\d-\d\d" /m, name)
  })

  test('name every variable that the source reads', () => {
    const sources = globSync('{src,commands}/**/*.ts', { cwd: ROOT })
    const text = sources.map((file) => readFileSync(ROOT + file, 'utf8')).join('\n')
    const variables = new Set(text.match(/\b(?:KEEPGW|AWS|XDG|NODE)_[A-Z0-9_]*[A-Z0-9]\b/g))
    assert.ok(variables.has('KEEPGW_MAPPINGS') && variables.has('AWS_REGION'))
    for (const name of variables) assert.ok(pages.get('keepgw.1')?.includes(name), name)
  })
})

describe('every command', () => {
  const each = (check: (command: CommandWords) => void) => () => commands.forEach(check)

  test(
    'says in one line what it does, and in more how',
    each(({ name, summary, description }) => {
      assert.match(summary, /^[^\n]{10,75}\.$/, name)
      assert.ok(description.length > summary.length, name)
    }),
  )

  test(
    'describes all of its flags and arguments',
    each(({ name, flags, args }) => {
      for (const word of [...flags, ...args]) {
        assert.notEqual(word.description.trim(), '', `${name} ${word.name}`)
      }
    }),
  )

  test(
    'has two examples at least, with what they are for, of itself and with flags that it has',
    each(({ name, examples, flags }) => {
      assert.ok(examples.length >= 2, name)
      const known = new Set(flags.map((flag) => `--${flag.name}`))
      for (const { description, command } of examples) {
        assert.notEqual(description, '', command)
        assert.ok(command.startsWith(`keepgw ${name}`), command)
        for (const flag of command.match(/(?<=\s)--[a-z-]+/g) ?? [])
          assert.ok(known.has(flag), flag)
      }
    }),
  )

  test('is in the list of `keepgw --help`, and in that of its manual', () => {
    const cli = fileURLToPath(new URL('../dist/src/cli.js', import.meta.url))
    const help = execFileSync(process.execPath, [cli, '--help'], { encoding: 'utf8' })
    const names = commands.map(({ name }) => name)
    for (const name of ['index', 'serve', 'verify', 'status']) assert.ok(names.includes(name), name)
    for (const name of names) {
      // A command below a topic is listed by the topic's name.
      assert.match(help, new RegExp(`^  ${name.split(' ')[0]} {2,}\\S`, 'm'))
      const page = name.replaceAll(' ', '\\-')
      assert.ok(pages.get('keepgw.1')?.includes(`\\fBkeepgw\\-${page}\\fR(1)`), name)
    }
  })
})

describe('roff', () => {
  test('makes no request, no escape and no hyphen of what is meant as it stands', () => {
    assert.equal(prose('.so a\\b -- ~x'), '\\&.so a\\eb \\-\\- \\(tix')
    assert.equal(prose("It’s “q”… Don't."), 'It\\(cqs \\[u201C]q\\[u201D]... Don\\(aqt.')
    assert.match(commandLine('.x --y=^'), /\n\$ \.x \\-\\-y=\\\(ha\n/)
  })

  test('begins a paragraph once, also behind a heading', () => {
    assert.equal(section('A', paragraphs('One.\n\nTwo.')), '.SH A\nOne.\n.PP\nTwo.')
  })

  test('sets what stands in backquotes in bold, and begins a line with each sentence', () => {
    assert.equal(prose('One\n  two. See `a-b`. 3.'), 'One two.\nSee \\fBa\\-b\\fR. 3.')
  })
})
