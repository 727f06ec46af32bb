import type { DhcpPlan, Entry } from './entries.ts'
import type { LeaseRange } from './options.ts'

/**
 * Writes the plan as a configuration of dnsmasq (2.86 or later). All values in it were checked: they have no line break, and no
 * comma that dnsmasq would split at.
 */
export function dnsmasqConfig(plan: DhcpPlan): string {
  const sections = [
    header(plan),
    network(plan),
    matches(plan),
    plan.proxy ? proxyServices(plan) : pxeEntries(plan),
    httpEntries(plan),
    scriptEntries(plan),
    ...(plan.proxy ? [] : [dhcpv6(plan)]),
  ]
  return `${sections
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n')}\n`
}

function header({ remarks, proxy, interface: name, ranges }: DhcpPlan): string[] {
  return [
    '# Made by pawl dhcp config: how machines find their way to Pawl. Check it with dnsmasq --test.',
    ...(proxy
      ? ['# ProxyDHCP: another DHCP server leases the addresses, this one adds what firmware needs.']
      : []),
    ...(name === undefined
      ? ['# ADAPT: name the interface (interface=NAME), or dnsmasq answers on every one.']
      : []),
    ...(ranges.length === 0
      ? ['# ADAPT: no --range was given: this is to be included by a DHCP server that leases addresses.']
      : []),
    ...remarks.map((remark) => `# NOTE: ${remark}.`),
  ]
}

function network(plan: DhcpPlan): string[] {
  const { interface: name, ranges, routers, dns, proxy } = plan
  if (ranges.length === 0) return []
  const [dns4, dns6] = [dns.filter((each) => !each.includes(':')), dns.filter((each) => each.includes(':'))]
  const has = (family: 4 | 6): boolean => ranges.some((range) => range.family === family)
  return [
    '# No DNS: leave this line out where dnsmasq is the DNS server too.',
    'port=0',
    ...(name === undefined ? [] : [`interface=${name}`, 'bind-dynamic']),
    ...ranges.map((range) =>
      proxy ? `dhcp-range=${range.network},proxy,${maskOf(range)}` : rangeLine(range),
    ),
    ...(proxy || !has(4)
      ? []
      : [
          // Without these lines dnsmasq names itself.
          routers.length > 0
            ? `dhcp-option=option:router,${routers.join(',')}`
            : '# ADAPT: the router (--router). An empty option keeps dnsmasq from naming itself.\ndhcp-option=option:router',
          dns4.length > 0
            ? `dhcp-option=option:dns-server,${dns4.join(',')}`
            : 'dhcp-option=option:dns-server',
        ]),
    ...(has(6) ? ['enable-ra'] : []),
    ...(has(6) && dns6.length > 0
      ? [`dhcp-option=option6:dns-server,${dns6.map((each) => `[${each}]`).join(',')}`]
      : []),
  ]
}

function rangeLine({ family, first, last, prefixLength, ...range }: LeaseRange): string {
  return family === 4
    ? `dhcp-range=${first},${last},${maskOf({ ...range, family, first, last, prefixLength })},1h`
    : `dhcp-range=${first},${last},${prefixLength},1h`
}

function maskOf({ prefixLength }: LeaseRange): string {
  const mask = 2 ** 32 - 2 ** (32 - prefixLength)
  return [24, 16, 8, 0].map((shift) => Math.floor(mask / 2 ** shift) % 256).join('.')
}

/** Who asks: iPXE by the option that is its own, firmware by its architecture. */
function matches({ entries }: DhcpPlan): string[] {
  return [
    '# Who asks: iPXE has an option of its own; firmware tells its architecture.',
    'dhcp-match=set:ipxe,175',
    ...entries.flatMap(({ name, types }) =>
      types.map((type) => `dhcp-match=set:${name},option:client-arch,${type}`),
    ),
  ]
}

function byTftp(entries: readonly Entry[]): Entry[] {
  return entries.filter(({ by }) => by === 'tftp')
}

function pxeEntries({ entries, tftp: { ipv4 } }: DhcpPlan): string[] {
  if (ipv4 === undefined) return []
  return byTftp(entries).flatMap(({ name, words, file }) => [
    `# ${words}: iPXE by TFTP.`,
    `dhcp-boot=tag:${name},tag:!ipxe,${file},,${ipv4}`,
  ])
}

function proxyServices({ entries, tftp: { ipv4 } }: DhcpPlan): string[] {
  if (ipv4 === undefined) return []
  return byTftp(entries).flatMap(({ words, file, pxeService = [] }) => [
    `# ${words}: iPXE by TFTP.`,
    ...pxeService.map((system) => `pxe-service=tag:!ipxe,${system},"Pawl",${file},${ipv4}`),
  ])
}

function httpEntries({ entries, proxy }: DhcpPlan): string[] {
  const http = entries.filter(({ by }) => by === 'https')
  if (http.length === 0) return []
  return [
    // A proxy answers only those whose vendor class it knows.
    ...(proxy
      ? [
          '# HTTPClient is what firmware that boots by HTTPS calls itself.',
          'dhcp-pxe-vendor=PXEClient,HTTPClient',
        ]
      : []),
    ...http.flatMap(({ name, words, file }) => [
      `# ${words}: the firmware must have the root certificate (TlsCaCertificate).`,
      `dhcp-boot=tag:${name},tag:!ipxe,${file}`,
      `dhcp-option-force=tag:${name},60,HTTPClient`,
    ]),
  ]
}

function scriptEntries({ proxy, tftp: { ipv4 }, scriptUrl }: DhcpPlan): string[] {
  return [
    ...(ipv4 === undefined
      ? ['# iPXE: the site script.', `dhcp-boot=tag:ipxe,${scriptUrl}`]
      : [
          '# iPXE: the site script. By TFTP, as an old iPXE in a NIC has no HTTPS: the script loads it a newer one. Where every iPXE has',
          `# HTTPS and trusts the root: dhcp-boot=tag:ipxe,${scriptUrl}`,
          `dhcp-boot=tag:ipxe,autoexec.ipxe,,${ipv4}`,
        ]),
    // DHCP_EB_NO_PXEDHCP of iPXE.
    ...(proxy
      ? []
      : [
          '# Without this it waits two seconds for a ProxyDHCP server.',
          'dhcp-option=tag:ipxe,encap:175,176,1b',
        ]),
  ]
}

function dhcpv6({ entries, ranges, tftp: { ipv6 }, scriptUrl }: DhcpPlan): string[] {
  if (ranges.length > 0 && !ranges.some(({ family }) => family === 6)) return []
  const served = byTftp(entries).filter(({ platform }) => platform === 'efi' && ipv6 !== undefined)
  return [
    '# IPv6: PXE by options 61 (architecture), 15 (user class) and 59 (URL). Not HTTPS Boot: for that firmware wants a vendor class',
    '# (option 16) in the answer, which dnsmasq cannot write in its form. Kea can: pawl dhcp config --for kea with an IPv6 range.',
    'dhcp-userclass=set:ipxe6,iPXE',
    ...served.flatMap((entry) => [
      ...entry.types.map(
        (type) => `dhcp-match=set:${entry.name}-6,option6:61,00:${type.toString(16).padStart(2, '0')}`,
      ),
      `dhcp-option=tag:${entry.name}-6,tag:!ipxe6,option6:bootfile-url,tftp://[${ipv6}]/${entry.file}`,
    ]),
    `dhcp-option=tag:ipxe6,option6:bootfile-url,${ipv6 === undefined ? scriptUrl : `tftp://[${ipv6}]/autoexec.ipxe`}`,
  ]
}
