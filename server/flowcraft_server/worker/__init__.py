"""What runs nodes in a worker process.

Follow a node through it: `thread_loop` (a thread claims and runs), `node_runner` (claim to outcome to script call),
`async_executor` (coroutines), `commit_batcher` (outcomes go out together); `worker` puts the parts together, and the threads
beside them are in `background`. Huey is imported here alone, in `huey_app`.
"""
