import type { DhcpPlan, Entry } from './entries.ts'
import type { LeaseRange } from './options.ts'

/**
 * Writes the plan as a configuration of ISC Kea (2.2 or later): `Dhcp4`, or `Dhcp6` where the range is of IPv6. Kea can look into
 * iPXE's own option, so that only an iPXE without HTTPS is sent to a newer one.
 */
export function keaConfig(plan: DhcpPlan): string {
  const comments = [
    'Made by pawl dhcp config: how machines find their way to Pawl. Check it with kea-dhcp4 -t or kea-dhcp6 -t.',
    ...(plan.interface === undefined ? ['ADAPT: name the interface: "*" is every one.'] : []),
    ...(plan.ranges.length === 0
      ? [
          'ADAPT: no --range was given: put option-def and client-classes into the configuration that leases addresses.',
        ]
      : []),
    ...(isIpv6(plan) || plan.routers.length > 0 ? [] : ['ADAPT: no router is told to machines (--router).']),
    ...plan.remarks.map((remark) => `NOTE: ${remark}.`),
  ]
  const document = isIpv6(plan) ? { Dhcp6: dhcp6(plan) } : { Dhcp4: dhcp4(plan) }
  return `${comments.map((line) => `// ${line}`).join('\n')}\n${JSON.stringify(document, null, 2)}\n`
}

function isIpv6({ ranges }: DhcpPlan): boolean {
  return ranges.some(({ family }) => family === 6)
}

function common({ interface: name }: DhcpPlan) {
  return {
    'interfaces-config': { interfaces: [name ?? '*'] },
    'valid-lifetime': 3600,
    'lease-database': { type: 'memfile', persist: true, 'lfc-interval': 3600 },
  }
}

/** The feature of that name in iPXE's option (DHCP_EB_FEATURE_HTTPS). */
const hasHttps = 'option[175].option[20].exists'

function dhcp4(plan: DhcpPlan) {
  const { entries, tftp, ranges, routers, dns, scriptUrl } = plan
  const dns4 = dns.filter((address) => !address.includes(':'))
  return {
    ...common(plan),
    'option-def': [
      { name: 'ipxe', code: 175, space: 'dhcp4', type: 'empty', encapsulate: 'ipxe' },
      { name: 'https', code: 20, space: 'ipxe', type: 'uint8' },
      { name: 'no-pxedhcp', code: 176, space: 'ipxe', type: 'uint8' },
    ],
    'client-classes': [
      {
        name: 'pawl-ipxe',
        test: hasHttps,
        'boot-file-name': scriptUrl,
        // Without them iPXE waits two seconds for a ProxyDHCP server (DHCP_EB_NO_PXEDHCP).
        'option-data': [{ name: 'ipxe' }, { name: 'no-pxedhcp', space: 'ipxe', data: '1' }],
      },
      ...entries
        .filter(({ by }) => by === 'https' || tftp.ipv4 !== undefined)
        .map((entry) => ({
          name: `pawl-${entry.name}`,
          test: `(${typeTest(93, entry)}) and not ${hasHttps}`,
          'boot-file-name': entry.file,
          ...(entry.by === 'tftp'
            ? { 'next-server': tftp.ipv4 }
            : {
                'option-data': [{ name: 'vendor-class-identifier', data: 'HTTPClient', 'always-send': true }],
              }),
        })),
    ],
    subnet4: ranges.map((range) => ({
      ...subnet(range),
      'option-data': [
        ...(routers.length > 0 ? [{ name: 'routers', data: routers.join(', ') }] : []),
        ...(dns4.length > 0 ? [{ name: 'domain-name-servers', data: dns4.join(', ') }] : []),
      ],
    })),
  }
}

/** "HTTPClient" of enterprise 343 (Intel), as UEFI 2.10 section 24.7.3 wants it in the answer. */
const httpClient6 = '00000157000A48545450436C69656E74'
/** In DHCPv6 iPXE calls itself by its user class (option 15), an item of two bytes length and four of text. */
const isIpxe6 = "substring(option[15].hex, 2, 4) == 'iPXE'"

function dhcp6(plan: DhcpPlan) {
  const { entries, tftp, ranges, dns, scriptUrl, interface: name } = plan
  const dns6 = dns.filter((address) => address.includes(':'))
  const served = entries.filter(
    ({ platform, by }) => platform === 'efi' && (by === 'https' || tftp.ipv6 !== undefined),
  )
  const url = ({ by, file }: Entry): string => (by === 'https' ? file : `tftp://[${tftp.ipv6}]/${file}`)
  return {
    ...common(plan),
    'client-classes': [
      {
        name: 'pawl-ipxe',
        test: isIpxe6,
        'option-data': [
          {
            name: 'bootfile-url',
            data: tftp.ipv6 === undefined ? scriptUrl : `tftp://[${tftp.ipv6}]/autoexec.ipxe`,
          },
        ],
      },
      ...served.map((entry) => ({
        name: `pawl-${entry.name}`,
        test: `(${typeTest(61, entry)}) and not (${isIpxe6})`,
        'option-data': [
          { name: 'bootfile-url', data: url(entry) },
          ...(entry.by === 'https'
            ? [
                {
                  name: 'vendor-class',
                  code: 16,
                  'csv-format': false,
                  data: httpClient6,
                  'always-send': true,
                },
              ]
            : []),
        ],
      })),
    ],
    subnet6: ranges
      .filter(({ family }) => family === 6)
      .map((range) => ({
        ...subnet(range),
        ...(name === undefined ? {} : { interface: name }),
        'option-data': dns6.length > 0 ? [{ name: 'dns-servers', data: dns6.join(', ') }] : [],
      })),
  }
}

function typeTest(option: number, { types }: Entry): string {
  return types.map((type) => `option[${option}].hex == 0x${type.toString(16).padStart(4, '0')}`).join(' or ')
}

function subnet({ network, prefixLength, first, last }: LeaseRange) {
  return { id: 1, subnet: `${network}/${prefixLength}`, pools: [{ pool: `${first} - ${last}` }] }
}
