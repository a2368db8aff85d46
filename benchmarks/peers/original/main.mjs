// Throughput and idle latency of the original: node main.mjs PORT throughput GRAPH RUNS PROCESSES | node main.mjs PORT latency ROUNDS PAUSE
// The client writes blueprintId and blueprintVersion into the state: without them the worker drops every job.
import { spawn } from 'node:child_process'
import { performance } from 'node:perf_hooks'
import { Queue } from 'bullmq'
import IORedis from 'ioredis'
import { first, graphs } from './graphs.mjs'

const [port, what, ...rest] = process.argv.slice(2)
const redis = new IORedis({ host: '127.0.0.1', port: Number(port), maxRetriesPerRequest: null })
const queue = new Queue('peer', { connection: redis })
const pause = (ms) => new Promise((done) => setTimeout(done, ms))
const workers = (count) =>
  [...Array(count)].map(() => spawn(process.execPath, [new URL('worker.mjs', import.meta.url).pathname, port], { stdio: ['pipe', 'ignore', 'inherit'] }))

async function start(graph, runId) {
  const blueprintId = graphs[graph].id
  await redis.hset(`workflow:state:${runId}`, 'blueprintId', JSON.stringify(blueprintId), 'blueprintVersion', 'null')
  await queue.add('executeNode', { runId, blueprintId, nodeId: first(graph) })
}

async function ended() {
  let cursor = '0', count = 0
  do {
    const [next, keys] = await redis.scan(cursor, 'MATCH', 'workflow:status:*', 'COUNT', 5000)
    cursor = next
    count += keys.length
  } while (cursor !== '0')
  return count
}

async function throughput(graph, runs, processes) {
  for (let i = 0; i < runs; i++) await start(graph, `r${i}`)
  const children = workers(processes)
  while ((await queue.getActiveCount()) === 0 && (await ended()) === 0) await pause(2)
  const begin = performance.now()
  while ((await ended()) < runs) {
    if (performance.now() - begin > 120_000) throw new Error('the runs do not end')
    await pause(20)
  }
  const seconds = (performance.now() - begin) / 1000
  for (const child of children) child.stdin.end()
  return { 'nodes/s': (runs * graphs[graph].nodes.length) / seconds }
}

async function latency(rounds, interval) {
  const children = workers(1)
  await pause(2000)
  const taken = []
  for (let i = interval > 1 ? -3 : -100; i < rounds; i++) {
    const begin = performance.now()
    await start('chain3', `l${interval}-${i}`)
    while (!(await redis.get(`workflow:status:l${interval}-${i}`))) await pause(interval)
    if (i >= 0) taken.push(performance.now() - begin)
  }
  for (const child of children) child.stdin.end()
  return { taken }
}

const figures = what === 'latency' ? await latency(Number(rest[0]), Number(rest[1])) : await throughput(rest[0], Number(rest[1]), Number(rest[2]))
console.log(JSON.stringify(figures))
process.exit(0)
