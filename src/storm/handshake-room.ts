/**
 * So many handshakes of one client process are under way at one time. Real machines have a processor each; ours share one, and with
 * thousands begun at once none would be over within its time: what timed out then would be this client, not the server.
 */
const atOnce = 200

/** Where nodes wait before they connect. First come, first served. */
export class HandshakeRoom {
  readonly #waiting: (() => void)[] = []
  readonly #onHeld: (milliseconds: number) => void
  #underWay = 0

  /** `onHeld` is told how long each waited that had to. */
  constructor(onHeld: (milliseconds: number) => void) {
    this.#onHeld = onHeld
  }

  /** Resolves when there is room; what it resolves to gives the place back, once. */
  async enter(): Promise<() => void> {
    if (this.#underWay >= atOnce) {
      const begun = performance.now()
      await new Promise<void>((resolve) => this.#waiting.push(resolve)) // with the place of who has left
      this.#onHeld(performance.now() - begun)
    } else this.#underWay += 1
    let left = false
    return () => {
      if (left) return
      left = true
      const next = this.#waiting.shift()
      if (next === undefined) this.#underWay -= 1
      else next()
    }
  }
}
