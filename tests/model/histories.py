"""Random blueprints and random histories: each step is taken by the scripts and by the model, which must agree."""

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.compiling.loops import Link, find_loops
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.engine.claims import Claim, parse_claim
from flowcraft_server.engine.plans import sole_successor
from flowcraft_server.store.link import StoreLink
from tests.model.run_model import TERMINAL, ModelEdge, RunModel

LETTERS = {
    "P": "pending", "R": "ready", "L": "running", "T": "retrying", "W": "waiting", "C": "completed", "F": "failed",
    "K": "caught", "S": "skipped", "X": "cancelled",
}  # fmt: skip
LEASE = 10_000
LONG = 10**9


@st.composite
def blueprints(draw: st.DrawFn) -> dict[str, Any]:
    """A plain blueprint: forward edges, some edges back, both joins, fallbacks, either failure policy."""
    count = draw(st.integers(1, 8))
    names = [f"n{i}" for i in range(count)]
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=12)) if pairs else []
    loops = draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=3))
    plain_edges = [
        {"source": names[i], "target": names[j], **({"action": "go"} if draw(st.booleans()) else {})} for i, j in edges
    ]
    plain_edges += [
        {"source": names[max(pair)], "target": names[min(pair)], "action": "again"} for pair in dict.fromkeys(loops)
    ]
    targets = {edge["target"] for edge in plain_edges}
    nodes: list[dict[str, Any]] = []
    free = [name for name in names[1:] if name not in targets]
    for name in names:
        config: dict[str, Any] = {}
        if draw(st.booleans()):
            config["joinStrategy"] = draw(st.sampled_from(["any", "all"]))
        usable = [other for other in free if other > name] if name in free else free
        if usable and draw(st.integers(0, 2)) == 0:
            config["fallback"] = draw(st.sampled_from(usable))
        nodes.append({"id": name, "uses": "x", **({"config": config} if config else {})})
    last = []
    if draw(st.integers(0, 2)) == 0:
        for node in nodes:
            if draw(st.booleans()):
                node.setdefault("config", {})["compensate"] = draw(st.sampled_from([f"undo-{node['id']}", "undo"]))
        undoing = dict.fromkeys(
            node["config"]["compensate"] for node in nodes if "compensate" in node.get("config", {})
        )
        nodes += [{"id": name, "uses": "x"} for name in undoing]
    if draw(st.integers(0, 2)) == 0:
        last = ["f0", "f1", "f2", "f3"][: draw(st.integers(1, 4))]
        nodes += [{"id": name, "uses": "x"} for name in last]
        plain_edges += [{"source": "f0", "target": "f1"}] if "f1" in last else []
        if "f3" in last:
            nodes[-2]["config"] = {"fallback": "f3"}
    return {
        "id": "history",
        "nodes": nodes,
        "edges": plain_edges,
        **({"finally": last} if last else {}),
        "onFailure": draw(st.sampled_from(["stop", "continue"])),
    }


def leads_to(edges: list[ModelEdge], source: str, target: str) -> bool:
    """Whether there is a way from one node to another. A fallback that leads back is refused by the linter."""
    seen, queue = {source}, [source]
    while queue:
        node = queue.pop()
        for edge in edges:
            if edge.source == node and edge.target not in seen:
                seen.add(edge.target)
                queue.append(edge.target)
    return target in seen


