/** Reads the answer to ListObjectsV2 as it arrives, and takes of it what keepgw needs. */
import type { RemoteObject } from '../remote.ts'
import { isArchived, plainEtag } from './object-meta.ts'
import { MalformedXml, type XmlReader, XmlScanner } from './xml.ts'

/** A page of a listing, as the store wrote it. */
export interface RawListing {
  /** Their keys are still encoded where `encodingType` says so. */
  objects: RemoteObject[]
  encodingType: string | undefined
  /** Whether there is more. */
  isTruncated: boolean
  /** Where that is. */
  nextToken: string | undefined
}

/** Bytes of a page: a thousand objects have a few megabytes at most. */
const LONGEST_PAGE = 64 * 1024 * 1024

/** Parses one page. Throws MalformedXml for all but a whole ListObjectsV2 result. */
export class ListingParser {
  readonly #reader = new ListingReader()
  readonly #scanner = new XmlScanner(this.#reader)
  #bytes = 0

  /** Takes the next bytes, and needs them no more when it returns. */
  write(chunk: Uint8Array): void {
    this.#bytes += chunk.length
    if (this.#bytes > LONGEST_PAGE) throw new MalformedXml('a page without an end')
    this.#scanner.write(chunk)
  }

  /** Returns the page when all of it has been written. */
  end(): RawListing {
    this.#scanner.end()
    const { objects, encodingType, isTruncated, nextToken } = this.#reader
    // Without it nobody knows whether the listing has come to its end.
    if (isTruncated === undefined) throw new MalformedXml('a page without IsTruncated')
    return { objects, encodingType, isTruncated, nextToken }
  }
}

/** Elements of a page, and of one of its Contents, whose text is taken. */
const OF_PAGE = new Set(['IsTruncated', 'NextContinuationToken', 'EncodingType'])
const OF_OBJECT = new Set(['Key', 'LastModified', 'ETag', 'Size', 'StorageClass'])
/** Of its RestoreStatus. */
const RESTORING = 'IsRestoreInProgress'

const [PAGE, PART_OF_PAGE, PART_OF_OBJECT, DEEPER] = [1, 2, 3, 4]

class ListingReader implements XmlReader {
  readonly objects: RemoteObject[] = []
  encodingType: string | undefined
  isTruncated: boolean | undefined
  nextToken: string | undefined
  #object: ListedObject | undefined
  /** The root is `<Error>`: S3 may fail when it has sent status 200 already. */
  #isError = false

  open(name: string, depth: number): boolean {
    if (depth === PART_OF_OBJECT) return this.#object !== undefined && OF_OBJECT.has(name)
    if (depth === PART_OF_PAGE) {
      if (name === 'Contents') this.#object = new ListedObject()
      return this.#isError ? name === 'Code' : OF_PAGE.has(name)
    }
    if (depth === PAGE) {
      this.#isError = name === 'Error'
      if (!this.#isError && name !== 'ListBucketResult') throw new MalformedXml(`<${name}>`)
    }
    if (depth === DEEPER) return this.#object !== undefined && name === RESTORING
    return false
  }

  close(name: string, depth: number, text: string): void {
    const isOfObject = depth === PART_OF_OBJECT || (depth === DEEPER && name === RESTORING)
    if (isOfObject) this.#object?.set(name, text)
    else if (depth === PART_OF_PAGE) this.#closePart(name, text)
    else if (depth === PAGE && this.#isError) throw new MalformedXml('<Error>')
  }

  #closePart(name: string, text: string): void {
    if (this.#isError) {
      if (name === 'Code') throw new MalformedXml(`<Error>, ${text}`)
    } else if (name === 'Contents') {
      if (this.#object!.key === '') throw new MalformedXml('an object without its key')
      this.objects.push(this.#object!)
      this.#object = undefined
    } else if (name === 'IsTruncated') {
      this.isTruncated = booleanOf(text)
    } else if (name === 'NextContinuationToken') {
      this.nextToken = text
    } else if (name === 'EncodingType') {
      this.encodingType = text
    }
  }
}

/** What has been read of one object: once all of it has, the object. */
class ListedObject implements RemoteObject {
  key = ''
  etag = ''
  size = -1
  #time = ''
  #storageClass = ''
  #isRestored = false

  /** Most objects have not changed, and nobody asks for it. */
  get lastModified(): number {
    return timeOf(this.#time)
  }

  /** A restored object keeps its class. */
  get archived(): boolean {
    return isArchived(this.#storageClass) && !this.#isRestored
  }

  set(name: string, text: string): void {
    if (name === 'Key') this.key = text
    else if (name === 'ETag') this.etag = plainEtag(text)
    else if (name === 'Size') this.size = sizeOf(text)
    else if (name === 'LastModified') this.#time = text
    else if (name === 'StorageClass') this.#storageClass = text
    else if (name === RESTORING) this.#isRestored = text === 'false'
  }

  /** Gateways list so what did not come through them: one such object must not hide all others. */
  get unreadable(): string | undefined {
    if (this.etag === '') return 'the store lists it without an ETag'
    return this.size < 0 ? 'the store lists it without a size' : undefined
  }
}

function booleanOf(text: string): boolean {
  if (text === 'true' || text === 'false') return text === 'true'
  throw new MalformedXml(`IsTruncated ${text}`)
}

/** Returns -1 for what is no size. */
function sizeOf(text: string): number {
  const size = /^[0-9]{1,16}$/.test(text) ? Number(text) : -1
  return Number.isSafeInteger(size) ? size : -1
}

/** Returns milliseconds since 1970, or 0 for what is no time. */
function timeOf(text: string): number {
  return Date.parse(text) || 0
}
