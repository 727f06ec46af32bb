import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { forEachDatabase } from '../helpers/world.ts'
import { makeFleet } from './helpers/fleet.ts'
import { type Installation, openInstallation, run, temporaryFolder } from './helpers/installation.ts'

const root = join(import.meta.dirname, '../..')

/** What is typed, with ⇥ for the tab key, and the command that it becomes. */
const typed: readonly (readonly [keys: string, becomes: string])[] = [
  ['pawl chan⇥his⇥measurement-worker/s⇥', 'channel history measurement-worker/stable'],
  ['pawl node list --sta⇥fail⇥', 'node list --state failed'],
  ['pawl node list --state=hel⇥', 'node list --state=held'],
  ['pawl image show measurement-worker@2026.10⇥', 'image show measurement-worker@2026.10.3'],
  ['pawl --data $FOLDER webhook show ti⇥', 'webhook show tickets'],
  ['pawl profile sho⇥de⇥--js⇥', 'profile show demo --json'],
  ['pawl profile apply -f two⇥', 'profile apply -f two-words.yaml'],
  ['pawl operator to⇥cre⇥--role pub⇥', 'operator token create --role publisher'],
]

interface Shell {
  readonly name: string
  readonly program: string
  /** How it is told to complete pawl. */
  readonly setup: string
}

const shells: readonly Shell[] = [
  { name: 'bash', program: 'bash --norc --noprofile -i', setup: 'source ./pawl.bash' },
  {
    name: 'zsh',
    program: 'zsh -f -i',
    setup: 'autoload -Uz compinit && compinit -u -D && source ./pawl.zsh',
  },
]

/** A `pawl` that completes as the real one does, and says what else it was asked. */
const standIn = (asked: string): string => `#!/bin/sh
case " $* " in *" complete "*) exec ${root}/bin/pawl "$@" ;; esac
for word; do printf '%s ' "$word"; done >> ${asked}
echo >> ${asked}
`

interface Stage {
  readonly folder: string
  readonly env: Readonly<Record<string, string>>
  readonly asked: string
}

async function prepare(t: Tap, { dataDir }: Installation): Promise<Stage> {
  const folder = temporaryFolder(t)
  const asked = join(folder, 'asked')
  mkdirSync(join(folder, 'bin'))
  writeFileSync(join(folder, 'bin/pawl'), standIn(asked))
  chmodSync(join(folder, 'bin/pawl'), 0o755)
  writeFileSync(join(folder, 'two-words.yaml'), '')
  for (const shell of ['bash', 'zsh', 'fish'])
    writeFileSync(join(folder, `pawl.${shell}`), (await run(['completion', shell])).stdout)
  const path = `${join(folder, 'bin')}:${process.env.PATH ?? ''}`
  return { folder, asked, env: { PATH: path, PAWL_DATA: dataDir, HOME: folder, TERM: 'dumb', PS1: '$ ' } }
}

type Tap = Parameters<typeof temporaryFolder>[0]

/** Runs a program in a terminal of its own, types, and waits for its end. */
function type(stage: Stage, program: string, keys: string): Promise<string> {
  const child = spawn('script', ['-qec', program, '/dev/null'], {
    cwd: stage.folder,
    env: stage.env,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => {
    said += String(chunk)
  })
  child.stdin.end(keys)
  return new Promise((resolve) => child.once('close', () => resolve(said)))
}

await forEachDatabase(t, async (t, openWorld) => {
  if (t.name === 'on PostgreSQL') {
    t.pass('a shell does not see which database it is')
    return
  }
  const installation = await openInstallation(t, openWorld)
  await makeFleet(installation)

  await t.test('names of each kind, those that begin so; nothing where anything goes wrong', async (t) => {
    const names = async (line: string, env = {}): Promise<string[]> => {
      const { exit, stdout, stderr } = await installation.run(['complete', ...line.split(' ')], { env })
      t.same([exit, stderr], [0, ''], line)
      return stdout.split('\n').filter((name) => name !== '')
    }
    t.equal((await names('nodes')).length, 13)
    t.same(await names('nodes mlab9'), ['mlab9-lax02.measurement-lab.example.org'])
    t.same(await names('nodes zzz'), [])
    t.same(await names('channels measurement-worker/c'), ['measurement-worker/canary'])
    t.equal((await names('images measurement-worker@')).length, 3)
    t.same(await names('profiles'), ['demo'])
    t.same(await names('webhooks'), ['chat', 'tickets'])
    t.same(await names('publishers'), ['local'])
    for (const kind of ['rollouts', 'proposals', 'tokens'])
      t.match((await names(kind))[0], /^[\w-]{12}$/, kind)
    t.equal((await names('pending')).length, 2)
    const missing = { PAWL_DATA: '/nonexistent' }
    t.same(await names('nodes', missing), [], 'no server')
    t.same(await names('nodes -- $(id)'), [])
    const wrong = {
      PAWL_DATA: '',
      PAWL_URL: installation.url,
      PAWL_TOKEN: 'x'.repeat(44),
      PAWL_CA: '/nonexistent',
    }
    t.same(await names('nodes', wrong), [], 'no token')
    t.equal((await installation.run(['complete', 'secrets'])).exit, 2)
  })

  for (const { name, program, setup } of shells) {
    const absent = existsSync(`/usr/bin/${name}`) ? undefined : `${name} is not installed`
    const skip = absent === undefined || process.env.PAWL_REQUIRE === 'all' ? {} : { skip: absent }
    await t.test(`in a real ${name}`, skip, async (t) => {
      const stage = await prepare(t, installation)
      const cases = typed
      const keys = cases.map(([one]) => one.replaceAll('⇥', '\t').replace('$FOLDER', installation.dataDir))
      const said = await type(stage, program, `${[setup, ...keys, 'exit'].join('\n')}\n`)
      const asked = readFileSync(stage.asked, 'utf8')
        .split('\n')
        .map((line) => line.trim())
      for (const [index, [line, becomes]] of cases.entries()) {
        const want = becomes.startsWith('webhook') ? `--data ${installation.dataDir} ${becomes}` : becomes
        t.equal(asked[index], want, `${line}\n${index === 0 ? said : ''}`)
      }
    })
  }

  await t.test(
    'in a real fish',
    existsSync('/usr/bin/fish') || process.env.PAWL_REQUIRE === 'all'
      ? {}
      : { skip: 'fish is not installed' },
    async (t) => {
      const stage = await prepare(t, installation)
      for (const [line, offered] of [
        ['pawl chan', /^channel\t/m],
        ['pawl channel history measurement-worker/s', /^measurement-worker\/stable$/m],
        ['pawl node list --sta', /^--state\t/m],
        ['pawl node list --state ', /^held/m],
        ['pawl node show mlab9', /^mlab9-lax02\.measurement-lab\.example\.org$/m],
        [`pawl --data ${installation.dataDir} webhook show t`, /^tickets$/m],
        ['pawl profile apply -f two', /^two-words\.yaml$/m],
      ] as const) {
        const child = spawn('fish', ['--no-config', '-c', `source pawl.fish; complete -C '${line}'`], {
          cwd: stage.folder,
          env: stage.env,
        })
        let said = ''
        child.stdout.on('data', (chunk: Buffer) => {
          said += String(chunk)
        })
        await new Promise((resolve) => child.once('close', resolve))
        t.match(said, offered, line)
      }
    },
  )
})
