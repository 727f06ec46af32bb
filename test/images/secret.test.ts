import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

/**
 * The agent's part of a rotation, on this machine: its own shell functions, volumes that are files with a real FAT on them, and
 * a `mount` that stands for the kernel's. A machine under QEMU does the same with the kernel's in test/boot/rotation.test.ts.
 */
const programs = ['jq', 'mkfs.vfat']
const absent = programs.filter(
  (name) => spawnSync('sh', ['-c', `PATH=$PATH:/usr/sbin command -v ${name}`]).status !== 0,
)
const needs = {
  skip: absent.length > 0 && process.env.PAWL_REQUIRE !== 'all' && `${absent.join(', ')} not installed`,
}

const images = join(import.meta.dirname, '../../images')
const agent = readFileSync(join(images, 'filesystem/secret.sh'), 'utf8')
const words = /^JQ_WORD=.*$/m.exec(readFileSync(join(images, 'lib/agent.sh'), 'utf8'))?.[0]

const old = { id: 'AAAAAAAAAAAA', secret: `AAAAAAAAAAAA${'b'.repeat(32)}` }
const next = { id: 'CCCC-CCCC_CC', secret: `CCCC-CCCC_CC${'d'.repeat(32)}`, replaces: old.id }
const script = (secret: string): string => `#!ipxe\nset pawl-secret ${secret}\n`

interface Volume {
  readonly label: string
  readonly fat?: 12 | 16 | 32
  readonly readOnly?: boolean
  /** What pawl/secret.ipxe has; left out: there is no such file. */
  readonly file?: string
}

interface Outcome {
  /** What the console has. */
  readonly said: string
  /** What the server was told, in order. */
  readonly told: readonly string[]
  /** What is in the folder `pawl` of each volume. */
  readonly files: Readonly<Record<string, Readonly<Record<string, string>>>>
  /** What is left below RUN. */
  readonly left: readonly string[]
}

interface Wish {
  readonly volumes: Readonly<Record<string, Volume>>
  readonly answer?: Readonly<Record<string, unknown>>
  /** Shell functions that stand in the way. */
  readonly broken?: string
  /** The statuses that the server answers with, one after the other; the last goes on. */
  readonly statuses?: readonly string[]
}

function rotate(
  t: Test,
  { volumes, answer = { newSecret: next }, broken = '', statuses = ['204'] }: Wish,
): Outcome {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-secret-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const run = join(folder, 'run')
  for (const name of ['run', 'blocks', 'devices', 'mounted']) mkdirSync(join(folder, name))
  for (const [name, { label, fat = 16, readOnly = false, file }] of Object.entries(volumes)) {
    mkdirSync(join(folder, 'blocks', name))
    writeFileSync(join(folder, 'blocks', name, 'ro'), readOnly ? '1\n' : '0\n')
    const size = { 12: 1, 16: 20, 32: 40 }[fat]
    const device = join(folder, 'devices', name)
    const made = spawnSync('/usr/sbin/mkfs.vfat', [
      '-C',
      '-F',
      String(fat),
      '-n',
      label,
      device,
      String(size * 1024),
    ])
    if (made.status !== 0) throw new Error(String(made.stderr))
    mkdirSync(join(folder, 'mounted', name, 'pawl'), { recursive: true })
    if (file !== undefined) writeFileSync(join(folder, 'mounted', name, 'pawl/secret.ipxe'), file)
  }
  writeFileSync(join(run, 'stage3.json'), JSON.stringify(answer))
  const shell = `
set -u
${words}
RUN=${run} BASE=https://b
say() { echo "$*"; }
size_of() { stat -c %s "$1" 2>/dev/null || echo 0; }
load_drivers() { :; }
# The volume appears where it is mounted, and is gone from there when it is not.
mount() {
  case "$*" in *remount*) return 0 ;; esac
  rmdir "$RUN/medium-of-secret" && ln -s "${folder}/mounted/\${5##*/}" "$RUN/medium-of-secret"
}
mount_point() { [ -L "$RUN/medium-of-secret" ]; }
umount() { mount_point && rm "$RUN/medium-of-secret" && mkdir "$RUN/medium-of-secret"; }
sync() { :; }
set -- ${statuses.join(' ')}
STATUSES="$*"
request() {
  HTTP_STATUS=\${STATUSES%% *} REQUEST_ERROR="HTTP \${STATUSES%% *}"
  case $STATUSES in *' '*) STATUSES=\${STATUSES#* } ;; esac
  shift 3
  while [ $# -gt 0 ]; do
    case $1 in
      reason@*) echo "reason=$(cat "\${1#*@}")" >>${folder}/told ;;
      id=* | written=*) echo "$1" >>${folder}/told ;;
    esac
    shift
  done
}
${agent}
SECRET_BLOCKS=${folder}/blocks SECRET_DEVICES=${folder}/devices SECRET_WAIT_SECONDS=0
sleep() { case $1 in 0.25) command sleep 0.05 ;; esac; }
${broken}
rotate_secret
echo "goes on: $?"
`
  const ran = spawnSync('sh', ['-c', shell], { encoding: 'utf8', timeout: 120_000 })
  const files = Object.fromEntries(
    Object.keys(volumes).map((name) => {
      const at = join(folder, 'mounted', name, 'pawl')
      return [name, Object.fromEntries(readdirSync(at).map((f) => [f, readFileSync(join(at, f), 'utf8')]))]
    }),
  )
  const told = existsSync(join(folder, 'told'))
    ? readFileSync(join(folder, 'told'), 'utf8').trim().split('\n')
    : []
  return { said: `${ran.stdout}${ran.stderr}`, told, files, left: readdirSync(run) }
}