def model_of(blueprint: Blueprint) -> RunModel:
    """The model of a run of a blueprint."""
    counts: dict[str, int] = {}
    edges = []
    links = []
    for edge in blueprint.edges:
        index = counts.get(edge.source, 0)
        counts[edge.source] = index + 1
        edges.append(ModelEdge(edge.source, edge.target, index))
        links.append(Link(edge.source, edge.target, edge.action is not None))
    for node in blueprint.nodes:
        if node.config.fallback:
            edges.append(ModelEdge(node.id, node.config.fallback, 0, "fallback"))
            links.append(Link(node.id, node.config.fallback, True, True))
    stands_in = {edge.target for edge in edges if edge.kind == "fallback"}
    plan = compile_blueprint(blueprint)
    forest = find_loops({node.id: node.uses for node in blueprint.nodes}, links)
    if any(edge.kind == "fallback" and leads_to(edges, edge.target, edge.source) for edge in edges):
        reject()
    return RunModel(
        nodes=[node.id for node in blueprint.nodes],
        edges=edges,
        joins={n.id: "any" if n.id in stands_in else (n.config.join or "all") for n in blueprint.nodes},
        forest=forest,
        starts=plan.starts,
        continue_on_failure=blueprint.on_failure == "continue",
        compensations={n.id: n.config.compensate for n in blueprint.nodes if n.config.compensate is not None},
        finally_nodes=blueprint.finally_nodes,
        finally_starts=tuple(json.loads(plan.fields["meta"]).get("finally", ())),
    )


