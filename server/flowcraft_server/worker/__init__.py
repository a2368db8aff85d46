"""What runs nodes in a worker process.

Follow a node through it: `thread_loop` (a thread claims nodes), `claimed_nodes` (from the claim to an attempt), `node_runner`
with `dispatcher` (from the attempt to its outcome; `coroutine_runner` on the event loop of `async_executor`), `outcome_calls`
(from the outcome to the script call), `commit_batcher` (calls go out together), `outcome_recorder` (the reply, the next node).

`attempt_control` ends attempts in other ways: time-outs, lost leases, shutdown. `worker` puts the parts together; the threads
beside them are in `background`. Huey is imported here alone, in `huey_app`.

Imported by: cli, service, testing.
"""