const medium = { label: 'PAWL', file: script(old.secret) }

t.test('the file that iPXE reads is replaced, on the medium of this boot alone', needs, async (t) => {
  for (const fat of [12, 16, 32] as const) {
    const outcome = rotate(t, {
      volumes: {
        vda1: { ...medium, label: 'DATA' },
        vdb1: { ...medium, file: script(`ZZZZZZZZZZZZ${'b'.repeat(32)}`) },
        vdc1: { label: 'PAWL' },
        vdd1: { ...medium, fat },
        vde1: { ...medium, file: `${script(old.secret)}${'#'.repeat(2000)}` },
      },
    })
    t.same(outcome.files.vdd1, { 'secret.ipxe': script(next.secret) }, `FAT${fat}: no file is left beside it`)
    t.equal(
      outcome.files.vdd1?.['secret.ipxe']?.length,
      68,
      'its length is a multiple of 4, for BIOS loaders',
    )
    t.same(outcome.files.vda1, { 'secret.ipxe': script(old.secret) }, 'a volume of another name')
    t.match(outcome.files.vdb1?.['secret.ipxe'], /ZZZZ/, "another node's medium")
    t.same(outcome.files.vdc1, {}, 'a medium without a secret')
    t.match(outcome.files.vde1?.['secret.ipxe'], /AAAA/, 'what is no file of ours')
    t.same(outcome.told, [`id=${next.id}`, 'written=true', 'reason='])
    t.match(outcome.said, /new enrolment secret written to the boot medium\ngoes on: 0/)
    t.notMatch(outcome.said, next.secret.slice(12), 'the secret is not on the console')
    t.same(outcome.left, ['stage3.json'])
  }
})

t.test('where the server brings no secret, nothing is looked for', needs, async (t) => {
  const answers = [
    {},
    { newSecret: null },
    { newSecret: { ...next, secret: "x'; reboot; '" } },
    { newSecret: { ...next, replaces: '.*' } },
  ]
  for (const answer of answers) {
    const { said, told, files } = rotate(t, { volumes: { vda1: medium }, answer })
    t.equal(said, 'goes on: 0\n')
    t.same(told, [])
    t.same(files.vda1, { 'secret.ipxe': script(old.secret) })
  }
})

t.test('what goes wrong is told, stops no boot, and leaves the old secret', needs, async (t) => {
  const cases: [what: string, wish: Wish, reason: RegExp][] = [
    ['there is no medium', { volumes: {} }, /^there is no FAT volume PAWL whose pawl\/secret\.ipxe has/],
    [
      'it is read-only',
      { volumes: { vda1: { ...medium, readOnly: true } } },
      /^the medium \/dev\/vda1 is read-only$/,
    ],
    [
      'the kernel mounts it read-only',
      {
        volumes: { vda1: medium },
        broken: `mount() { case "$*" in *remount*) echo 'mount: write-protected' >&2; return 1 ;; esac
  rmdir "$RUN/medium-of-secret" && ln -s "\${SECRET_DEVICES%/*}/mounted/\${5##*/}" "$RUN/medium-of-secret"; }`,
      },
      /^the medium \/dev\/vda1 cannot be written to: mount: write-protected$/,
    ],
    [
      'it is full',
      {
        volumes: { vda1: medium },
        broken: `printf() { case $1 in '#!'*) echo 'No space left on device' >&2; return 1 ;; *) command printf "$@" ;; esac; }`,
      },
      /^the medium \/dev\/vda1 took no new file: No space left on device$/,
    ],
    [
      'the rename fails',
      { volumes: { vda1: medium }, broken: `mv() { echo 'mv: I/O error' >&2; return 1; }` },
      /^the medium \/dev\/vda1 took no new file: mv: I\/O error$/,
    ],
    [
      'it does not answer',
      { volumes: { vda1: medium }, broken: 'SECRET_GIVE_UP_SECONDS=3; dd() { command sleep 20; }' },
      /^the medium does not answer: gave up after 3 s$/,
    ],
  ]
  for (const [what, wish, reason] of cases) {
    await t.test(what, async (t) => {
      const { said, told, files } = rotate(t, wish)
      t.same(told.slice(0, 2), [`id=${next.id}`, 'written=false'])
      t.match(told[2]?.replace('reason=', ''), reason)
      t.match(
        said,
        /warning: the new enrolment secret is not on the boot medium: .*\nhint: the old one stays good/s,
      )
      t.match(said, /goes on: 0\n$/)
      if (files.vda1 !== undefined) t.same(files.vda1, { 'secret.ipxe': script(old.secret) })
    })
  }
})

t.test('the server is told again when it does not answer, and not when it refuses', needs, async (t) => {
  const away = rotate(t, { volumes: { vda1: medium }, statuses: ['000', '503', '204'] })
  t.equal(away.told.filter((line) => line === 'written=true').length, 3)
  const refused = rotate(t, { volumes: { vda1: medium }, statuses: ['403'] })
  t.equal(refused.told.filter((line) => line === 'written=true').length, 1)
  t.match(refused.said, /does not want to know of the new secret \(403\)/)
  const gone = rotate(t, { volumes: { vda1: medium }, statuses: ['000'] })
  t.equal(gone.told.filter((line) => line === 'written=true').length, 4)
  t.match(gone.said, /could not be told of the new secret: HTTP 000\ngoes on: 0/)
  for (const { files } of [away, refused, gone]) t.match(files.vda1?.['secret.ipxe'], next.secret)
})
