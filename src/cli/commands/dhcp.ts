import { type Command, Option } from 'commander'
import { parsePublicUrl, ValueFault } from '../../config-values.ts'
import { dnsmasqConfig } from '../../dhcp/dnsmasq.ts'
import { planDhcp } from '../../dhcp/entries.ts'
import { keaConfig } from '../../dhcp/kea.ts'
import { type DhcpFlags, type DhcpOptions, parseDhcpFlags } from '../../dhcp/options.ts'
import { PawlError } from '../../errors.ts'
import { answer, type Context } from '../context.ts'
import { withExamples } from '../examples.ts'
import { collect } from '../values.ts'

interface Flags extends DhcpFlags {
  readonly for: 'dnsmasq' | 'kea'
  readonly bootUrl?: string
}

const writers = { dnsmasq: dnsmasqConfig, kea: keaConfig } as const

/** Adds `pawl dhcp`. */
export function addDhcpCommands(program: Command, context: Context): void {
  const dhcp = program.command('dhcp').description('What a DHCP server must tell machines.')
  const command = dhcp
    .command('config')
    .description(
      "Write a DHCP server's configuration by which every firmware finds this Pawl: PXE of a BIOS and of UEFI, UEFI HTTPS Boot, and iPXE. It is made from the data folder's settings and iPXE binaries; lines with ADAPT or NOTE say what is left to do.",
    )
    .addOption(
      new Option('--for <SERVER>', 'the DHCP server').choices(['dnsmasq', 'kea']).makeOptionMandatory(),
    )
    .option('--interface <IF>', 'the network interface it answers on')
    .option(
      '--range <RANGE>',
      'the addresses it leases, FIRST-LAST/LENGTH; with --proxy the network. One for IPv4 and one for IPv6; without it only what Pawl needs is written',
      collect,
    )
    .option('--router <IP>', 'the gateway that IPv4 machines are told', collect)
    .option('--dns <IP>', 'a DNS server that machines are told. May be repeated', collect)
    .option('--proxy', 'another DHCP server leases the addresses: add only what firmware needs (dnsmasq)')
    .option(
      '--tftp-server <IP>',
      "the TFTP server's address, one of each family. Default: where Pawl's own listens",
      collect,
    )
    .option('--boot-url <URL>', 'how machines reach the boot listener. Default: the public URL')
    .option('--binary <NAME>', 'take this iPXE for the firmware it fits. May be repeated', collect)
    .action((flags: Flags) => write(context, flags))
  withExamples(command, [
    'pawl dhcp config --for dnsmasq --range 192.0.2.100-192.0.2.199/24',
    'pawl dhcp config --for dnsmasq --proxy --range 192.0.2.0/24',
    'pawl dhcp config --for kea --range 2001:db8::100-2001:db8::1ff/64',
  ])
}

async function write(context: Context, flags: Flags): Promise<void> {
  const options = parseDhcpFlags(flags, flags.bootUrl === undefined ? undefined : bootUrlOf(flags.bootUrl))
  if (flags.for === 'kea') checkForKea(options)
  // Reads settings and binaries: other commands start without it.
  const { dhcpSource } = await import('../dhcp-source.ts')
  const { faults, ...source } = await dhcpSource(context.io, context.flags())
  const unknown = options.binaries.find((name) => !source.binaries.some((binary) => binary.name === name))
  if (unknown !== undefined) {
    throw new PawlError('usage', `--binary: there is no iPXE ${JSON.stringify(unknown.slice(0, 100))}`, {
      hint: 'pawl ipxe list names them',
    })
  }
  const plan = planDhcp(source, options)
  const text = writers[flags.for](plan)
  const shown = {
    for: flags.for,
    text,
    entries: plan.entries.map(({ name, types, file }) => ({ firmware: name, types, file })),
    remarks: [...faults, ...plan.remarks],
  }
  answer(context, shown, () => {
    for (const line of text.trimEnd().split('\n')) context.output.line(line)
  })
  for (const remark of shown.remarks) context.output.warning(remark)
}

function checkForKea({ proxy, ranges }: DhcpOptions): void {
  if (proxy) {
    throw new PawlError('usage', 'Kea has no ProxyDHCP', {
      hint: 'let dnsmasq do that: --for dnsmasq --proxy',
    })
  }
  if (ranges.length > 1) {
    throw new PawlError('usage', 'Kea has one configuration for each family', {
      hint: 'run it once with the IPv4 range, for kea-dhcp4, and once with the IPv6 range, for kea-dhcp6',
    })
  }
}

function bootUrlOf(text: string): string {
  try {
    return parsePublicUrl(text)
  } catch (error) {
    if (!(error instanceof ValueFault)) throw error
    throw new PawlError('usage', `--boot-url ${JSON.stringify(text.slice(0, 200))} is not ${error.message}`)
  }
}
