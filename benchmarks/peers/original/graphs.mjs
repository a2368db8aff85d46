// The graphs of benchmarks/setting.py, for the TypeScript original.
const names = (prefix, count) => [...Array(count).keys()].map((i) => `${prefix}${i}`)

const chain = (count) => ({
  id: `chain${count}`,
  nodes: names('n', count).map((id) => ({ id, uses: 'noop' })),
  edges: names('n', count - 1).map((id, i) => ({ source: id, target: `n${i + 1}` })),
})

const fan = (width) => ({
  id: `fan${width}`,
  nodes: ['s', ...names('w', width), 'j'].map((id) => ({ id, uses: 'noop' })),
  edges: names('w', width).flatMap((id) => [{ source: 's', target: id }, { source: id, target: 'j' }]),
})

export const graphs = { chain3: chain(3), chain10: chain(10), fan20: fan(20) }
export const first = (graph) => graphs[graph].nodes[0].id
