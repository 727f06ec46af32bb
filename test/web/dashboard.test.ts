import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { AxeBuilder } from '@axe-core/playwright'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import type { LeavingRow } from '../../src/storage/leaving-tables.ts'
import { insertSpans } from '../../src/storage/spans.ts'
import { demoProfile, publishImage, storeDemoFleet, storeNode, storeProfile } from '../helpers/fleet.ts'
import { boot, machineOf } from '../helpers/machine.ts'
import { openAt, type World } from '../helpers/world.ts'
import { openSite, type StormSite } from '../storm/installation.ts'
import { storeManyNodes } from './many-nodes.ts'

/** The dashboard as people have it: Debian's Chromium on a real server. `PAWL_SHOTS=FOLDER` keeps pictures of the pages. */
const executablePath = '/usr/bin/chromium'
const flags = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
]
const absent = existsSync(executablePath) ? undefined : 'Debian package chromium is not installed'
if (absent !== undefined && process.env.PAWL_REQUIRE === 'all') throw new Error(absent)
const hostile = `<img src=x onerror="document.title='pwned'">\u202e\u0007 evil \u{1f600}`
const shots = process.env.PAWL_SHOTS
/** Milliseconds. It ends a test that would never end, and says nothing of how fast a machine is. */
const patience = 180_000
/** What went wrong in any tab. A page asks on until it is closed, so all of it is looked at behind the last. */
const problems: string[] = []
let asked = 0

interface Desk {
  readonly site: StormSite
  readonly world: World
  readonly browser: Browser
  readonly tokens: Readonly<Record<'admin' | 'viewer', string>>
}

if (absent !== undefined) t.test('the dashboard in Chromium', { skip: absent }, () => undefined)
else await main()

async function main(): Promise<void> {
  const desk = await openDesk()
  await t.test('who has no token sees nothing, and is told so', (t) => refused(t, desk))
  await t.test('the fleet is found by typing, opened by keys, and changes as it happens', (t) =>
    fleet(t, desk),
  )
  await t.test('an action shows what it will do, does it, and says why it cannot', (t) => actions(t, desk))
  await t.test('a boot that is stuck says why, step by step', (t) => stuck(t, desk))
  await t.test('a node that leaves its cluster, or waits in its join, says for what', (t) => leaves(t, desk))
  await t.test('a channel is rolled out, moved and rolled back, each with what it means', (t) =>
    channels(t, desk),
  )
  await t.test('what a hostile machine says is shown harmlessly', (t) => harmless(t, desk))
  await t.test('a page left open through a killed server catches up by itself', (t) => catchesUp(t, desk))
  await t.test('every page is accessible, in light and dark, and fits a phone', (t) => accessible(t, desk))
  await t.test('ten thousand nodes', (t) => tenThousand(t, desk))
  await t.test('no page failed or broke its policy, and nothing is asked for elsewhere', async (t) => {
    await desk.browser.close()
    t.ok(asked > 100, `${asked} requests`)
    t.same(problems, [])
  })
}

async function openDesk(): Promise<Desk> {
  const site = await openSite(t)
  const world = await openAt(t, join(site.dataDir, 'pawl.db'), {})
  const secret = await storeDemoFleet(world)
  await storeNode(world, { name: 'node2', state: 'disabled', labels: '{"site":"fra"}' })
  await storeNode(world, { name: 'node3', state: 'ready', profile: demoProfile.name })
  await boot(world, machineOf(secret))
  const browser = await chromium.launch({ executablePath, args: flags, timeout: patience })
  t.teardown(() => browser.close())
  const made = await site.pawl(['operator', 'token', 'create', '--name', 'eve', '--role', 'viewer', '--json'])
  const admin = await site.pawl(['operator', 'token', 'create', '--name', 'ann', '--role', 'admin', '--json'])
  const tokens = { admin: JSON.parse(admin.stdout).token, viewer: JSON.parse(made.stdout).token }
  if (shots !== undefined) mkdirSync(shots, { recursive: true })
  return { site, world, browser, tokens }
}

