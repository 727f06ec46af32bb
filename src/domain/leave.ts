import { PawlError } from '../errors.ts'
import { joinKinds } from './join.ts'
import type { Profile, SequenceName } from './profile.ts'
import Type, { type Static } from './schema.ts'
import { parseWebhookUrl } from './webhook.ts'

/** How a node leaves its cluster before it is reinstalled, and how it is rebooted then: settings of its profile, as data. */
const strict = { additionalProperties: false } as const

const timeoutSeconds = Type.Optional(Type.Integer({ minimum: 10, maximum: 86_400 }))

const webhook = Type.Object(
  {
    kind: Type.Literal('webhook'),
    url: Type.String({ maxLength: 2048 }),
    /** What signs, as Standard Webhooks writes it: `whsec_` and base64 of 24 to 64 bytes. */
    secret: Type.String({ pattern: '^whsec_[A-Za-z0-9+/]{32,86}={0,2}$' }),
    /** PEM: the only roots that the receiver is believed by. */
    ca: Type.Optional(Type.String({ maxLength: 65_536 })),
    timeoutSeconds,
  },
  strict,
)

const kubernetes = Type.Object(
  {
    kind: Type.Literal('kubernetes'),
    /** A kubeconfig, or `join`: that of the profile's join. */
    kubeconfig: Type.String({ minLength: 1, maxLength: 131_072 }),
    timeoutSeconds,
    /** How long a pod may take to end; left out, its own. */
    gracePeriodSeconds: Type.Optional(Type.Integer({ minimum: 0, maximum: 86_400 })),
    /** Evict pods with emptyDir volumes too, whose data is lost. */
    deleteEmptyDirData: Type.Optional(Type.Boolean()),
    /** Evict pods too that no controller makes again. */
    force: Type.Optional(Type.Boolean()),
    /** Remove the node's object when it is drained, so that it joins as a new one and can be scheduled to. */
    deleteNode: Type.Optional(Type.Boolean()),
  },
  strict,
)

export const leaveSchema = Type.Union([kubernetes, webhook])
export const rebootSchema = webhook

/** How a node leaves. */
export type Leave = Static<typeof leaveSchema>
export type KubernetesLeave = Static<typeof kubernetes>

/** A webhook that does a step of leaving. */
export type HookCall = Static<typeof webhook>

/** A profile's hooks. */
export interface LeaveHooks {
  readonly leave?: Leave
  readonly reboot?: HookCall
}

/** Long enough for pods that take their default 30 s, and for a budget that lets them go one by one. */
export const defaultTimeoutSeconds: Readonly<Record<Leave['kind'], number>> = {
  kubernetes: 900,
  webhook: 600,
}

/** What stands for the kubeconfig of the join. */
export const kubeconfigOfJoin = 'join'

/** The secret setting of each kind of hook. */
export function secretOfHook({ kind }: Pick<Leave, 'kind'>): 'kubeconfig' | 'secret' {
  return kind === 'kubernetes' ? 'kubeconfig' : 'secret'
}

/** The same hooks with each secret passed through `change`, which is told of which hook it is. */
export function mapHookSecrets(
  { leave, reboot }: LeaveHooks,
  change: (value: string, hook: 'leave' | 'reboot', setting: string) => string,
): LeaveHooks {
  const changed = <Hook extends Leave>(hook: Hook, name: 'leave' | 'reboot'): Hook => {
    const setting = secretOfHook(hook)
    const value = (hook as Readonly<Record<string, unknown>>)[setting]
    if (typeof value !== 'string' || (setting === 'kubeconfig' && value === kubeconfigOfJoin)) return hook
    return { ...hook, [setting]: change(value, name, setting) }
  }
  return {
    ...(leave === undefined ? {} : { leave: changed(leave, 'leave') }),
    ...(reboot === undefined ? {} : { reboot: changed(reboot, 'reboot') }),
  }
}

/** Which sequence's join has the kubeconfig that `leave` says is the join's. */
export function joinWithKubeconfig(profile: Pick<Profile, SequenceName>): SequenceName | undefined {
  return (['boot', 'reinstall'] as const).find((name) => {
    const sequence = profile[name]
    if (typeof sequence !== 'object' || !('join' in sequence)) return false
    const { kind, settings } = sequence.join
    return (
      joinKinds[kind].secretSettings.includes('kubeconfig') &&
      settings !== undefined &&
      'kubeconfig' in settings
    )
  })
}

/** What is wrong with hooks that their schema cannot say: the field, and the rest of the sentence about it. Throws `invalid` for a URL. */
export function hooksFault(
  profile: Pick<Profile, SequenceName> & LeaveHooks,
): { readonly at: string; readonly what: string } | undefined {
  const { leave, reboot } = profile
  if (reboot !== undefined && leave === undefined)
    return {
      at: 'reboot',
      what: 'needs "leave": it is what "pawl node drain-and-reinstall" does when a node has left',
    }
  if (leave !== undefined && profile.reinstall === undefined)
    return { at: 'leave', what: 'needs a reinstall sequence: a node leaves to be reinstalled' }
  for (const [name, hook] of [
    ['leave', leave],
    ['reboot', reboot],
  ] as const)
    if (hook?.kind === 'webhook') checkHookUrl(hook.url, `${name} hook`)
  if (
    leave?.kind === 'kubernetes' &&
    leave.kubeconfig === kubeconfigOfJoin &&
    joinWithKubeconfig(profile) === undefined
  )
    return { at: 'leave.kubeconfig', what: 'says "join", and no join of the profile has a kubeconfig' }
  return undefined
}

/** A hook's URL stands in the profile, which every viewer sees: nothing in it may be what lets us in. */
function checkHookUrl(text: string, of: string): void {
  const hint = 'the signature is what proves us: profiles, with this URL, are shown to viewers'
  const url = parseWebhookUrl(text, of, hint)
  if (url.search !== '' || text.includes('?'))
    throw new PawlError('invalid', `the ${of}'s URL has a query`, { hint })
}
