/** What each template is given. The names also stand in each template's opening comment (a test compares them). */
export interface TemplateVariables {
  'autoexec.ipxe': { publicUrl: string; host: string; secret: string; whenServerAbsent: 'retry' | 'local' }
  'stage1.ipxe': {
    host: string
    session: string
    kernelUrl: string
    initramfsUrl: string
    handoverUrl: string
    capability: string
    handoverToken: string
    kernelArguments: readonly string[]
    kernelSha256: string
    initramfsSha256: string
    verifyDigests: boolean
    uefi: boolean
  }
  'held.ipxe': { host: string; attempts: number }
  'local-boot.ipxe': { host: string; uefi: boolean }
  'pending.ipxe': {
    code: string
    mac: string
    uuid: string
    serial: string
    manufacturer: string
    product: string
  }
  'epoxy-stage1.ipxe': {
    stage1ChainUrl: string
    stage2Url: string
    stage3Url: string
    reportUrl: string
    imagesVersion: string
  }
  'join-none.sh': {
    host: string
    session: string
    profile: string
    settings: readonly { name: string; value: string }[]
  }
  'join-kubeadm.sh': {
    host: string
    session: string
    profile: string
    endpoint: string
    token: string
    caCertHash: string
  }
}

export type TemplateName = keyof TemplateVariables

/** The names again, for checking templates when they are loaded. */
export const templateVariables: {
  readonly [Name in TemplateName]: readonly (keyof TemplateVariables[Name])[]
} = {
  'autoexec.ipxe': ['publicUrl', 'host', 'secret', 'whenServerAbsent'],
  'stage1.ipxe': [
    'host',
    'session',
    'kernelUrl',
    'initramfsUrl',
    'handoverUrl',
    'capability',
    'handoverToken',
    'kernelArguments',
    'kernelSha256',
    'initramfsSha256',
    'verifyDigests',
    'uefi',
  ],
  'held.ipxe': ['host', 'attempts'],
  'local-boot.ipxe': ['host', 'uefi'],
  'pending.ipxe': ['code', 'mac', 'uuid', 'serial', 'manufacturer', 'product'],
  'epoxy-stage1.ipxe': ['stage1ChainUrl', 'stage2Url', 'stage3Url', 'reportUrl', 'imagesVersion'],
  'join-none.sh': ['host', 'session', 'profile', 'settings'],
  'join-kubeadm.sh': ['host', 'session', 'profile', 'endpoint', 'token', 'caCertHash'],
}
