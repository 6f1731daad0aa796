/** What comes from elsewhere: which packages, from where, and what of them runs at their installation. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'

interface Locked {
  integrity?: string
  resolved?: string
  link?: boolean
  hasInstallScript?: boolean
}

const root = new URL('../', import.meta.url)
const read = (name: string) => JSON.parse(readFileSync(new URL(name, root), 'utf8'))
const manifest = read('package.json')
const packages = Object.entries(read('package-lock.json').packages as Record<string, Locked>)
const installed = packages.filter(([path]) => path !== '')

describe('the packages', () => {
  it('that keepgw runs on are these, each with its reason in docs/decisions.md', () => {
    const known = [
      '@aws-sdk/client-s3',
      '@aws-sdk/credential-providers',
      '@oclif/core',
      '@oclif/plugin-autocomplete',
      'koa',
      'lmdb',
      'ora',
      'p-limit',
      'pino',
      'prom-client',
      'yaml',
    ]
    assert.deepEqual(Object.keys(manifest.dependencies), known)
    const decisions = readFileSync(new URL('docs/decisions.md', root), 'utf8')
    const short = (name: string) => name.replace('@aws-sdk/credential', 'credential')
    for (const name of known) assert.ok(decisions.includes(short(name)), `${name} has no reason`)
    for (const kind of ['optionalDependencies', 'peerDependencies', 'bundleDependencies']) {
      assert.equal(manifest[kind], undefined, kind)
    }
  })

  it('have no scripts for their installation but these, of which only Node’s is allowed', () => {
    const scripted = installed.filter(([, { hasInstallScript }]) => hasInstallScript)
    const names = scripted.map(([path]) => path.slice(path.lastIndexOf('node_modules/') + 13))
    assert.deepEqual(names.sort(), ['lmdb', 'msgpackr-extract', 'node'])
    assert.deepEqual(manifest.allowScripts, { node: true, lmdb: false, 'msgpackr-extract': false })
    assert.ok(!('node' in manifest.dependencies), 'Node itself is for development')
  })

  it('are locked by their digests, and to no registry', () => {
    assert.ok(installed.length > 100)
    for (const [path, { integrity, resolved, link }] of installed) {
      assert.match(integrity ?? '', /^sha512-/, path)
      assert.equal(resolved, undefined, path)
      assert.equal(link, undefined, path)
    }
  })
})

describe('the command line', () => {
  it('has no flag for a secret, which everybody on the machine could read', () => {
    const commands: Record<string, { flags: Record<string, unknown> }> =
      read('oclif.manifest.json').commands
    const flags = Object.values(commands).flatMap(({ flags }) => Object.keys(flags))
    assert.ok(flags.includes('volume') && flags.includes('region'))
    const named = flags.filter((name) => /token|secret|passw|key/.test(name))
    // A file's name.
    assert.deepEqual([...new Set(named)], ['tls-key'])
  })
})
