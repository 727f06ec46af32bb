/** What operators may be, the least first; where several fit, the last of them counts. */
export const roleNames = ['viewer', 'publisher', 'operator', 'admin'] as const

/** The name of a role. */
export type RoleName = (typeof roleNames)[number]
