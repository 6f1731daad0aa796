/** What S3 says of an object, in keepgw's terms. Pure. */

/** Storage classes whose objects must be restored before they can be read. */
const ARCHIVED = new Set(['GLACIER', 'DEEP_ARCHIVE'])

/** True where objects of the storage class cannot be read as they lie. */
export function isArchived(storageClass: string | undefined): boolean {
  return storageClass !== undefined && ARCHIVED.has(storageClass)
}

/** Returns an ETag without its quotes and without the mark of a weak one; '' for none. */
export function plainEtag(etag = ''): string {
  const start = etag.startsWith('W/') ? 2 : 0
  const isQuoted = etag.length >= start + 2 && etag[start] === '"' && etag.endsWith('"')
  return isQuoted ? etag.slice(start + 1, -1) : etag.slice(start)
}
