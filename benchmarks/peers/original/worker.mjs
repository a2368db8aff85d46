// A worker of the original with its BullMQ adapter and its own concurrency: node worker.mjs PORT
import { BullMQAdapter, RedisCoordinationStore } from '@flowcraft/bullmq-adapter'
import IORedis from 'ioredis'
import { graphs } from './graphs.mjs'

const connection = new IORedis({ host: '127.0.0.1', port: Number(process.argv[2]), maxRetriesPerRequest: null })
const silent = () => undefined
const adapter = new BullMQAdapter({
  connection,
  queueName: 'peer',
  coordinationStore: new RedisCoordinationStore(connection),
  runtimeOptions: {
    registry: { noop: async ({ input }) => ({ output: input ?? 1 }) },
    blueprints: graphs,
    logger: { debug: silent, info: silent, warn: silent, error: silent },
  },
})
adapter.start()
process.stdin.on('end', () => process.exit(0)).resume()
