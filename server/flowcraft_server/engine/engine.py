"""Turns claims into attempts, and what came of them into the script calls that record it."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from flowcraft_sdk.protocol import scripts, wire
from flowcraft_sdk.protocol.memory_scripts import MARK
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_sdk.protocol.webhook_keys import SECRET_FIELD
from flowcraft_server.blueprints.compiling.plan import Plan, PlanNode
from flowcraft_server.blueprints.routes import Route
from flowcraft_server.config.handler import Handler
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.claims import Claim
from flowcraft_server.engine.failures import Failure, describe
from flowcraft_server.engine.from_data import set_times
from flowcraft_server.engine.inputs import context_inputs, input_of, input_reads, resolve_input, stands_in_for
from flowcraft_server.engine.memories import writer_of
from flowcraft_server.engine.retry import ExecutionDefaults, delay_ms, is_retryable
from flowcraft_server.engine.routing import Scope, route
from flowcraft_server.engine.values import MISSING, NodeValues
from flowcraft_server.store.link import StoreLink

CLOSING_TIMEOUT = 600.0
"""Seconds that an attempt at a compensation or at a node of `finally` may take if nothing says otherwise."""

CLOSING_WAIT_MS = 86_400_000
"""How long what a run closes with waits for a signal or a child run without a timeout of its own: else it might never end."""


class Engine:
    """Turns claims into attempts and outcomes into script calls. Holds no state of a run."""

    def __init__(
        self,
        link: StoreLink,
        partitions: Partitions,
        *,
        defaults: ExecutionDefaults | None = None,
        max_value: int | None = None,
        inline_value: int | None = None,
        max_depth: int = 16,
        max_nodes: int = 10_000,
        routed: Callable[[Attempt, str], None] | None = None,
        routes: Mapping[str, Route] | None = None,
    ) -> None:
        self.link = link
        self.partitions = partitions
        self.defaults = defaults or ExecutionDefaults()
        self.max_value = max_value
        self.inline_value = inline_value
        self.max_depth = max_depth
        self.max_nodes = max_nodes
        self.routed = routed
        self.routes = routes or {}
        self._webhook_secret: str | None = None

    def webhook_secret(self) -> str | None:
        """What keys of `webhook` nodes are signed with; None if a release before this one has published the deployment."""
        if self._webhook_secret is None:
            found = self.link.read_fields(self.partitions.home.settings, [SECRET_FIELD])[0]
            self._webhook_secret = None if found is None else found.decode()
        return self._webhook_secret

    def run_key(self, run_id: str) -> str:
        """The key of a run's record."""
        return self.partitions.for_run(run_id).run(run_id)

    def store_seconds(self) -> float:
        """The time as the scripts see it, which tests may move, in seconds."""

        def read() -> float:
            seconds, micros = self.link.redis.time()
            return float(seconds + micros / 1e6 + float(self.link.redis.get(self.partitions.home.clock) or 0) / 1000)

        return float(self.link.read_with_retry(read))

    def open(self, claim: Claim, plan: Plan, node: PlanNode, handler: Handler | None) -> Attempt:
        """Make an attempt of a claim. The input is resolved by `prepare`, which may raise."""
        timeout_ms = node.node.config.timeout_ms
        timeout = timeout_ms / 1000 if timeout_ms is not None else None
        params = node.node.params
        if handler is not None:
            if timeout is None:
                timeout = handler.timeout
            # Items of a batch have the parameters that their scatter declares for them.
            own = params if claim.item is None else _params_of_items(params)
            params = {**handler.params, **own}
        if timeout is None:
            timeout = self.defaults.timeout
        if timeout is None and node.closing:
            timeout = CLOSING_TIMEOUT
        key, values = (claim.run_id, claim.instance_id), NodeValues(plan, node, claim, self.max_value)
        return Attempt(claim, key, plan, node, values, handler, None, params, timeout)

    def prepare(self, attempt: Attempt) -> None:
        """Resolve the attempt's input, and times that the node takes from data; read what an earlier attempt has reported.

        Raises:
            InvalidDuration: one of these is none.
        """
        claim, node = attempt.claim, attempt.node.node
        if claim.input_value is not None and node.inputs is None:
            attempt.input = wire.loads(claim.input_value)  # what `_prepare_input` would come to, for most nodes
        else:
            self._prepare_input(attempt)
        if claim.claims > 1 and attempt.handler is not None and claim.attached is None:
            attempt.last_progress = self._last_progress(claim)
        config = node.config
        from_data = config.timeout_from is not None or config.retry_delay is not None  # quicker than the property below
        if from_data and config.expressions and claim.attached is None:
            set_times(self.link, self.run_key(claim.run_id), attempt)

    def _prepare_input(self, attempt: Attempt) -> None:
        values = attempt.values
        source = stands_in_for(values)
        if source is None:
            others = context_inputs(values)
            if others:
                wanted = list(dict.fromkeys(name for key in others for name in values.fields(key)))
                got = self.link.read_fields(self.run_key(attempt.claim.run_id), wanted)
                values.add_claimed(dict(zip(wanted, got, strict=True)))
            attempt.input = resolve_input(values)
            if others:
                attempt.input_json = wire.dumps(attempt.input)
            return
        wanted = input_reads(values.plan, source)
        got = self.link.read_fields(self.run_key(attempt.claim.run_id), wanted)
        attempt.input = input_of(values, source, dict(zip(wanted, got, strict=True)))
        attempt.input_json = wire.dumps(attempt.input)

    def _last_progress(self, claim: Claim) -> bytes | None:
        """What was reported last; of items in a loop it is not known in which round that was."""
        if claim.item is not None and claim.iterations:
            return None
        created, progress = self.link.read_fields(self.run_key(claim.run_id), ["cr", f"p:{claim.instance_id}"])
        claim.check_incarnation(created)
        return progress

    def completed(
        self, attempt: Attempt, request: ClaimRequest, encoded: bytes, action: str | None, *, caught: bool = False
    ) -> ScriptCall:
        """The call that records a result and what follows from it.

        Args:
            encoded: the output, as `encode_output` gave it.
            caught: the output is that of the node's fallback.

        Raises:
            SerializationError: a transformed value that cannot be stored, or is too large.
            UnmatchedAction: no edge takes the action.
        """
        claim, values = attempt.claim, attempt.values
        if self.inline_value is not None and (values.writes or len(encoded) > self.inline_value):
            self._note_large(attempt, encoded, self.inline_value)
        decisions = "" if claim.item is not None else attempt.node.always
        carried: tuple[tuple[str, bytes], ...] = ()
        if decisions is None:
            has_expressions = _has_expressions(attempt.node)
            plain = wire.loads(encoded) if has_expressions else None
            given = wire.loads(self.given_input(attempt)) if has_expressions else None
            values.output = plain if not caught else None
            scope = Scope(plain, action, given, self._getter(attempt), lambda: self.whole_context(attempt))
            routing = route(attempt.node, scope)
            decisions = routing.decisions
            carried = tuple(
                (
                    str(index),
                    wire.dumps(value, path=f"edge {index} of node '{claim.instance_id}'", limit=self.max_value),
                )
                for index, value in routing.values
            )
        if (
            attempt.remembered
        ):  # what stands beside memories joins them by this mark, which is there if the node has completed
            carried += ((MARK, writer_of(attempt).mark.encode()),)
        if self.routed is not None:
            self.routed(attempt, decisions)
        return scripts.complete(
            self.partitions.for_run(claim.run_id),
            request,
            run_id=claim.run_id,
            instance_id=claim.instance_id,
            fencing_token=claim.fencing_token,
            plan=claim.plan_hash,
            state="K" if caught else "C",
            action=action or "",
            decisions=decisions,
            output=encoded,
            successor=attempt.node.successor if decisions == "t" * len(attempt.node.edges) else scripts.NO_SUCCESSOR,
            writes=tuple(values.writes.items()) if values.writes else (),
            deletes=tuple(values.deletes) if values.deletes else (),
            values=carried,
        )

    def encode_output(self, attempt: Attempt, output: Any) -> bytes:
        """A node's output as wire JSON. Foreign objects in it have code of their own, which is called here.

        Raises:
            SerializationError: it cannot be stored, or is too large.
        """
        return wire.dumps(output, path=f"output of node '{attempt.claim.instance_id}'", limit=self.max_value)

    @staticmethod
    def _note_large(attempt: Attempt, encoded: bytes, limit: int) -> None:
        if len(encoded) > limit:
            attempt.large += ((f"output of node '{attempt.claim.node_id}'", len(encoded)),)
        for key, raw in attempt.values.writes.items():
            if len(raw) > limit:
                attempt.large += ((f"context.{key} of node '{attempt.claim.node_id}'", len(raw)),)

    def failed(self, attempt: Attempt, request: ClaimRequest, failure: Failure, *, final: bool = False) -> ScriptCall:
        """The call that records a failed attempt: to be retried, or for good.

        Args:
            final: it is not tried again, whatever its configuration says.
        """
        if final:
            attempt.due, attempt.failure, attempt.will_retry = None, failure, False
            return self._fail(attempt, request, "final", failure, 0)
        claim, config = attempt.claim, attempt.node.node.config
        limit = config.max_retries if config.max_retries is not None else self.defaults.max_attempts
        pause = attempt.retry_delay or config.retry_delay or self.defaults.retry_delay
        verdict = "final"
        if claim.attached is not None and claim.attached[0] == "fallback":
            verdict = "fatal"
        elif claim.attempt < limit and is_retryable(failure.names, config, failure.retryable):
            verdict = "retry"
        put_off = delay_ms(pause, claim.attempt) if verdict == "retry" else 0
        attempt.due = put_off / 1000 if put_off else None
        attempt.failure, attempt.will_retry = failure, verdict == "retry"
        return self._fail(attempt, request, verdict, failure, put_off)

    def cancelled(self, attempt: Attempt, request: ClaimRequest, error: BaseException | None = None) -> ScriptCall:
        """The call that records that a handler gave up because its run stops."""
        return self._fail(attempt, request, "cancelled", describe(error) if error is not None else None, 0)

    def _fail(
        self, attempt: Attempt, request: ClaimRequest, verdict: str, failure: Failure | None, pause: int
    ) -> ScriptCall:
        claim, given = attempt.claim, self.given_input(attempt)
        return scripts.fail(
            self.partitions.for_run(claim.run_id),
            request,
            run_id=claim.run_id,
            instance_id=claim.instance_id,
            fencing_token=claim.fencing_token,
            verdict=verdict,
            delay_ms=pause,
            failure=b"" if failure is None else failure.to_json(claim.instance_id, claim.attempt, _hash(given)),
            input_json=given if attempt.node.node.config.fallback else b"null",
        )

    @staticmethod
    def given_input(attempt: Attempt) -> bytes:
        """The input that the node was given, as wire JSON; `null` if it could not be resolved.

        It is made of what the claim brought. What the handler has made of its input does not count: its objects may have
        code of their own, which must not run in a thread that records outcomes.
        """
        if attempt.input_json is not None:
            return attempt.input_json
        try:
            return wire.dumps(resolve_input(NodeValues(attempt.plan, attempt.node, attempt.claim)))
        except (TypeError, ValueError):
            return b"null"

    def fallback_input(self, attempt: Attempt) -> bytes:
        """What the node's fallback gets should the node fail, as wire JSON; empty without a fallback."""
        return self.given_input(attempt) if attempt.node.node.config.fallback else b""

    def read(self, attempt: Attempt, keys: list[str]) -> dict[str, Any]:
        """Context keys as the node sees them, `MISSING` where absent; one round trip for those the claim did not bring."""
        found: dict[str, Any] = {}
        ask: dict[str, tuple[str, ...]] = {}
        for key in keys:
            own = attempt.values.own(key)
            if own is not MISSING or key in attempt.values.deletes:
                found[key] = own
                continue
            fields = attempt.values.fields(key)
            if attempt.values.knows(fields):
                found[key] = attempt.values.known(key)
            else:
                ask[key] = fields
        if ask:
            wanted = list(dict.fromkeys(field for fields in ask.values() for field in fields))
            created, *values = self.link.read_fields(self.run_key(attempt.claim.run_id), ["cr", *wanted])
            attempt.claim.check_incarnation(created)
            got = dict(zip(wanted, values, strict=True))
            found.update({key: attempt.values.pick(key, got) for key in ask})
        return found

    def _getter(self, attempt: Attempt) -> Callable[[str], Any]:
        return lambda key: self.read(attempt, [key])[key]

    def whole_context(self, attempt: Attempt) -> dict[str, Any]:
        """The context as one object: for an expression that uses it as a value. Costs a read of the whole run."""
        fields = self.link.read_hash(self.run_key(attempt.claim.run_id))
        context: dict[str, Any] = {}
        for stored, raw in fields.items():
            name = stored.decode()
            if name.startswith("o:"):
                context[name[2:]] = context[f"_outputs.{name[2:]}"] = wire.loads(raw)
        for stored, raw in fields.items():
            if stored.startswith(b"c:"):
                context[stored[2:].decode()] = wire.loads(raw)
        for key in attempt.values.deletes:
            context.pop(key, None)
        return context | {key: wire.loads(raw) for key, raw in attempt.values.writes.items()}


def _hash(encoded: bytes) -> str:
    """The hash of an input, by which attempts at the same one are recognised."""
    return hashlib.sha256(encoded).hexdigest()[:16]


def _has_expressions(node: PlanNode) -> bool:
    return any(edge.condition is not None or edge.transform is not None for edge in node.edges)


def _params_of_items(declared: Mapping[str, Any]) -> Mapping[str, Any]:
    params = declared.get("params")
    return params if isinstance(params, Mapping) else {}
