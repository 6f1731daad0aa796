/** The words of keepgw(1) that no command has. */

/** A name and what it means. */
type Meaning = [name: string, meaning: string]

export const DESCRIPTION = `
Arvados finds data by the MD5 of its blocks, and keeps those in Keep. keepgw gives it data that \
lies in a bucket of S3, or in a directory, and leaves it there.

\`keepgw index\` reads each object once and notes the MD5 of every 64 MiB of it in a mapping. \
\`keepgw serve\` answers Keep clients from mappings: it reads the bytes from where they lie, and \
proves them before the last one goes out. \`keepgw service register\` prints what makes it known to a \
cluster.

\`keepgw manifest\` prints indexed objects as the manifest of a collection, and \`keepgw collection \
create\` saves that at the API server. \`keepgw status\` says how fresh a mapping is, \`keepgw check\` \
whether it is whole, and \`keepgw verify\` whether blocks still lie where it says; the last two can mend it.

Results go to stdout, everything else to stderr. With \`--json\`, results are lines of JSON, each \
with a "type".`.trimStart()

export const EXAMPLES = [
  { description: 'Index a bucket', command: 'keepgw index my-bucket' },
  {
    description: 'Serve it to clients on this machine',
    command: 'keepgw serve --volume s3:$HOME/.local/state/keepgw/my-bucket:my-bucket',
  },
  { description: 'Index a directory', command: 'keepgw index /data/lab' },
  { description: 'See how fresh all mappings are', command: 'keepgw status' },
]

export const EXIT_CODES = `Exit codes: 0 all done, 1 failed, 2 wrong usage, 3 finished but some objects or \
blocks could not be read, 4 another run holds the mapping’s lock, 130 interrupted.`

/** Variables that no flag names as its own. */
export const VARIABLES: Meaning[] = [
  [
    'KEEPGW_MAPPINGS',
    'Directory of the mappings that `--mappings` does not name: each lies in a directory named for its bucket.',
  ],
  [
    'XDG_STATE_HOME',
    'Where `KEEPGW_MAPPINGS` is not set, mappings lie in the directory keepgw in this one. Default: ~/.local/state.',
  ],
  [
    'KEEPGW_SYSTEM_ROOT_TOKEN',
    'The token that opens /index, /mounts, /status.json, and all that touches, trashes or pulls blocks, at `serve`; before SystemRootToken of the configuration. Where neither is set, /index and /mounts answer this machine alone, and what would change blocks answers nobody.',
  ],
  [
    'KEEPGW_MANAGEMENT_TOKEN',
    'The token that opens /_health/ping, /metrics, /metrics.json and /status.json at `serve`; before ManagementToken of the configuration. Where neither is set, /metrics and /metrics.json answer this machine alone, and /_health/ping nobody.',
  ],
  [
    'KEEPGW_BLOB_SIGNING_KEY',
    'The key by which `serve` checks the signatures of locators, and with which `--sign` of manifest and collection create signs; before Collections.BlobSigningKey of the configuration.',
  ],
  [
    'ARVADOS_CONFIG, ARVADOS_SERVICE_INTERNAL_URL',
    'The configuration of the cluster, where `--config` does not name it; and which one of its Services.Keepstore.InternalURLs is that of `serve`.',
  ],
  [
    'ARVADOS_API_HOST, ARVADOS_API_TOKEN, ARVADOS_API_HOST_INSECURE',
    'The API server for collection create and service register --database-record, the token that it asks with and that `--sign` signs for, and whether the server’s certificate is left unchecked. What is not set is looked for in ~/.config/arvados/settings.conf.',
  ],
  [
    'NODE_EXTRA_CA_CERTS',
    'A file of certificates, PEM, that are trusted beside those of Node: of an authority of one’s own that has signed the API server’s.',
  ],
  ['XDG_CONFIG_HOME', 'Where arvados/settings.conf lies. Default: ~/.config.'],
  ['AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3', 'As `--endpoint-url`, which goes before them.'],
  ['AWS_REGION, AWS_DEFAULT_REGION', 'As `--region`, which goes before them.'],
  [
    'AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN',
    'Credentials. A profile and `--credentials-file` go before them; where nothing is set, they are looked for as the AWS tools do.',
  ],
  ['AWS_PROFILE', 'As `--profile`, which goes before it.'],
  [
    'AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE',
    'Where profiles are looked for. Default: ~/.aws/config and ~/.aws/credentials.',
  ],
  ['AWS_CA_BUNDLE', 'A file of the certificates (PEM) that the store’s certificate is checked by.'],
  [
    'XDG_CACHE_HOME',
    'Compiled code, with which keepgw starts faster, is kept in the directory keepgw in this one. Default: ~/.cache.',
  ],
  [
    'NODE_COMPILE_CACHE',
    'A directory for the compiled code of all programs that run on Node. It goes before `XDG_CACHE_HOME`.',
  ],
  ['DEBUG', 'Any value: errors are followed by where they came from.'],
]

export const FILES: Meaning[] = [
  [
    '~/.local/state/keepgw/BUCKET/',
    'The mapping of a bucket, unless `KEEPGW_MAPPINGS` or `--mappings` say otherwise.',
  ],
  [
    'acb/acbd18db4cc2f85cedef654fccc4a4d8',
    'In a mapping: the places of the block with this MD5. One line a place, OFFSET:LENGTH:KEY, then a tab and etag=ETAG. In keys, control characters, % and bytes that are not UTF-8 stand as %XX.',
  ],
  [
    '.keepgw/remote.json',
    'In a mapping: the bucket or directory that it is of, and how to get there.',
  ],
  [
    '.keepgw/catalog/',
    'In a mapping: what the last index run saw of each object, and the lock. It must be on a local disk.',
  ],
  [
    '.keepgw/proofs',
    'In a mapping: which of the hashes that were taken from ETags `serve` and `verify` have proven. The next index run takes that in.',
  ],
]

export const SIGNALS: Meaning[] = [
  [
    'SIGINT, SIGTERM',
    'Ends the work in good order: an index run records what it has read, a server sends the answers that are under way. A second one ends it at once.',
  ],
  ['SIGUSR1', '`keepgw index` prints how far it is.'],
]
