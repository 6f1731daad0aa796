/** A certificate that nobody has signed but its own key, for servers on this machine. */
import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

export interface Certificate extends AsyncDisposable {
  cert: Buffer
  key: Buffer
  /** The files that hold them, PEM. */
  certFile: string
  keyFile: string
}

export interface CertificateOptions {
  /** Whom it is for, as a subjectAltName; this machine by default. */
  name?: string
  /** Days from now on that it is good for; below 0 it has expired. */
  days?: number
}

/** Makes a certificate; its files go with it. */
export async function makeCertificate({
  name = 'IP:127.0.0.1',
  days = 2,
}: CertificateOptions = {}): Promise<Certificate> {
  const dir = await mkdtemp(join(tmpdir(), 'keepgw-certificate-'))
  const [keyFile, certFile] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const [requestFile, extensionFile] = [join(dir, 'request.pem'), join(dir, 'extensions')]
  await writeFile(extensionFile, `subjectAltName=${name}\nbasicConstraints=CA:TRUE\n`)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'ignore' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', keyFile]
  // A name of its own: an issuer is looked for by its name.
  openssl('req', ...key, '-subj', `/CN=${basename(dir)}`, '-out', requestFile)
  const signed = ['-signkey', keyFile, '-days', `${days}`, '-extfile', extensionFile]
  openssl('x509', '-req', '-in', requestFile, ...signed, '-out', certFile)
  return {
    cert: await readFile(certFile),
    key: await readFile(keyFile),
    certFile,
    keyFile,
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true }),
  }
}
