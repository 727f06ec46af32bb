import Type from './schema.ts'

/** What files may say where a value comes from, when they are applied: it is read by whoever applies them. */
export const valueSources = [
  Type.Object(
    { fromEnv: Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]{0,127}$' }) },
    {
      additionalProperties: false,
      description: 'The value of an environment variable of whoever applies the file.',
    },
  ),
  Type.Object(
    { fromFile: Type.String({ minLength: 1, maxLength: 1024 }) },
    {
      additionalProperties: false,
      description:
        'The first line of a file, or the whole of it for a secret of lines; beside this one where the path is relative.',
    },
  ),
] as const

/** The same for a secret. `***` keeps the one that is stored. */
export const secretSources = [
  ...valueSources,
  Type.Literal('***', { description: 'Keeps the value that is stored.' }),
] as const
