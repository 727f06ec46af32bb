/** The answers of the API, by type only, as the command line has them. */
export type * from '../cli/answers.ts'
