import t from 'tap'
import { applyFleet } from '../../src/fleet/fleet-apply.ts'
import { addNode, changeNode } from '../../src/fleet/nodes.ts'
import { applyProfile } from '../../src/fleet/profiles.ts'
import { sharedAddresses } from '../../src/fleet/shared-addresses.ts'
import { showStatus } from '../../src/fleet/status.ts'
import { publishImage } from '../helpers/fleet.ts'
import { forEachDatabase, servedTemplates, type World } from '../helpers/world.ts'

/** Several nodes behind one address (NAT): said when it comes about, everywhere it can. */
const by = { actor: 'operator:ann', source: null, role: 'admin' } as const
const nat = '203.0.113.7'
const remedy = 'Behind a NAT a profile needs "secret" as evidence too'

const profileOf = (name: string, evidence: string[]) => ({
  ...{ name, evidence, acceptAddressOnly: true, acceptUnsigned: true },
  boot: { stage2: 'small@1', stage3: 'full@1' },
})

await forEachDatabase(t, async (t, openWorld) => {
  async function open(): Promise<World> {
    const world = await openWorld({ templates: servedTemplates() })
    await publishImage(world, 'small@1', 'a', false)
    await publishImage(world, 'full@1', 'b')
    for (const [name, evidence] of [
      ['place', ['address']],
      ['sealed', ['address', 'certificate']],
      ['both', ['address', 'secret']],
      ['plain', ['secret']],
    ] as const)
      await applyProfile(world.context, by, name, profileOf(name, [...evidence]))
    return world
  }
  const add = (world: World, name: string, profile: string | undefined, ...addresses: string[]) =>
    addNode(world.context, by, { name, addresses, ...(profile === undefined ? {} : { profile }) })

  await t.test('adding and changing a node: told by what its profile asks for', async (t) => {
    const world = await open()
    t.same((await add(world, 'first', 'place', nat)).warnings, [], 'one alone is proved by it')
    const nothing = `node "first" has address ${nat} too: it proves nothing alone`
    const refused = (profile: string) =>
      `${nothing}, and profile "${profile}" asks for nothing else: boots from it are refused. ${remedy}`
    t.same((await add(world, 'second', 'place', nat)).warnings, [refused('place')])
    t.equal((await add(world, 'third', 'both', nat)).warnings[0], nothing, 'its secret proves it')
    t.equal((await add(world, 'fourth', 'plain', nat)).warnings[0], nothing)
    const moved = await changeNode(world.context, by, 'fourth', { profile: 'sealed' })
    t.equal(moved.warnings[0], refused('sealed'), 'stock iPXE shows no certificate')
  })

  await t.test('a place is no proof: none registered, a prefix, an IPv6 /64', async (t) => {
    const world = await open()
    t.same((await add(world, 'none', 'place')).warnings, [
      'no address is registered, and profile "place" asks for nothing else: boots are refused',
    ])
    const prefix =
      'a prefix is a place and proves nothing, and profile "place" asks for nothing else: boots are refused'
    t.same((await add(world, 'wide', 'place', '198.51.100.0/24')).warnings, [prefix])
    t.same((await add(world, 'wide6', 'place', '2001:db8:1::/64')).warnings, [prefix])
    t.same((await add(world, 'one6', 'place', '2001:db8:1::/64', '2001:db8:1::5')).warnings, [])
    t.same((await add(world, 'else', 'both')).warnings, [])
    t.same(await sharedAddresses(world.context.storage.db), [], 'a prefix is shared with nobody')
  })

  await t.test(
    'applying a profile that asks for the address alone names the nodes that share one',
    async (t) => {
      const world = await open()
      for (const name of ['a', 'b']) await add(world, name, 'plain', nat)
      await add(world, 'c', undefined, nat)
      const { warnings } = await applyProfile(world.context, by, 'plain', profileOf('plain', ['address']))
      t.same(warnings, [
        `nodes a, b, c share the address ${nat}, which proves none of them: boots of nodes a, b are refused. ${remedy}`,
      ])
      const mended = await applyProfile(world.context, by, 'plain', profileOf('plain', ['address', 'secret']))
      t.same(mended.warnings, [])
    },
  )

  await t.test('fleet files: the plan says it before anything is done', async (t) => {
    const world = await open()
    const nodes = ['a', 'b'].map((name) => ({ name, profile: 'place', addresses: [nat] }))
    const request = { set: 'site', nodes, profiles: [], channels: [] }
    const plan = await applyFleet(world.context, by, { ...request, dryRun: true })
    t.same(
      plan.warnings.map(({ name, message }) => [name, message.slice(-remedy.length)]),
      [
        ['a', remedy],
        ['b', remedy],
      ],
    )
    t.same(await sharedAddresses(world.context.storage.db), [], 'nothing was done')
    const turned = { ...request, profiles: [profileOf('place', ['address', 'secret'])] }
    const better = await applyFleet(world.context, by, { ...turned, dryRun: true })
    t.same(
      better.warnings.filter(({ message }) => message.includes('NAT')),
      [],
      'judged by the profile as it will be',
    )
  })

  await t.test('the status counts them, and each is named with who is refused', async (t) => {
    const world = await open()
    for (let number = 1; number <= 7; number += 1) await add(world, `n${number}`, 'place', nat)
    await add(world, 'single', 'place', '203.0.113.8')
    t.equal((await showStatus(world.context)).sharedAddresses, 1)
    const names = ['n1', 'n2', 'n3', 'n4', 'n5', 'n6', 'n7']
    t.same(await sharedAddresses(world.context.storage.db), [{ address: nat, nodes: names, refused: names }])
    const { warnings } = await applyProfile(world.context, by, 'place', {
      ...profileOf('place', ['address']),
      kernelArguments: 'quiet',
    })
    t.match(warnings[0], /^nodes n1, n2, n3, n4, n5 and 2 more share the address/)
  })
})
