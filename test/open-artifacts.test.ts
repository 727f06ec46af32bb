import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { loadConfig } from '../src/config.ts'
import { openArtifacts } from '../src/open-artifacts.ts'
import { freePort } from './helpers/ports.ts'

/** A data folder, and the artifacts of a server on it with these settings. */
function folderOf(t: Test) {
  const folder = t.testdir({})
  const logged: string[] = []
  const into = new Writable({ write: (line, _encoding, done) => done(void logged.push(String(line))) })
  const open = (file: Record<string, string>) => {
    const fileText = Object.entries(file).map(([name, value]) => `${name}: ${value}\n`)
    const config = loadConfig({
      flags: { data: folder },
      env: {},
      fileText: fileText.join(''),
      fileName: 'pawl.yaml',
    })
    return openArtifacts(config, pino({}, into), () => new Date())
  }
  const file = (name: string, text: string, mode = 0o600) => {
    writeFileSync(join(folder, name), text, { mode })
    return join(folder, name)
  }
  return { folder, open, file, logged }
}

t.test('credentials that others can read, or that are not there, stop the start', async (t) => {
  const { open, file, folder } = folderOf(t)
  const start = (s3CredentialsFile: string) => open({ artifacts: 's3://images', s3CredentialsFile })
  await t.rejects(start(file('open', 'aws_access_key_id = a\n', 0o644)), { code: 'key-unreadable' })
  await t.rejects(start(join(folder, 'absent')), { code: 'key-unreadable', hint: /mode 0600/ })
  for (const [text, line] of [
    ['', 'aws_access_key_id'],
    ['[default]\naws_access_key_id = A\n', 'aws_secret_access_key'],
    ['aws_access_key_id = A\nmy_aws_secret_access_key = sEcReT\n', 'aws_secret_access_key'],
    ['aws_access_key_id = A\naws_secret_access_key = sEcReT and more\n', 'aws_secret_access_key'],
  ] as const) {
    const path = file('keys', text)
    const message = `${path} has no line "${line} = …"`
    await t.rejects(start(path), { code: 'usage', message })
  }
})

t.test('a CA that is none stops the start', async (t) => {
  const { open, file, folder } = folderOf(t)
  const start = (s3CaFile: string) => open({ artifacts: 's3://images', s3CaFile })
  await t.rejects(start(join(folder, 'absent')), { code: 'usage', message: /cannot be read$/ })
  await t.rejects(start(file('ca', 'no PEM')), { code: 'usage', message: /is not a PEM certificate$/ })
})

t.test(
  'object storage that does not answer does not stop the start, and says so without a secret',
  async (t) => {
    const { open, file, logged } = folderOf(t)
    const keys = file(
      'keys',
      '[default]\r\naws_access_key_id=AKEY\r\n aws_secret_access_key = sEcReT/+= \r\n',
    )
    const store = await open({
      artifacts: 's3://images/site',
      s3Endpoint: `http://127.0.0.1:${await freePort()}`,
      s3CredentialsFile: keys,
    })
    t.match(logged, [
      /"store-unavailable".*the object storage does not answer; it is asked again when it is needed/,
    ])
    await t.rejects(store.tidy(new Date()), { code: 'store-unavailable' })
    t.notMatch(logged.join(), /sEcReT|AKEY/)
  },
)

t.test('a folder is made where the settings say, or in the data folder', async (t) => {
  const { open, folder } = folderOf(t)
  await open({})
  t.ok(existsSync(join(folder, 'artifacts', 'sha256')))
  await open({ artifacts: join(folder, 'elsewhere') })
  t.ok(existsSync(join(folder, 'elsewhere', 'sha256')))
})