@dataclass
class History:
    """One run, driven step by step on both sides."""

    link: StoreLink
    keys: Keys
    blueprint: Blueprint
    run_id: str = field(default_factory=lambda: secrets.token_hex(6))
    held: list[Claim] = field(default_factory=list)
    entries: dict[str, Any] = field(default_factory=dict)
    spent: list[Claim] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    model: RunModel = field(init=False)
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None:  # that a call may take
            self.link.redis.hset(self.keys.settings, "steps", self.steps)
        plan = compile_blueprint(self.blueprint)
        pipe = self.link.redis.pipeline()
        self.entries = {name[2:]: json.loads(text) for name, text in plan.fields.items() if name.startswith("n:")}
        pipe.hset(self.keys.plan(plan.hash), mapping=dict(plan.fields))
        pipe.hset(self.keys.blueprints, self.blueprint.id, plan.hash)
        pipe.execute()
        self.model = model_of(self.blueprint)

    def begin(self) -> None:
        call = scripts.start(
            self.keys, token="t", run_id=self.run_id, blueprint_id=self.blueprint.id, digest="", context={}
        )
        assert self.link.call(call)[0] == b"started"
        assert self.link.call(call)[0] == b"started", "a start that was sent twice"
        self.model.begin()
        self.check()

    def claim_request(self, how: str) -> ClaimRequest:
        return ClaimRequest("w", LEASE, "default,default!", how)

    def take(self, reply: Any) -> None:
        """Note a claim that a script brought."""
        claim = parse_claim(reply)
        assert self.model.state[claim.instance_id] == "ready", (
            f"claimed {claim.instance_id}, which is {self.model.state[claim.instance_id]}"
        )
        assert (claim.attached is not None) == (claim.instance_id in self.model.attached)
        self.model.state[claim.instance_id] = "running"
        self.held.append(claim)

    def step(self, choice: int, bits: int) -> None:
        """Take one of the steps that are possible now."""
        steps = [self.claim, self.late, self.lease_runs_out]
        if self.held:
            steps += [self.complete, self.complete, self.complete, self.fail, self.retry]
        if choice % 23 == 0:
            steps = [self.cancel]
        if choice % 19 == 0:
            steps = [self.written_over]
        steps[choice % len(steps)](bits)
        self.check()

    def claim(self, bits: int) -> None:
        self.log.append("claim")
        for reply in self.link.call(scripts.claim(self.keys, self.claim_request("q"), 1 + bits % 2)):
            self.take(reply)

    def complete(self, bits: int) -> None:
        claim = self.held.pop(bits % len(self.held))
        out = self.model.out(claim.instance_id)
        taken = {edge.index for edge in out if bits >> (edge.index + 3) & 1}
        decisions = "".join("t" if edge.index in taken else "d" for edge in out)
        self.log.append(f"complete {claim.instance_id} {decisions}")
        how = "q" if bits & 1 else "-"
        caught = claim.attached is not None
        call = self.completion(claim, decisions, how, caught)
        was_running = self.model.state[claim.instance_id] == "running"
        assert was_running
        self.model.complete(claim.instance_id, taken)
        reply = self.link.call(call)
        assert reply[0] == b"ok", reply
        if reply[2]:
            self.take(reply[2])
        self.spent.append(claim)

    def completion(self, claim: Claim, decisions: str, how: str, caught: bool) -> ScriptCall:
        # Every other time without the successor: the script has to find out by itself then, and must come to the same.
        reported = decisions in ("", "t") and len(self.log) % 2
        successor = sole_successor(self.entries, claim.node_id) if reported else scripts.NO_SUCCESSOR
        return scripts.complete(
            self.keys, self.claim_request(how), run_id=self.run_id, instance_id=claim.instance_id, fencing_token=claim.fencing_token, plan=claim.plan_hash,
            state="K" if caught else "C", action="", decisions=decisions, output=b"1", successor=successor,
        )  # fmt: skip

    def late(self, bits: int) -> None:
        """Somebody who lost the node, or had his call sent twice, hands in an outcome: nothing may change."""
        if not self.spent:
            return
        claim = self.spent[bits % len(self.spent)]
        self.log.append(f"late {claim.instance_id}")
        decisions = "t" * len(self.model.out(claim.instance_id))
        assert self.link.call(self.completion(claim, decisions, "-", False))[0] in (b"stale", b"already")

    def fail(self, bits: int) -> None:
        claim = self.held.pop(bits % len(self.held))
        self.log.append(f"fail {claim.instance_id}")
        verdict = "fatal" if claim.attached is not None else "final"
        call = self.failure(claim, verdict)
        self.model.fail(claim.instance_id)
        assert self.link.call(call)[0] == b"ok"
        self.spent.append(claim)

    def retry(self, bits: int) -> None:
        if self.held[bits % len(self.held)].attached is not None:
            return self.fail(bits)
        claim = self.held.pop(bits % len(self.held))
        self.log.append(f"retry {claim.instance_id}")
        if self.model.stop:
            self.model.give_up(claim.instance_id)
        else:
            self.model.state[claim.instance_id] = "retrying" if bits & 1 else "ready"
        assert self.link.call(self.failure(claim, "retry", LEASE // 2 if bits & 1 else 0))[0] == b"ok"
        self.spent.append(claim)
        return None

    def failure(self, claim: Claim, verdict: str, delay: int = 0) -> ScriptCall:
        return scripts.fail(
            self.keys, self.claim_request("-"), run_id=self.run_id, instance_id=claim.instance_id, fencing_token=claim.fencing_token, verdict=verdict,
            delay_ms=delay, failure=b'{"message":"x"}',
        )  # fmt: skip

    def lease_runs_out(self, bits: int) -> None:
        """All workers are silent for longer than a lease; retries fall due."""
        self.log.append("lease")
        self.link.redis.incrby(self.keys.clock, LEASE + 1)
        for node, state in list(self.model.state.items()):
            if state == "running" and self.model.stop:
                self.model.state[node] = "cancelled"
                self.model.undone = True
            elif state in ("running", "retrying"):
                self.model.state[node] = "ready"
        self.model.settle()
        self.sweep()
        self.spent += self.held
        self.held = []

    def written_over(self, bits: int) -> None:
        """A foreign hand writes over the record, or one of its fields, while leases run out; then it is put right again."""
        store, key, aside = self.link.redis, self.keys.run(self.run_id), self.keys.base + "aside"
        fields = [b"cr", b"st", *[name for name in store.hkeys(key) if name.startswith(b"n:")]]
        name = (None, *fields)[bits % (len(fields) + 1)]
        self.log.append(f"written over: {name!r}")
        store.copy(key, aside)
        if name is None:
            store.set(key, "no hash")
        else:
            store.hset(key, name, "\x00")
        for reply in self.link.call(scripts.claim(self.keys, self.claim_request("q"), 1)):
            self.take(reply)  # a node that can be read all the same
        store.incrby(self.keys.clock, LEASE + 1)
        self.sweep()
        if name is None:
            store.rename(aside, key)
        else:
            store.hset(key, name, store.hget(aside, name))
            store.delete(aside)
        self.link.call(scripts.examine_broken(self.keys, fix=True))
        assert self.link.call(scripts.examine_broken(self.keys, fix=False)) == []
        self.lease_runs_out(bits)

    def cancel(self, bits: int) -> None:
        grace = 0 if bits & 1 else LONG
        self.log.append(f"cancel {grace}")
        ended = self.model.status in TERMINAL
        closing = self.model.ends_as != ""
        if not ended:
            self.model.stop_run("cancel")
            self.model.settle()
            if grace == 0:
                self.model.force()
        reply = self.link.call(scripts.cancel(self.keys, run_id=self.run_id, reason="because", grace_ms=grace))
        assert reply[0] == (0 if ended else 1)
        if grace == 0 and not ended and not closing:
            self.spent += self.held
            self.held = []

    def sweep(self) -> None:
        """Have all done that is due: a call may take few steps."""
        call = scripts.sweep(self.keys, limit=100, max_crashes=1000, grace_ms=LONG, queues="default")
        while self.link.call(call)[0]:
            pass

    def catch_up(self) -> None:
        """Have everything done that calls have put off, for they may take few steps."""
        for _ in range(1000):
            if not self.link.redis.hexists(self.keys.run(self.run_id), "todo"):
                return
            timer = f"c|{self.run_id}|"
            assert self.link.redis.zscore(self.keys.timers, timer) is not None, f"nobody goes on with it: {self.log}"
            self.sweep()
        raise AssertionError(f"it does not come to an end: {self.blueprint.to_plain()} {self.log}")

    def check(self) -> None:
        """The scripts and the model must agree on everything."""
        self.catch_up()
        fields = {k.decode(): v.decode() for k, v in self.link.redis.hgetall(self.keys.run(self.run_id)).items()}
        states = {k[2:]: LETTERS[v[0]] for k, v in fields.items() if k.startswith("n:")}
        model = {node: state for node, state in self.model.state.items() if state != "pending"}
        reported = f"\n{self.blueprint.to_plain()}\n{self.log}"
        assert {n: s for n, s in states.items() if s != "pending"} == model, reported
        assert int(fields.get("live", 0)) == len(self.model.live()), reported
        status = fields["st"]
        assert (status if status in TERMINAL else "live") == (
            self.model.status if self.model.status in TERMINAL else "live"
        ), reported
        mine = self.run_id.encode() + b"|"
        ready = {m for m in self.link.redis.zrange(self.keys.ready("default"), 0, -1) if m.startswith(mine)}
        ready |= {m for m in self.link.redis.zrange(self.keys.suspects("default"), 0, -1) if m.startswith(mine)}
        assert ready == {mine + n.encode() for n, s in model.items() if s == "ready"}, reported
        leases = {m for m in self.link.redis.zrange(self.keys.leases, 0, -1) if m.startswith(mine)}
        assert leases == {mine + n.encode() for n, s in model.items() if s == "running"}, reported

    def finish(self) -> None:
        """Let everything that is live succeed: the run must end, and leave nothing behind."""
        for _ in range(200):
            if self.model.status in TERMINAL:
                break
            if "retrying" in self.model.state.values() or (not self.held and "running" in self.model.state.values()):
                self.lease_runs_out(0)
            self.claim(0)
            if self.held:
                self.complete(0)
            self.check()
        assert self.model.status in TERMINAL, f"the run does not end: {self.blueprint.to_plain()} {self.log}"
        for key in (self.keys.leases, self.keys.timers, self.keys.ready("default"), self.keys.suspects("default")):
            left = [m for m in self.link.redis.zrange(key, 0, -1) if self.run_id.encode() in m]
            assert not left, f"{key} keeps {left}"
