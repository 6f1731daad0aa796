/** A certificate that nobody has signed but its own key, for servers on this machine. */
import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Certificate extends AsyncDisposable {
  cert: Buffer
  key: Buffer
  /** The files that hold them, PEM. */
  certFile: string
  keyFile: string
}

/** Makes a certificate for 127.0.0.1; its files go with it. */
export async function makeCertificate(): Promise<Certificate> {
  const dir = await mkdtemp(join(tmpdir(), 'keepgw-certificate-'))
  const [keyFile, certFile] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const name = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1']
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  const files = ['-keyout', keyFile, '-out', certFile]
  execFileSync('openssl', ['req', '-x509', ...made, ...name, ...files], { stdio: 'ignore' })
  return {
    cert: await readFile(certFile),
    key: await readFile(keyFile),
    certFile,
    keyFile,
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true }),
  }
}
