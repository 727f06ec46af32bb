import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import t from 'tap'
import { openAsItIs, openStorage } from '../../src/storage/database.ts'
import { until } from '../helpers/until.ts'

const folder = mkdtempSync(join(tmpdir(), 'pawl-integrity-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

/** A database of more than 64 MiB; the page that a table begins with is made nonsense where one is named. */
async function largeFile(name: string, damagedTable?: string): Promise<string> {
  const file = join(folder, name)
  await (await openStorage(file)).close()
  const sqlite = new Sqlite(file)
  sqlite.exec('create table filler (bytes blob)')
  const insert = sqlite.prepare('insert into filler values (zeroblob(1048576))')
  for (let count = 0; count < 66; count += 1) insert.run()
  const root = sqlite.prepare('select rootpage from sqlite_schema where name = ?').pluck()
  const page = damagedTable === undefined ? undefined : Number(root.get(damagedTable))
  const pageBytes = Number(sqlite.pragma('page_size', { simple: true }))
  sqlite.pragma('wal_checkpoint(truncate)')
  sqlite.close()
  if (page !== undefined) {
    const handle = openSync(file, 'r+')
    writeSync(handle, Buffer.alloc(pageBytes, 0x5a), 0, pageBytes, (page - 1) * pageBytes)
    closeSync(handle)
  }
  t.ok(statSync(file).size > 64 * 2 ** 20)
  return file
}

t.test('of a large file, damage in the events is found behind the start; in all else at it', async (t) => {
  const events = await largeFile('events.db', 'events')
  const damaged = { code: 'storage-unavailable', message: /events\.db is damaged/, hint: /backup/ }
  t.throws(() => openAsItIs(events, { readOnly: true }), damaged, 'who looks after it sees all of it')
  const storage = openAsItIs(events, { eventsLater: true })
  t.equal(storage.rest?.damage(), undefined)
  t.match(await storage.rest?.run(), damaged)
  t.match(storage.rest?.damage(), damaged)
  await storage.close()
  const nodes = await largeFile('nodes.db', 'nodes')
  t.throws(() => openAsItIs(nodes, { eventsLater: true }), { message: /nodes\.db is damaged/ })
})

t.test('what is not damaged is not said to be; a small file is looked at whole', async (t) => {
  const sound = openAsItIs(await largeFile('sound.db'), { eventsLater: true })
  t.equal(await sound.rest?.run(), undefined)
  t.equal(sound.rest?.damage(), undefined)
  await sound.close()
  const small = join(folder, 'small.db')
  await (await openStorage(small)).close()
  const again = openAsItIs(small, { eventsLater: true })
  t.equal(again.rest, undefined)
  await again.close()
})

t.test('where the events cannot be looked at, that is an error, not a sound file', async (t) => {
  const file = await largeFile('gone.db')
  const storage = openAsItIs(file, { eventsLater: true })
  rmSync(file)
  await t.rejects(async () => void (await storage.rest?.run()), { code: 'SQLITE_CANTOPEN' })
  await storage.close()
})

t.test('a server that stops ends a look that goes on, and nobody is left behind', async (t) => {
  const storage = openAsItIs(await largeFile('stopped.db'), { eventsLater: true })
  const looked = storage.rest?.run()
  const [child] = lookers()
  if (child === undefined) throw new Error('there is no process that looks')
  process.kill(child, 'SIGSTOP') // it would look for ever
  await storage.close()
  t.equal(await looked, undefined, 'it has not found anything')
  t.equal(storage.rest?.damage(), undefined)
  await until(t, async () => lookers(), [])
})

/** The processes of this one that look at events. */
function lookers(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const [, , , parent] = readFileSync(`/proc/${pid}/stat`, 'utf8')
          .replace(/\(.*\)/s, '()')
          .split(' ')
        return (
          Number(parent) === process.pid && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
        )
      } catch {
        return false // it has ended meanwhile
      }
    })
    .map(Number)
}
