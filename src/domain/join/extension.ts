import { operationPattern } from '../extension.ts'
import Type, { Compile } from '../schema.ts'
import type { JoinKind } from './kind.ts'

const settings = Type.Object(
  {
    /** Which extension is asked; the profile lists it, and says `joinFromExtension: true`. */
    operation: Type.String({ pattern: operationPattern }),
    /** What it answers: what kubeadm needs, as ePoxy's `allocate_k8s_token` does, or a script that is run as it is. */
    answer: Type.Union([Type.Literal('kubeadm'), Type.Literal('script')]),
  },
  { additionalProperties: false },
)

/** Joins by what an extension answers for this boot. */
export const extension: JoinKind<typeof settings> = {
  settings,
  secretSettings: [],
  template: 'join-kubeadm.sh',
  // For trying a profile out only: a boot has what the extension answers put in their place.
  variables: () => ({
    endpoint: 'api.example.com:6443',
    token: 'abcdef.0123456789abcdef',
    caCertHash: `sha256:${'0'.repeat(64)}`,
  }),
  credential: () => 'static',
}

/** What ePoxy's `allocate_k8s_token` answers; more fields are none of ours. */
const allocated = Compile(
  Type.Object({
    api_address: Type.String({ pattern: '^[A-Za-z0-9.\\[\\]:-]{1,253}:[0-9]{1,5}$' }),
    token: Type.String({ pattern: '^[a-z0-9]{6}\\.[a-z0-9]{16}$' }),
    ca_hash: Type.String({ pattern: '^sha256:[0-9a-f]{64}$' }),
  }),
)

/** What kubeadm is given, from an answer; undefined where it is not of that form. */
export function kubeadmAnswer(
  text: string,
): { readonly endpoint: string; readonly token: string; readonly caCertHash: string } | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (!allocated.Check(value)) return undefined
  return { endpoint: value.api_address, token: value.token, caCertHash: value.ca_hash }
}

/** A script, from an answer; undefined where it is none: it begins with `#!/`, and holds no control characters. */
export function scriptAnswer(text: string): string | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return /^#!\/[!-~]/.test(text) && !/[\0-\x08\x0b-\x1f\x7f\ufffd]/.test(text) ? text : undefined
}
