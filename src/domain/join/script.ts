import { isPawlError, PawlError } from '../../errors.ts'
import Type from '../schema.ts'
import { type DocumentValues, documentFault, renderDocument, tryDocument } from './document.ts'
import type { JoinKind } from './kind.ts'

const settings = Type.Object(
  {
    /** The script, with `{{ host }}` and the like in it. Its first line says what runs it. */
    script: Type.String({ minLength: 1, maxLength: 32_768 }),
    /** What the script needs and nobody else may see: it is told of a file that holds it. */
    secret: Type.Optional(Type.String({ minLength: 1, maxLength: 8_192 })),
  },
  { additionalProperties: false },
)

/** Runs a script of the profile. */
export const script: JoinKind<typeof settings> = {
  settings,
  secretSettings: ['secret'],
  template: 'join-script.sh',
  variables(given, { host, session, profile, sequence, labels }) {
    const values = { host, session, instanceId: session, profile, sequence }
    const text =
      labels === undefined ? tryDocument(given.script) : rendered(given.script, { ...values, labels })
    return { script: base64(text), secret: given.secret === undefined ? '' : base64(given.secret) }
  },
  // What is in a script is not ours to see.
  credential: () => 'static',
  fault({ script }) {
    if (!/^#!\/[!-~]+( [ -~]+)?\n/.test(script))
      return { at: 'script', message: 'does not begin with what runs it: a line like "#!/bin/sh"' }
    if (script.includes('\0'))
      return { at: 'script', message: 'holds a NUL, where every program stops reading' }
    return documentFault('script', script)
  },
}

function rendered(text: string, values: DocumentValues): string {
  try {
    return renderDocument(text, values)
  } catch (error) {
    if (!isPawlError(error, 'render-failed')) throw error
    throw new PawlError('render-failed', `join: settings.script ${error.message}`)
  }
}

function base64(text: string): string {
  return Buffer.from(text.endsWith('\n') ? text : `${text}\n`).toString('base64')
}
