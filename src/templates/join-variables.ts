/** What each join's template is given, and each overlay's: a part of the table in `variables.ts`. */

const boot = { host: 'host', session: 'token', profile: 'shellWord' } as const

export const joinTemplateVariables = {
  'join-agent.sh': {
    ...boot,
    distribution: 'shellWord',
    server: 'shellWord',
    token: 'shellWord',
    fields: 'lists',
  },
  'join-nomad.sh': {
    ...boot,
    servers: 'shellWords',
    datacenter: 'shellWord',
    region: 'shellWordOrNone',
    nodePool: 'shellWordOrNone',
    dataDir: 'shellWord',
    introToken: 'shellWordOrNone',
  },
  'join-script.sh': { ...boot, script: 'base64', secret: 'base64OrNone' },
  'join-overlay-wireguard.sh': {
    ...boot,
    interface: 'shellWord',
    addresses: 'shellWords',
    listenPort: 'shellWordOrNone',
    mtu: 'shellWordOrNone',
    peers: 'peers',
  },
  'join-overlay-tailscale.sh': {
    ...boot,
    authKey: 'base64',
    loginServer: 'shellWordOrNone',
    tags: 'shellWords',
  },
  'join-overlay-zerotier.sh': { ...boot, networkId: 'shellWord' },
  'join-overlay-nebula.sh': {
    ...boot,
    ca: 'base64',
    certificate: 'base64',
    key: 'base64',
    lighthouses: 'lighthouses',
  },
} as const
