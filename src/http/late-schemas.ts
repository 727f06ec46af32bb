import { createRequire } from 'node:module'
import type { FastifySchemaCompiler, FastifyServerOptions } from 'fastify'

type Compilers = Required<
  NonNullable<NonNullable<FastifyServerOptions['schemaController']>['compilersFactory']>
>
type SerializerBuilder = Compilers['buildSerializer']

const load = createRequire(import.meta.url)
// What Fastify would take by itself, which is installed for it.
const loadForFastify = createRequire(load.resolve('fastify'))

/**
 * The `schemaController` of a Fastify: schemas of requests and answers are compiled when the first request of their route comes, and what
 * compiles them is loaded then. At a start they were a third of it, for routes most of which nobody asks. That all of them compile is a
 * test's to say.
 */
export const lateSchemas = {
  compilersFactory: {
    buildValidator: (() => compileRequests) as unknown as Compilers['buildValidator'], // named for ajv's own
    buildSerializer: (schemas, options) => {
      const compiler = once(() => serializers()()(schemas, options))
      return (route) => {
        const serialize = once(() => compiler()(route))
        return (answer) => serialize()(answer)
      }
    },
  } satisfies Compilers,
}

/** Loads what compiles, in pieces: for a server that is ready and has nothing else to do. */
export const neededByOperators: readonly (() => void)[] = [
  () => load('typebox/type'),
  () => load('typebox/value'),
  validators,
  serializers,
]

const compileRequests: FastifySchemaCompiler<never> = (route) => {
  const validate = once(() => validators().TypeBoxValidatorCompiler(route))
  return (value: unknown) => validate()(value)
}

function validators(): typeof import('@fastify/type-provider-typebox') {
  return load('@fastify/type-provider-typebox')
}

function serializers(): () => SerializerBuilder {
  return loadForFastify('@fastify/fast-json-stringify-compiler')
}

function once<T>(make: () => T): () => T {
  let made: { readonly one: T } | undefined
  return () => {
    made ??= { one: make() }
    return made.one
  }
}
