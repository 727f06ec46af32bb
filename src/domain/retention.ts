/**
 * Events are kept at least so many days, whatever the setting: a checkpoint that is younger must find everything that came
 * after it, so that nobody can pass off a deletion as retention.
 */
export const minRetentionDays = 7
