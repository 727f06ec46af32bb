/** The time now. Only `main.ts` has a real one; everything else is handed one. */
export type Clock = () => Date

/** `date` moved by a number of seconds. */
export function addSeconds(date: Date, seconds: number): Date {
  return new Date(date.getTime() + seconds * 1000)
}