/** A tab; what goes wrong in it, or leaves this server, fails the test at its end. */
async function openTab(
  t: Test,
  { browser, site }: Desk,
  options: Parameters<Browser['newContext']>[0] = {},
): Promise<{ page: Page; context: BrowserContext }> {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options })
  t.teardown(() => context.close())
  context.setDefaultTimeout(patience)
  const page = await context.newPage()
  page.on('pageerror', (error) => problems.push(`the page failed: ${error.message}`))
  page.on('console', (message) => {
    if (/content security policy|trusted/i.test(message.text())) problems.push(message.text())
  })
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url())
    if (protocol !== 'data:' && origin !== site.url) problems.push(`asked for elsewhere: ${request.url()}`)
    asked += 1
  })
  await page.goto(`${site.url}/`)
  return { page, context }
}

async function signIn(t: Test, desk: Desk, as: 'admin' | 'viewer', options = {}): Promise<Page> {
  const { page } = await openTab(t, desk, options)
  await page.getByLabel('Operator token').fill(desk.tokens[as])
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('heading', { name: 'Fleet' }).waitFor()
  return page
}

async function refused(t: Test, desk: Desk): Promise<void> {
  const { page } = await openTab(t, desk)
  await page.getByLabel('Operator token').fill('x'.repeat(44))
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('alert').filter({ hasText: 'this token opens nothing' }).waitFor()
  t.equal(await page.getByRole('navigation').count(), 0)
  const kept = await page.evaluate<number>('sessionStorage.length')
  t.equal(kept, 0, 'a wrong token is not kept')
}

