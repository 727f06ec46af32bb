import { Document, type Scalar, visit } from 'yaml'

/**
 * A value as YAML in printable ASCII: what else a text holds is escaped in double quotes, so that it moves no cursor, and
 * reads back to the same.
 */
export function asciiYaml(value: unknown): string[] {
  const document = new Document(value)
  visit(document, {
    Scalar(_key, node: Scalar) {
      if (typeof node.value === 'string' && /[^ -~]/.test(node.value)) node.type = 'QUOTE_DOUBLE'
    },
  })
  // Not folded: a line break in quotes would be one more thing to read back.
  const text = document.toString({ lineWidth: 0 })
  return text
    .replace(
      /[^\n -~]/gu,
      (character) => `\\U${(character.codePointAt(0) ?? 0).toString(16).padStart(8, '0')}`,
    )
    .trimEnd()
    .split('\n')
}
