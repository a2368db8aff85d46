"""Two deployments of one name: what each publishes and serves is seen by the other."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.config.load import load_config
from flowcraft_server.service.deployment import Deployment
from flowcraft_server.service.namespace_peers import NamespacePeers, Publication, look_around, warnings_about
from flowcraft_server.service.publishing import KeptPublished
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.testing.handlers import as_runnable


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=[], handlers={}, workers=0) as env:
        yield env


def deployment(env: TestEnvironment, folder: Path, prompt: str) -> Deployment:
    (folder / "b").mkdir(parents=True, exist_ok=True)
    (folder / "b" / "order.yaml").write_text(f"nodes: {{ask: {{uses: wait, params: {{prompt: {prompt}}}}}}}\n")
    (folder / "flowcraft.yaml").write_text(f"name: {env.namespace}\nblueprints: {{dirs: [b]}}\n")
    loaded = load_config(folder / "flowcraft.yaml")
    assert loaded.settings is not None, loaded.diagnostics
    return Deployment(loaded, loaded.settings, env.url)


def serve(env: TestEnvironment, by: str, handlers: str | None = None) -> None:
    """Have a worker of a deployment be seen."""
    client: Any = env.link.redis
    keys = Keys(env.namespace)
    client.zadd(keys.workers, {"peer": int(env.clock.now().timestamp() * 1000)})
    client.hset(keys.worker("peer"), mapping={"deployment": by} | ({} if handlers is None else {"handlers": handlers}))


def test_runs_that_need_a_handler_which_is_gone_are_reported_at_start_and_by_check(
    env: TestEnvironment, tmp_path: Path
) -> None:
    client: Any = env.link.redis
    ours = deployment(env, tmp_path / "m", "hello")
    env.handlers["charge"] = as_runnable("charge", lambda ctx: None)
    env.publish({"id": "older", "nodes": [{"id": "a", "uses": "wait"}, {"id": "b", "uses": "charge"}], "edges": []})
    assert ours.look_for_missing_handlers() == []
    runs = [env.client.start("older") for _ in range(2)]
    (reported,) = ours.look_for_missing_handlers()
    assert reported.startswith(
        "2 live runs need the handler 'charge', which no worker has any more (blueprint 'older', such as "
    )
    assert reported.endswith("serve the handler under that name until they have ended, or cancel them")
    serve(env, "h:/elsewhere/flowcraft.yaml", '["charge"]')
    assert ours.look_for_missing_handlers() == []  # another deployment of this name has it
    serve(env, "h:/elsewhere/flowcraft.yaml", '["other"]')
    assert len(ours.look_for_missing_handlers()) == 1
    client.delete(Keys(env.namespace).workers)
    for run in runs:
        run.cancel()
        run.wait(timeout=60)
    assert ours.look_for_missing_handlers() == []


def test_who_published_what_before_is_reported(env: TestEnvironment, tmp_path: Path) -> None:
    client: Any = env.link.redis
    first, second = deployment(env, tmp_path / "a", "one"), deployment(env, tmp_path / "b", "two")
    ours = first.publish(client)
    assert ours.before.change_of("order", ours.hashes["order"]) == "new"
    again = first.publish(client)
    assert again.before.change_of("order", again.hashes["order"]) == ""
    kept = KeptPublished(client, env.partitions, ours.hashes, lambda: None, 0.0, first.id)
    assert second.look_for_others(client) == []  # its publisher is gone: nothing takes turns with this deployment
    serve(env, first.id)
    _, warning = second.look_for_others(client)
    assert warning.startswith(
        f"blueprint 'order' is another one there: {ours.hashes['order'][:8]}, published by {first.id}"
    )

    theirs = second.publish(client)
    change = theirs.before.change_of("order", theirs.hashes["order"])
    assert change.startswith(f"changed, was {ours.hashes['order'][:8]}, published by {first.id} ")
    assert len(warnings_about(theirs.before, second.id, theirs.hashes)) == 2
    client.delete(env.partitions.home.workers)
    shown = [*kept.health(), *kept.health()]
    assert len(shown) == 1
    assert (
        f"new runs of 'order' get another version than the one published here: {theirs.hashes['order'][:8]}" in shown[0]
    )
    assert "two deployments share this name" in shown[0]


def test_workers_of_another_deployment_are_seen_and_copies_are_none(env: TestEnvironment) -> None:
    client: Any = env.link.redis
    keys = Keys(env.namespace)
    now = int(env.clock.now().timestamp() * 1000)
    for number, by in enumerate(["h1:/srv/a/flowcraft.yaml", "h2:/srv/a/flowcraft.yaml", "h2:/srv/b/flowcraft.yaml"]):
        client.zadd(keys.workers, {f"w{number}": now})
        client.hset(keys.worker(f"w{number}"), "deployment", by)
    client.zadd(keys.workers, {"old": now - 60_000, "unknown": now})
    client.hset(keys.worker("old"), "deployment", "h9:/srv/c/flowcraft.yaml")
    found = look_around(client, keys, "h1:/srv/a/flowcraft.yaml")
    assert found.workers == {"h2:/srv/a/flowcraft.yaml": 1, "h2:/srv/b/flowcraft.yaml": 1}
    (warning,) = warnings_about(found, "h1:/srv/a/flowcraft.yaml")
    assert warning.startswith("this name is served by 1 worker of h2:/srv/b/flowcraft.yaml too")


@pytest.mark.parametrize(
    "raw", ["", "[]", "{}", '{"plan": 1}', "null", json.dumps({"plan": "p", "by": "x", "at": "soon"})]
)
def test_a_record_that_cannot_be_read_is_passed_over(env: TestEnvironment, raw: str) -> None:
    client: Any = env.link.redis
    keys = Keys(env.namespace)
    client.hset(keys.blueprints, "odd", "p")
    client.hset(keys.publishers, "odd", raw)
    assert look_around(client, keys, "").published["odd"] == Publication("p")
    client.hdel(keys.blueprints, "odd")


def test_a_publication_reads_as_one_phrase() -> None:
    before = NamespacePeers({"a": Publication("0123456789", "", 0)}, {})
    assert before.change_of("a", "f") == "changed, was 01234567"