async function fleet(t: Test, desk: Desk): Promise<void> {
  const page = await signIn(t, desk, 'admin')
  await page.getByRole('link', { name: 'node1' }).waitFor()
  t.match(await page.getByLabel('Nodes by state').innerText(), /3\s*all.*1\s*ready|3\s*all/s)
  await shot(page, 'fleet')
  await page.keyboard.press('/')
  await page.keyboard.type('site=fra')
  await page.getByRole('link', { name: 'node1' }).waitFor({ state: 'detached' })
  t.equal(await page.getByRole('link', { name: /^node/ }).count(), 1)
  t.match(page.url(), /q=site%3Dfra/, 'a search can be sent to somebody')
  await page.getByLabel('Search nodes').fill('')
  await page
    .getByRole('button', { name: /disabled/ })
    .first()
    .click()
  await page.getByRole('link', { name: 'node3' }).waitFor({ state: 'detached' })
  await page.getByRole('button', { name: /all/ }).first().click()
  await page.getByRole('button', { name: 'Name', exact: false }).first().click()
  t.equal(
    await page
      .getByRole('link', { name: /^node\d/ })
      .first()
      .innerText(),
    'node3',
    'sorted the other way',
  )
  await page.getByRole('button', { name: 'Name', exact: false }).first().click()

  const change = await desk.site.pawl(['node', 'add', 'node4', '--profile', 'demo'])
  t.equal(change.exit, 0, change.stderr)
  await page.getByRole('link', { name: 'node4' }).waitFor()

  await page.getByRole('region', { name: 'Nodes' }).focus()
  for (const key of ['Home', 'ArrowDown', 'ArrowUp', 'Enter']) await page.keyboard.press(key)
  await page.getByRole('heading', { name: /node1/ }).waitFor()
  await page.getByRole('img', { name: /full system/ }).waitFor()
  t.match(await page.getByRole('img', { name: /The boot's stages/ }).getAttribute('aria-label'), /join/)
  t.match(await page.locator('.events').innerText(), /session-opened/)
  await shot(page, 'node')
}

async function actions(t: Test, desk: Desk): Promise<void> {
  const page = await signIn(t, desk, 'admin')
  await page.getByRole('checkbox', { name: 'node1' }).check()
  await page.getByRole('checkbox', { name: 'node3' }).check()
  t.match(await page.getByRole('button', { name: 'Enable' }).getAttribute('title'), 'node1: it is enabled')
  await page.getByRole('button', { name: 'Mark for reinstall' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText('2 nodes change').waitFor()
  await shot(page, 'dialog')
  await page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'detached' })
  t.match(await nodeOf(desk, 'node1'), { reinstall: 'none' }, 'Escape does nothing')
  await page.getByRole('button', { name: 'Mark for reinstall' }).click()
  await dialog.getByRole('button', { name: 'Mark for reinstall' }).click()
  await dialog.waitFor({ state: 'detached' })
  t.match(await nodeOf(desk, 'node3'), { reinstall: 'marked' })
  await page
    .getByRole('button', { name: /marked/ })
    .first()
    .waitFor()

  await page.getByRole('checkbox', { name: 'node1' }).check()
  await page.getByRole('checkbox', { name: 'node3' }).check()
  await page.getByLabel('Search nodes').fill('node3')
  await page.getByText('1 node chosen').waitFor()
  await page.getByRole('button', { name: 'Disable', exact: true }).click()
  await page.evaluate("location.hash = '#/fleet'")
  await page.locator('a', { hasText: 'node1' }).waitFor()
  t.equal(
    await dialog.getByRole('heading').innerText(),
    'Disable: 1 node',
    'what comes into sight behind it is not added',
  )
  await page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'detached' })

  await page.goto(`${desk.site.url}/#/node/node2`)
  await page.getByRole('button', { name: 'Enable' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Enable' }).click()
  await page.locator('header .badge', { hasText: 'registered' }).waitFor()

  const eve = await signIn(t, desk, 'viewer')
  await eve.goto(`${desk.site.url}/#/node/node1`)
  const button = eve.getByRole('button', { name: 'Disable' })
  t.equal(await button.isDisabled(), true)
  t.equal(await button.getAttribute('title'), 'your role is viewer: this needs operator')
}

async function leaves(t: Test, desk: Desk): Promise<void> {
  const { db } = desk.world.context.storage
  const node = await db.selectFrom('nodes').selectAll().where('name', '=', 'node3').executeTakeFirstOrThrow()
  const at = new Date().toISOString()
  const row: LeavingRow = {
    ...{
      id: 'leaving1',
      node: node.id,
      name: 'node3',
      profile: 'demo',
      hooks: '{"leave":{"kind":"kubernetes"}}',
    },
    ...{ state: 'draining', passes: 1, was_unschedulable: 0, cordoned: 1, marked: 0, forced: 0, cause: null },
    ...{ waits_for: 'web-1: its disruption budget allows no eviction now', started_by: 'operator:ann' },
    // Nobody goes on with it while it is looked at.
    ...{ started_at: at, changed_at: at, next_at: '2099-01-01T00:00:00.000Z', deadline: at, ended_at: null },
  }
  await db.insertInto('leavings').values(row).execute()
  const key = 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg='
  await db.updateTable('nodes').set({ wireguard_public_key: key }).where('name', '=', 'node3').execute()
  const [own] = await db.selectFrom('processes').selectAll().execute()
  const waits = { node: 'node3', request: 'join', source: '192.0.2.1', since: at, at, times: 2, until: at }
  const why = 'no answer from the Kubernetes API in time'
  const load = { ...JSON.parse(own?.stats ?? '{}'), nodes: [{ ...waits, why }] }
  const told = { id: 'other', seen_at: '2099-01-01T00:00:00.000Z', stats: JSON.stringify(load) }
  await db
    .insertInto('processes')
    .values({ ...(own as NonNullable<typeof own>), ...told })
    .execute()
  const page = await signIn(t, desk, 'admin')
  await page.goto(`${desk.site.url}/#/node/node3`)
  const leaving = page.getByText('Leaving its cluster')
  await leaving.waitFor()
  t.match(
    await leaving.innerText(),
    /draining by kubernetes since .*: waits for web-1: its disruption budget allows no eviction now; nothing is scheduled to it, until .* at most, rebooted by you\./,
  )
  t.match(await page.getByText('its join waits').innerText(), why)
  t.match(await page.locator('details.about').innerText(), key)
  await shot(page, 'node-leaving')
  await db
    .updateTable('leavings')
    .set({ state: 'failed', cause: 'the cluster is gone', ended_at: at })
    .execute()
  await db.deleteFrom('processes').where('id', '=', 'other').execute()
  await page.reload()
  await page.getByText('Leaving its cluster').waitFor()
  t.match(await page.getByText('Leaving its cluster').innerText(), /failed since .*: the cluster is gone;/)
  await db.deleteFrom('leavings').execute()
}

async function stuck(t: Test, desk: Desk): Promise<void> {
  const { db } = desk.world.context.storage
  await storeProfile(desk.world, {
    ...demoProfile,
    ...{ name: 'timed', expect: { stage1: 60, stage2: 300, stage3: 300 } },
  })
  const secret = await storeNode(desk.world, { name: 'node6', profile: 'timed' })
  await boot(desk.world, machineOf(secret, { host: 'node6' }), 'stage2')
  const { id } = await db
    .selectFrom('nodes')
    .select('id')
    .where('name', '=', 'node6')
    .executeTakeFirstOrThrow()
  const { session } = await desk.site.api.get<{ session: { id: string } }>('/nodes/node6', {})
  const ago = (minutes: number): string => new Date(Date.now() - minutes * 60_000).toISOString()
  await db
    .updateTable('sessions')
    .set({ started_at: ago(110), last_seen_at: ago(100) })
    .where('id', '=', session.id)
    .execute()
  await db
    .updateTable('session_stages')
    .set({ opened_at: ago(110) })
    .where('session', '=', session.id)
    .execute()
  await db
    .updateTable('nodes')
    .set({ looping_since: ago(109) })
    .where('id', '=', id)
    .execute()
  const tls = JSON.stringify({ version: 'TLSv1.2', cipher: 'ECDHE-RSA-AES128-GCM-SHA256', resumed: true })
  const none = {
    session: session.id,
    stage: 'stage1',
    bytes: null,
    agent: null,
    tls: null,
    told: 0,
    times: 1,
  } as const
  await insertSpans(db as never, [
    {
      ...none,
      kind: 'asked',
      at: ago(110),
      seconds: 0,
      detail: hostile,
      agent: `iPXE/2.0.0 ${hostile}`,
      tls,
    },
    { ...none, kind: 'downloaded', at: ago(109), seconds: 120, bytes: 64_000_000, detail: 'initramfs' },
    { ...none, kind: 'refused', at: ago(105), seconds: 0, detail: 'stage2: spent-token', times: 7 },
  ])
  const text = `fetching the kernel\n${hostile}\n\u001b[2Jdigest does not match\n`
  await db
    .insertInto('session_logs')
    .values({ session: session.id, stage: 'stage2', at: ago(101), text, times: 1 })
    .execute()
  const page = await signIn(t, desk, 'admin')
  await page.reload()
  await page
    .getByRole('button', { name: /looping/ })
    .first()
    .click()
  await page.getByRole('link', { name: 'node6' }).waitFor()
  t.equal(await page.getByRole('link', { name: /^node/ }).count(), 1, 'loops can be filtered')
  await page.getByRole('link', { name: 'node6' }).click()
  await page.locator('.pace .badge', { hasText: 'stuck' }).waitFor()
  await page.getByText('it boots again and again').waitFor()
  t.equal(await page.getByRole('button', { name: 'Enable' }).isDisabled(), false, 'enabling ends the wait')
  await page.getByText('Step by step').click()
  const steps = page.getByRole('region', { name: 'Steps of the boot' })
  t.match(await steps.innerText(), /TLSv1\.2 .*resumed.*downloaded\s+2 min\s+61\.0 MiB.*refused × 7/s)
  t.notMatch(await steps.innerText(), /[\p{Cf}]/u)
  t.equal(await page.locator('#app img').count(), 0)
  const lines = await page.getByRole('region', { name: 'Console of stage2' }).innerText()
  const [first = '', second = '', third = ''] = lines.trim().split('\n')
  t.equal(first, 'fetching the kernel')
  t.match(second, '<img src=x onerror', 'markup is text')
  t.match(third, /^[^\p{Cc}\p{Cf}]+2Jdigest does not match$/u, 'what would move a cursor is a sign')
  t.ok((await page.locator('.gantt .usual').count()) > 0, 'the usual time is drawn')
  await shot(page, 'stuck')
}

async function channels(t: Test, desk: Desk): Promise<void> {
  for (const version of ['2', '3']) await publishImage(desk.world, `worker@${version}`, version)
  for (const asked of [
    ['channel', 'set', 'worker/stable', '2'],
    ['channel', 'set', 'worker/empty', '2'],
  ])
    t.match(await desk.site.pawl(asked), { exit: 0 })
  await storeProfile(desk.world, {
    ...demoProfile,
    ...{ name: 'followers', reinstall: undefined },
    boot: { ...demoProfile.boot, stage3: 'worker/stable' },
  })
  for (const name of ['w1', 'w2', 'w3']) await storeNode(desk.world, { name, profile: 'followers' })
  const page = await signIn(t, desk, 'admin')
  await page.goto(`${desk.site.url}/#/images`)
  const stable = page.getByRole('group', { name: 'Change worker/stable' })
  const dialog = page.getByRole('dialog')

  await stable.getByRole('button', { name: 'Roll out' }).click()
  await dialog.getByLabel('Waves').fill('1, two')
  await dialog.getByRole('alert').waitFor()
  t.equal(await dialog.getByRole('button', { name: 'Roll out' }).isDisabled(), true, 'waves that are none')
  await dialog.getByLabel('Waves').fill('1, 100%')
  await dialog.getByText('Wave 2 (100%): 3 nodes').waitFor()
  await shot(page, 'rollout-dialog')
  await dialog.getByRole('button', { name: 'Roll out' }).click()
  await dialog.waitFor({ state: 'detached' })
  await stable.locator('button[title*="a rollout is on"]').first().waitFor()
  await page.goto(`${desk.site.url}/#/rollouts`)
  await page.getByRole('button', { name: 'Roll back' }).click()
  await dialog.getByRole('button', { name: 'Roll back' }).click()
  await page.locator('.badge', { hasText: 'aborted' }).waitFor()

  await page.goto(`${desk.site.url}/#/images`)
  await stable.getByRole('button', { name: 'Move now' }).click()
  await dialog.getByText('The next boot of 3 nodes is of this version').waitFor()
  await dialog.getByLabel('Why').fill('by hand')
  await dialog.getByRole('button', { name: 'Move now' }).click()
  await dialog.waitFor({ state: 'detached' })
  await stable.getByRole('button', { name: 'Roll back' }).click()
  await dialog.getByText('Now 3, then 2 again.').waitFor()
  await dialog.getByRole('button', { name: 'Roll back' }).click()
  await dialog.waitFor({ state: 'detached' })
  t.match(await desk.site.api.get('/channels/worker/stable', {}), {
    version: '2',
    moves: [{ how: 'rollback' }, { how: 'set', version: '3', why: 'by hand' }, { how: 'set', version: '2' }],
  })
  await page
    .getByRole('group', { name: 'Change worker/empty' })
    .getByRole('button', { name: 'Roll back' })
    .click()
  await dialog.getByRole('button', { name: 'Roll back' }).click()
  await dialog.getByRole('alert').getByText('has no version before this one').waitFor()

  const eve = await signIn(t, desk, 'viewer')
  await eve.goto(`${desk.site.url}/#/images`)
  const button = eve
    .getByRole('group', { name: 'Change worker/stable' })
    .getByRole('button', { name: 'Move now' })
  t.equal(await button.getAttribute('title'), 'your role is viewer: this needs operator or publisher')
}

async function harmless(t: Test, desk: Desk): Promise<void> {
  const secret = await storeNode(desk.world, { name: 'evil', profile: 'demo' })
  const machine = machineOf(secret, { host: 'evil' })
  await boot(desk.world, machine, 'stage1')
  // What parsing lets through, and more than it ever would: the page must not depend on it.
  await desk.world.context.storage.db
    .updateTable('sessions')
    .set({ facts: JSON.stringify({ manufacturer: hostile, product: 'p'.repeat(1_000_000) }) })
    .where('node', 'in', (query) => query.selectFrom('nodes').select('id').where('name', '=', 'evil'))
    .execute()
  const page = await signIn(t, desk, 'admin')
  await page.goto(`${desk.site.url}/#/node/evil`)
  await page.getByText('evil 😀').waitFor()
  t.equal(await page.locator('#app img').count(), 0)
  t.equal(await page.title(), 'evil · Pawl')
  const text = await page.locator('#app').innerText()
  t.ok(text.length < 20_000, 'a long text is cut')
  t.notMatch(text, /[\p{Cc}\p{Cf}](?<!\n|\t)/u)
}

async function catchesUp(t: Test, desk: Desk): Promise<void> {
  const page = await signIn(t, desk, 'admin')
  await page.getByText('live', { exact: true }).waitFor()
  await desk.site.killAndRestart()
  const added = await desk.site.pawl(['node', 'add', 'late', '--profile', 'demo'])
  t.equal(added.exit, 0, added.stderr)
  await page.getByRole('link', { name: 'late' }).waitFor()
  await page.getByText('live', { exact: true }).waitFor()
}

async function accessible(t: Test, desk: Desk): Promise<void> {
  const places = ['fleet', 'node/node1', 'images', 'rollouts', 'pending', 'refusals', 'audit', 'nothing']
  for (const colorScheme of ['light', 'dark'] as const) {
    const phone = colorScheme === 'dark'
    const viewport = phone ? { width: 390, height: 844 } : { width: 1280, height: 800 }
    const page = await signIn(t, desk, 'admin', { colorScheme, viewport })
    for (const place of places) {
      await page.goto(`${desk.site.url}/#/${place}`)
      await page.getByRole('heading', { level: 1 }).waitFor()
      await page.locator('.page').waitFor()
      const { violations } = await new AxeBuilder({ page }).analyze()
      t.same(
        violations.map(
          ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 150)).join(' | ')}`,
        ),
        [],
        `${place}, ${colorScheme}`,
      )
      const wide = await page.evaluate<number>('document.documentElement.scrollWidth - window.innerWidth')
      t.ok(wide <= 0, `${place} at ${viewport.width} pixels is ${wide} wider than the page`)
      await shot(page, `${place.replaceAll('/', '-')}-${colorScheme}`)
    }
  }
}

async function tenThousand(t: Test, desk: Desk): Promise<void> {
  await storeManyNodes(desk.world, 10_000)
  const page = await signIn(t, desk, 'admin')
  const began = performance.now()
  await page.reload()
  await page.getByRole('link', { name: 'rack000-node00' }).waitFor()
  const first = performance.now() - began
  t.match(await page.getByLabel('Nodes by state').innerText(), /10,0\d\d\s*all/)
  t.ok((await page.locator('tbody tr').count()) < 100, 'rows out of sight are not in the page')
  const typing = performance.now()
  await page.getByLabel('Search nodes').fill('rack249-node39')
  await page.getByRole('link', { name: 'rack249-node39' }).waitFor()
  t.comment(`first view ${Math.round(first)} ms, found ${Math.round(performance.now() - typing)} ms`)
  await page.getByLabel('Search nodes').fill('')
  await page.getByRole('region', { name: 'Nodes' }).focus()
  await page.keyboard.press('End')
  await page.getByRole('link', { name: 'rack249-node39' }).waitFor()
  await shot(page, 'fleet-10000')
}

async function nodeOf(desk: Desk, name: string): Promise<unknown> {
  return desk.site.api.get(`/nodes/${name}`, {})
}

async function shot(page: Page, name: string): Promise<void> {
  if (shots !== undefined) await page.screenshot({ path: join(shots, `${name}.png`) })
}
