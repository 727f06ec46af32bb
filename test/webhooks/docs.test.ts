import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { retryPauses, webhookSecret, webhookSignature } from '../../src/domain/webhook.ts'
import { temporaryFolder } from '../cli/helpers/installation.ts'

const text = readFileSync(join(import.meta.dirname, '../../docs/webhooks.md'), 'utf8')
const body = '{"type":"refused","note":"é\\n"}'
const secret = webhookSecret(Buffer.from(Array.from({ length: 32 }, (_, index) => index * 7)))
const other = webhookSecret(Buffer.alloc(32, 9))
const id = `msg_${'a'.repeat(22)}`
const timestamp = Math.floor(Date.now() / 1000)

/** The example in a language that has a word in it. */
function example(language: string, word: string): string {
  const found = [...text.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, 'g'))]
  return found.map(([, code = '']) => code).find((code) => code.includes(word)) ?? ''
}

await t.test('the example for a shell tells a genuine message from a forged one', async (t) => {
  const folder = temporaryFolder(t)
  writeFileSync(join(folder, 'body.json'), body)
  const check = (signatures: string, with_ = secret): string =>
    spawnSync('/bin/sh', ['-eu', '-c', example('sh', 'openssl')], {
      cwd: folder,
      env: {
        PATH: process.env.PATH ?? '',
        SECRET: with_,
        ID: id,
        TIMESTAMP: String(timestamp),
        SIGNATURES: signatures,
      },
      encoding: 'utf8',
    }).stdout.trim()
  const message = { id, timestamp, body }
  t.equal(check(webhookSignature([secret], message)), 'genuine')
  t.equal(check(webhookSignature([other, secret], message)), 'genuine', 'while a secret is replaced')
  t.equal(check(webhookSignature([other], message)), 'forged')
  t.equal(check(webhookSignature([secret], { ...message, body: `${body} ` })), 'forged')
  t.equal(check(webhookSignature([secret], message), other), 'forged')
})

await t.test('the example for Node does too', async (t) => {
  const file = join(temporaryFolder(t), 'example.mjs')
  writeFileSync(file, example('js', 'isGenuine'))
  const { isGenuine } = (await import(file)) as {
    isGenuine: (secret: string, headers: Record<string, string>, body: Buffer, now?: number) => boolean
  }
  const headers = (signatures: string): Record<string, string> => ({
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': signatures,
  })
  const message = { id, timestamp, body }
  const genuine = headers(webhookSignature([other, secret], message))
  t.equal(isGenuine(secret, genuine, Buffer.from(body)), true)
  t.equal(isGenuine(secret, headers(webhookSignature([other], message)), Buffer.from(body)), false)
  t.equal(isGenuine(secret, genuine, Buffer.from(`${body} `)), false)
  t.equal(isGenuine(secret, genuine, Buffer.from(body), Date.now() + 301_000), false, 'too old')
  t.equal(isGenuine(secret, headers('v1,x nonsense'), Buffer.from(body)), false)
})

await t.test('the table of tries is the one of the code', async (t) => {
  const words = (seconds: number): string =>
    seconds < 60 ? `${seconds} s` : seconds < 3600 ? `${seconds / 60} min` : `${seconds / 3600} h`
  const row = ['after the one before, ± 20 %', 'at once', ...retryPauses.map(words)].join(' | ')
  t.ok(text.includes(`| ${row} |`), row)
})
