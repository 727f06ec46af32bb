import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

/** The Debian package and the unit. Installing is tried on an overlay over this machine's own root, in a mount namespace. */
const root = join(import.meta.dirname, '../..')
const folder = mkdtempSync(join(tmpdir(), 'pawl-deb-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

const has = (tool: string): boolean => spawnSync('which', [tool]).status === 0
const wanted = process.env.PAWL_REQUIRE === 'all'
const noDpkg = has('dpkg-deb') || wanted ? undefined : 'dpkg-deb is not installed'
const noSystemd = has('systemd-analyze') || wanted ? undefined : 'systemd is not installed'
const noRoot = process.getuid?.() === 0 ? undefined : 'installing a package needs root'

t.test(
  'the unit is one that systemd takes, and gives the server little',
  noSystemd === undefined ? {} : { skip: noSystemd },
  async (t) => {
    const unit = join(folder, 'pawl.service')
    const text = readFileSync(join(root, 'deploy/systemd/pawl.service'), 'utf8')
    // The program and the manual are not installed here; all else is as it is.
    writeFileSync(unit, text.replace('/usr/bin/pawl', '/bin/true').replace('man:pawl(1)', 'man:true(1)'))
    const verified = spawnSync('systemd-analyze', ['verify', '--man=no', unit], { encoding: 'utf8' })
    t.equal(verified.status, 0, verified.stderr)
    t.equal(verified.stderr, '')
    const judged = spawnSync('systemd-analyze', ['security', '--offline=yes', '--threshold=20', unit], {
      encoding: 'utf8',
    })
    t.equal(judged.status, 0, judged.stdout.split('\n').slice(-2).join(''))
    t.match(text, /ConditionPathExists=\/var\/lib\/pawl\/ca\.crt/, 'it does not start without pawl init')
  },
)

/** The sources as git has them, so that two builds are of the same, whoever edits meanwhile; without git, as they are. */
function sources(): string {
  const copy = join(folder, 'sources')
  if (existsSync(copy)) return copy
  mkdirSync(copy)
  const archived = spawnSync('git', ['archive', 'HEAD'], { cwd: root, maxBuffer: 2 ** 28 })
  if (archived.status !== 0) return root
  execFileSync('tar', ['-x', '-C', copy], { input: archived.stdout })
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  return copy
}

/** Builds the package as another version, with the fastest compression. */
function build(version?: string): string {
  const env = {
    ...process.env,
    DEB_COMPRESSION: 'none',
    SOURCE_DATE_EPOCH: '1700000000',
    ...(version === undefined ? {} : { PAWL_VERSION: version }),
  }
  const out = execFileSync(join(sources(), 'deploy/debian/build.sh'), [join(folder, version ?? 'own')], {
    env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return out.trim()
}

const sha256 = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex')

t.test('the Debian package', noDpkg === undefined ? {} : { skip: noDpkg }, async (t) => {
  const file = build()
  const digest = sha256(file)
  t.equal(sha256(build()), digest, 'built again it has the same bytes')
  const listed = execFileSync('dpkg-deb', ['-c', file], { encoding: 'utf8', maxBuffer: 2 ** 26 })
  for (const path of [
    '/usr/bin/pawl',
    '/usr/lib/pawl/src/main.ts',
    '/usr/lib/systemd/system/pawl.service',
    '/etc/default/pawl',
    '/usr/share/man/man1/pawl.1.gz',
    '/usr/share/doc/pawl/copyright',
  ])
    t.ok(listed.includes(` .${path}\n`), path)
  t.notMatch(
    listed,
    /node_modules\/(tap|typescript|@biomejs|fast-check|oidc-provider)\//,
    'nothing that only tests need',
  )
  t.match(execFileSync('dpkg-deb', ['-I', file, 'conffiles'], { encoding: 'utf8' }), '/etc/default/pawl')
  await t.test(
    'installed, used, upgraded, removed, purged',
    noRoot === undefined ? {} : { skip: noRoot },
    async (t) => {
      const older = build('0.1.9')
      const script = join(import.meta.dirname, 'install.sh')
      const ran = spawnSync('unshare', ['-m', '--propagation', 'private', 'sh', script, older, file], {
        encoding: 'utf8',
      })
      if (ran.status !== 0 && /^(unshare|mount):/m.test(ran.stderr) && !ran.stdout.includes('user: ')) {
        t.pass('installed', { skip: `this machine mounts no overlay: ${ran.stderr.slice(0, 200)}` })
        return
      }
      t.equal(ran.status, 0, ran.stderr)
      const said = ran.stdout
      t.match(said, /nothing runs yet.*runuser -u pawl -- pawl init/s, 'it says what to do next')
      for (const line of [
        'user: pawl',
        'folder: 700 pawl',
        'init: ok',
        'server: ready',
        'node: ok',
        'upgraded: ok',
        'conffile: kept',
        'doctor: 0',
        'removed: data kept',
        'purged: gone',
      ])
        t.match(said, `${line}\n`, line)
    },
  )
  t.ok(existsSync(file))
})
