import { readFile, stat } from 'node:fs/promises'
import type { Manifest } from '../domain/image.ts'
import { maxManifestBytes } from '../domain/image.ts'
import { PawlError } from '../errors.ts'
import type { Io } from './io.ts'
import { parsePairs } from './values.ts'

/** What a manifest says of its making, beside what is in it. */
export type About = Pick<Manifest, 'creator' | 'createdAt' | 'sourceRevision' | 'annotations'>

/** The flags it is told by. */
export interface AboutFlags {
  readonly creator?: string
  readonly created?: string
  readonly sourceRevision?: string
  readonly annotation?: readonly string[]
  readonly annotations?: string
}

/**
 * What is known of an image's making: from the flags, else from what CI says, else the user and the clock. The time is
 * SOURCE_DATE_EPOCH where it is set, as in every reproducible build.
 */
export async function readAbout(io: Io, flags: AboutFlags): Promise<About> {
  const { env } = io
  const creator = flags.creator ?? env.GITHUB_ACTOR ?? env.GITLAB_USER_LOGIN ?? env.USER
  const sourceRevision = flags.sourceRevision ?? env.GITHUB_SHA ?? env.CI_COMMIT_SHA
  const annotations = await readAnnotations(flags)
  return {
    ...(creator === undefined || creator === '' ? {} : { creator }),
    createdAt: flags.created ?? toTheSecond(buildTime(io)),
    ...(sourceRevision === undefined || sourceRevision === '' ? {} : { sourceRevision }),
    ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
  }
}

/**
 * The same files again are the same version, though a later run has another clock or user: what no flag says is taken
 * from the version that is published.
 */
export function aboutAsPublished(about: About, flags: AboutFlags, published: Manifest): About {
  const { creator, createdAt, sourceRevision } = published
  return {
    ...about,
    ...(flags.creator === undefined && creator !== undefined ? { creator } : {}),
    ...(flags.created === undefined && createdAt !== undefined ? { createdAt } : {}),
    ...(flags.sourceRevision === undefined && sourceRevision !== undefined ? { sourceRevision } : {}),
  }
}

function buildTime({ env, now }: Io): Date {
  const epoch = env.SOURCE_DATE_EPOCH
  if (epoch === undefined || epoch === '') return now()
  if (/^\d{1,11}$/.test(epoch)) return new Date(Number(epoch) * 1000)
  throw new PawlError('usage', `SOURCE_DATE_EPOCH is "${epoch}", not seconds since 1970`)
}

function toTheSecond(time: Date): string {
  return time.toISOString().replace(/\.\d+Z$/, 'Z')
}

async function readAnnotations({
  annotation = [],
  annotations,
}: AboutFlags): Promise<Record<string, string>> {
  const fromFile = annotations === undefined ? {} : await readAnnotationFile(annotations)
  const single = parsePairs(annotation, false, '--annotation') as Record<string, string> // no value may be empty
  return { ...fromFile, ...single }
}

async function readAnnotationFile(path: string): Promise<Record<string, string>> {
  const value = await readJson(path)
  const isPairs = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (isPairs && Object.values(value).every((member) => typeof member === 'string'))
    return value as Record<string, string>
  throw new PawlError('invalid', `${path} is not one JSON object of texts: {"name": "text", …}`)
}

async function readJson(path: string): Promise<unknown> {
  try {
    const { size } = await stat(path)
    if (size > maxManifestBytes) throw new PawlError('too-large', `${path} is larger than a manifest may be`)
    return JSON.parse(await readFile(path, 'utf8'))
  } catch (error) {
    if (error instanceof PawlError) throw error
    if (error instanceof SyntaxError) throw new PawlError('invalid', `${path} is not JSON`)
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown'
    throw new PawlError(code === 'ENOENT' ? 'not-found' : 'invalid', `${path} cannot be read (${code})`)
  }
}
