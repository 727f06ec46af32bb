import { PawlError } from '../errors.ts'
import {
  formatImageRef,
  type ImageName,
  type ImageRef,
  type ImageVersion,
  parseImageName,
  parseImageRef,
  parseImageVersion,
} from './image.ts'
import { quote } from './node.ts'

/** A channel: a name for a version of an image that moves, `worker/stable`. */
export interface ChannelRef {
  readonly name: ImageName
  readonly channel: string
}

/** What a profile names: a version that stays, or a channel that moves. */
export type ImageSource =
  | ({ readonly kind: 'version' } & ImageRef)
  | ({ readonly kind: 'channel' } & ChannelRef)

/** Reads `name/channel`; throws `invalid`. */
export function parseChannelRef(text: string): ChannelRef {
  const [before, after, ...more] = text.split('/')
  if (before === undefined || after === undefined || more.length > 0)
    throw new PawlError('invalid', `${quote(text)} is not of the form name/channel`)
  return { name: parseImageName(before), channel: parseChannelName(after) }
}

/** Writes `name/channel`. */
export function formatChannelRef({ name, channel }: { name: string; channel: string }): string {
  return `${name}/${channel}`
}

/** Reads `name@version` or `name/channel`; throws `invalid`. */
export function parseImageSource(text: string): ImageSource {
  if (text.includes('/')) return { kind: 'channel', ...parseChannelRef(text) }
  if (text.includes('@')) return { kind: 'version', ...parseImageRef(text) }
  throw new PawlError('invalid', `${quote(text)} is neither name@version nor name/channel`)
}

/** Reads the version that a channel is to point at: `VERSION`, or `name@VERSION` of the same name; throws `invalid`. */
export function parseVersionFor(channel: ChannelRef, text: string): ImageVersion {
  if (!text.includes('@')) return parseImageVersion(text)
  const ref = parseImageRef(text)
  if (ref.name === channel.name) return ref.version
  throw new PawlError(
    'invalid',
    `channel ${formatChannelRef(channel)} cannot point at ${formatImageRef(ref)}`,
    {
      hint: 'a channel points at versions of its own image',
    },
  )
}

function parseChannelName(text: string): string {
  try {
    return parseImageName(text)
  } catch {
    throw new PawlError('invalid', `${quote(text)} is not a channel name`, {
      hint: 'use 1 to 63 of a-z, 0-9, ".", "_" and "-", beginning with a letter or digit, without ".."',
    })
  }
}
