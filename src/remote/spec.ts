/** How a remote is named on the command line. */
import { isAbsolute, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { UsageError } from '../errors.ts'
import type { RemoteSpec } from './remote.ts'

/** A bucket's name (Amazon S3, "Bucket naming rules"; capitals and `_` are in older buckets). */
const BUCKET = /^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/

/**
 * Returns the remote that BUCKET names: `name`, `s3://name[/prefix]`, `./dir`, `/dir` or
 * `file:///dir`. Throws UsageError for anything else.
 */
export function parseBucket(text: string): RemoteSpec {
  if (text.startsWith('file:')) return { kind: 'directory', root: resolve(pathOfUrl(text)) }
  if (isAbsolute(text) || /^\.{1,2}(\/|$)/.test(text)) {
    return { kind: 'directory', root: resolve(text) }
  }
  const [, scheme, bucket = '', prefix] = /^(s3:\/\/)?([^/]*)(?:\/(.*))?$/s.exec(text) ?? []
  if (!BUCKET.test(bucket) || (scheme === undefined && prefix !== undefined)) {
    throw new UsageError(`"${text}" names no bucket`, {
      hint: 'Write NAME, s3://NAME, s3://NAME/PREFIX, ./DIR, /DIR or file:///DIR',
    })
  }
  return prefix ? { kind: 's3', bucket, prefix } : { kind: 's3', bucket }
}

/** As parseBucket, and takes `name/prefix`, too. */
export function parsePart(text: string): RemoteSpec {
  const isBare = /^[^/:.][^/:]*\//.test(text)
  return parseBucket(isBare ? `s3://${text}` : text)
}

/** Returns `s3://bucket/prefix` or `file:///dir`, which parseBucket reads back. */
export function formatSpec(spec: RemoteSpec): string {
  // Not by pathToFileURL, which drops control characters at the end.
  if (spec.kind === 'directory')
    return `file://${encodeURIComponent(spec.root).replaceAll('%2F', '/')}`
  return `s3://${spec.bucket}${spec.prefix ? `/${spec.prefix}` : ''}`
}

/** Returns the text of an S3 endpoint. Throws UsageError, without what may be a password, for what is none. */
export function checkedEndpoint(endpoint: string): string {
  const url = URL.parse(endpoint)
  const hasCredentials = url !== null && (url.username !== '' || url.password !== '')
  if (url !== null && /^https?:$/.test(url.protocol) && !hasCredentials) return endpoint
  const named = hasCredentials || endpoint.includes('@') ? 'the URL given' : `"${endpoint}"`
  throw new UsageError(`${named} is no endpoint`, {
    hint: 'Write http://HOST[:PORT] or https://HOST[:PORT], without credentials',
  })
}

function pathOfUrl(text: string): string {
  try {
    return fileURLToPath(text)
  } catch (error) {
    throw new UsageError(`"${text}" is no file URL`, { cause: error, hint: 'Write file:///DIR' })
  }
}
