import { ApiError, get } from './api.ts'
import { type FleetState, watchFleet } from './fleet-store.ts'
import { useEffect, useRef, useState } from './html.ts'
import { listen } from './live.ts'
import type { EventView } from './shapes.ts'

/** What was asked for: there, not yet there, or why not. */
export interface Loaded<T> {
  readonly value: T | undefined
  readonly error: ApiError | undefined
  /** Asks again. */
  readonly again: () => void
}

/** Asks for a path, again when it changes, and soon after each event that concerns it. What was there stays until then. */
export function useApi<T>(path: string | undefined, concerns?: (event: EventView) => boolean): Loaded<T> {
  const [loaded, setLoaded] = useState<{ path?: string; value?: T; error?: ApiError }>({})
  const asked = useRef(0)
  const again = (): void => {
    if (path === undefined) return
    asked.current += 1
    const mine = asked.current
    const current = (): boolean => mine === asked.current
    get<T>(path).then(
      (value) => current() && setLoaded({ path, value }),
      (error: unknown) => current() && setLoaded((before) => ({ ...before, path, error: apiError(error) })),
    )
  }
  useEffect(again, [path])
  useEffect(() => {
    if (concerns === undefined) return undefined
    let timer: ReturnType<typeof setTimeout> | undefined
    const soon = (): void => {
      timer ??= setTimeout(() => {
        timer = undefined
        again()
      }, 500)
    }
    const end = listen({ onEvent: (event) => concerns(event) && soon(), onGap: soon })
    return () => {
      clearTimeout(timer)
      end()
    }
  }, [path])
  const isOf = loaded.path === path
  return { value: isOf ? loaded.value : undefined, error: isOf ? loaded.error : undefined, again }
}

/** The fleet, as it changes. */
export function useFleet(): FleetState {
  const [state, setState] = useState<FleetState>({
    nodes: new Map(),
    more: false,
    loading: true,
    error: undefined,
  })
  useEffect(() => watchFleet(setState), [])
  return state
}

/** The time, again every so many milliseconds: ages on the page grow. */
export function useNow(everyMilliseconds = 1000): number {
  const [now, setNow] = useState(() => Date.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMilliseconds)
    return () => clearInterval(timer)
  }, [everyMilliseconds])
  return now
}

/** An error as one of the API. */
export function apiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, 'unknown', String(error))
}
