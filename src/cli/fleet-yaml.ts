import type { FleetExport } from './answers.ts'
import { asciiYaml } from './yaml-text.ts'

/** The line by which editors find the schema of a file: beside it, as `pawl export --schema` prints it. */
export const schemaLine = '# yaml-language-server: $schema=fleet.schema.json'

/** A file to be written. */
export interface FleetFile {
  readonly name: string
  readonly lines: readonly string[]
  /** Whether it is filled in by hand, and left alone from then on. */
  readonly toFillIn?: true
}

/** A fleet as files: profiles first, since people read them so; order means nothing to `pawl apply`. */
export function writeFleet(
  { nodes, profiles, channels, extensions }: FleetExport,
  head: readonly string[] = [],
): FleetFile[] {
  const files = [
    { name: 'profiles.yaml', documents: profiles.map((profile) => ({ kind: 'Profile', ...profile })) },
    {
      name: 'channels.yaml',
      documents: channels.map(({ channel, ...rest }) => ({ kind: 'Channel', name: channel, ...rest })),
    },
    {
      name: 'extensions.yaml',
      documents: extensions.map((extension) => ({ kind: 'Extension', ...extension })),
    },
    { name: 'nodes.yaml', documents: nodes.length === 0 ? [] : [{ kind: 'Nodes', nodes }] },
  ]
  return files
    .filter(({ documents }) => documents.length > 0)
    .map(({ name, documents }, index) => ({
      name,
      lines: [
        ...(index === 0 ? head : []),
        schemaLine,
        ...documents.flatMap((document) => ['---', ...asciiYaml(document)]),
      ],
    }))
}
