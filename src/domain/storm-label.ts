/** The label of nodes that are not there: `pawl storm` boots them. What they do says nothing of machines. */
export const stormLabel = 'pawl-storm'
