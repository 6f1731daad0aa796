/** A certificate for servers of the tests. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

/** Makes a key and a certificate of 127.0.0.1 in a directory; returns the files, both PEM. */
export function makeCertificate(dir: string): { key: string; cert: string } {
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const name = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1']
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  const files = ['-keyout', key, '-out', cert]
  execFileSync('openssl', ['req', '-x509', ...made, ...name, ...files], { stdio: 'ignore' })
  return { key, cert }
}
