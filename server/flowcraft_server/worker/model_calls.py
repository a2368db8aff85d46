"""What stands around the model calls of handlers: budgets are looked at before each, and what it has used is counted."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from loguru import logger

from flowcraft_sdk.node import BudgetExceededError, NodeCancelled
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.usage_scripts import CALL_ID
from flowcraft_sdk.protocol.usage_sums import FIRST_DAY, read_budget, read_sum, total, write_budget
from flowcraft_sdk.records import Budget, Usage
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.engine import Engine
from flowcraft_server.llm.call_gate import CallGate, CallLimit, Passage, call_gate
from flowcraft_server.llm.calls import ModelReply, ModelRequest
from flowcraft_server.llm.errors import LLMSettingsError
from flowcraft_server.llm.layers import AsyncCall, Call, CallLayer
from flowcraft_server.llm.models import LanguageModels
from flowcraft_server.llm.provider import Provider
from flowcraft_server.llm.streaming import on_piece_of_call
from flowcraft_server.worker.call_limits import CallLimits
from flowcraft_server.worker.commit_batcher import CommitBatcher
from flowcraft_server.worker.parking import AttemptParking
from flowcraft_server.worker.reply_cache import CacheEntry, ReplyCache, read_reply

_INSTALL = ", or install the prices of public models with: pip install 'flowcraft-server[agents]'"
WAITED = 0.05
"""Seconds from which on a call has waited for its limits, and budgets are looked at again. Without a wait they take some ms."""

LOOK = 0.2
"""Seconds after which a function that waits for Redis looks whether it is to stop."""


class ModelCalls:
    """Makes the layers around the model calls of attempts.

    Args:
        tag_budgets: what the calls of runs with a tag may use on a day.
        limits: those over all processes.
        cache: of replies; None for none.
    """

    def __init__(
        self,
        engine: Engine,
        batcher: CommitBatcher,
        models: LanguageModels,
        tag_budgets: Mapping[str, Budget],
        limits: CallLimits,
        cache: ReplyCache | None = None,
    ) -> None:
        self._limits = limits
        self._engine = engine
        self._batcher = batcher
        self._models = models
        self._tag_budgets = tag_budgets
        self._cache = cache

    def layers(self, attempt: Attempt) -> Sequence[CallLayer]:
        """What is around each model call of an attempt, from outside to inside."""
        gate = self._limits.gate(attempt.claim.run_id, AttemptParking(attempt))
        # What the cache answers costs nothing, so no budget holds for it.
        cached = () if self._cache is None else (CachedReplies(self._cache, self, attempt),)
        budgets = BudgetCheck(self, attempt)
        return (*cached, budgets, UsageCount(self, attempt, gate, budgets))

    def budget_call(self, attempt: Attempt) -> ScriptCall:
        """The call that looks which budgets are used up."""
        claim = attempt.claim
        return scripts.check_budget(
            self._engine.partitions.for_run(claim.run_id),
            run_id=claim.run_id,
            node_id=claim.node_id,
            budget=write_budget(attempt.node.node.config.budget),
            tags=tuple(self._tag_budgets),
        )

    def check(self, provider: Provider, request: ModelRequest, reply: Any) -> list[tuple[str, int]]:
        """Look at the reply of `budget_call`; returns the tags, each with the day, whose sums are to be looked at.

        Raises:
            BudgetExceededError: a budget is used up.
            LLMSettingsError: a budget is in USD, and the price of the model is not known.
        """
        if isinstance(reply, Exception):
            raise reply
        day, flags, tags, *used_up = reply
        found = tags.decode().split("\n") if tags else []
        in_usd = flags == b"u" or any(self._tag_budgets[tag].usd is not None for tag in found)
        model = request.model or ""
        if in_usd and not self._models.has_price(provider, model):
            known = "" if self._models.has_public_prices else _INSTALL
            raise LLMSettingsError(
                f"llm.providers.{provider.name}: a budget is in usd, and the price of the model {model!r} is not known: "
                f"set llm.prices{known}",
                provider=provider.name,
            )
        for kind, name, budget, used in used_up:
            most = read_budget(budget.decode())
            assert most is not None
            raise BudgetExceededError(_named(kind.decode(), name.decode()), most, read_sum(used.decode()))
        return [(tag, int(day)) for tag in found]

    def check_tags(self, tags: Sequence[tuple[str, int]]) -> None:
        """Look at the sums of tags on a day, over all partitions.

        Raises:
            BudgetExceededError: the budget of one is used up.
        """
        for tag, day in tags:
            reads = [("HGET", keys.usage(day), f"t|{tag}") for keys in self._engine.partitions.all]
            texts = self._engine.link.read_all(reads)
            used = total(read_sum(text.decode()) for text in texts if text is not None)
            most = self._tag_budgets[tag]
            if is_used_up(most, used):
                date = FIRST_DAY.fromordinal(FIRST_DAY.toordinal() + day)
                raise BudgetExceededError(f"tag '{tag}' on {date}", most, used)

    def count(self, attempt: Attempt, provider: Provider, request: ModelRequest, reply: ModelReply) -> None:
        """Count a call that was answered. It is on its way before what the handler does next."""
        claim, usage, model = attempt.claim, reply.usage, request.model or ""
        call = scripts.record_usage(
            self._engine.partitions.for_run(claim.run_id),
            run_id=claim.run_id,
            node_id=claim.node_id,
            created_ms=claim.run_created,
            call_id=secrets.token_hex(CALL_ID // 2),
            model=model,
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            nano_usd=self._models.price_of(provider, model, usage),
            ms=reply.latency_ms,
        )
        self._put_count(attempt, call)

    def count_hit(self, attempt: Attempt, request: ModelRequest) -> None:
        """Count a call that the cache has answered."""
        claim = attempt.claim
        call = scripts.record_usage(
            self._engine.partitions.for_run(claim.run_id), run_id=claim.run_id, node_id=claim.node_id,
            created_ms=claim.run_created, call_id=secrets.token_hex(CALL_ID // 2), model=request.model or "",
            input_tokens=0, cached_tokens=0, output_tokens=0, nano_usd=0, ms=0, from_cache=True,
        )  # fmt: skip
        self._put_count(attempt, call)

    def _put_count(self, attempt: Attempt, call: ScriptCall) -> None:
        attempt.has_emitted = True  # so that its outcome, which may end the run, goes behind this
        self._batcher.put(call, _log_refusal)

    def send(self, call: ScriptCall) -> "Future[Any]":
        """Send a call with those of others; the future has the reply, or the exception of one that was refused."""
        future: Future[Any] = Future()
        self._batcher.put(call, lambda reply: None if future.done() else future.set_result(reply))
        return future

    def put(self, call: ScriptCall) -> None:
        """Send a call whose reply does not matter."""
        self._batcher.put(call, _log_cache)

    def reply_to(self, attempt: Attempt, call: ScriptCall) -> Any:
        """Send a call and wait for its reply, in the thread of a plain function.

        Raises:
            NodeCancelled: the handler is to stop.
        """
        future = self.send(call)
        while True:
            try:
                return future.result(LOOK)
            except TimeoutError:
                if attempt.stopped:
                    raise NodeCancelled("the node is to stop while it waits for Redis") from None


class BudgetCheck:
    """Lets a call through as long as no budget is used up that holds for it."""

    def __init__(self, calls: ModelCalls, attempt: Attempt) -> None:
        self._calls = calls
        self._attempt = attempt

    def call(self, provider: Provider, request: ModelRequest, further: Call) -> ModelReply:
        """See `CallLayer.call`."""
        found = self._calls.reply_to(self._attempt, self._calls.budget_call(self._attempt))
        tags = self._calls.check(provider, request, found)
        self._calls.check_tags(tags)
        return further(request)

    async def acall(self, provider: Provider, request: ModelRequest, further: AsyncCall) -> ModelReply:
        """See `CallLayer.acall`."""
        await self.check(provider, request)
        return await further(request)

    async def check(self, provider: Provider, request: ModelRequest) -> None:
        """Let nothing through if a budget is used up: see `ModelCalls.check`."""
        reply = await asyncio.wrap_future(self._calls.send(self._calls.budget_call(self._attempt)))
        tags = self._calls.check(provider, request, reply)
        if tags:
            await asyncio.to_thread(self._calls.check_tags, tags)


class BudgetedGate:
    """Looks at the budgets again once a call has waited for the limits of its provider: others were made meanwhile.

    Args:
        check: looks at them; it raises if one is used up.
    """

    def __init__(self, gate: CallGate, check: Callable[[], Awaitable[None]]) -> None:
        self._gate = gate
        self._check = check

    @property
    def waits(self) -> bool:
        """See `CallGate.waits`."""
        return self._gate.waits

    @property
    def parks(self) -> bool:
        """See `CallGate.parks`."""
        return self._gate.parks

    @asynccontextmanager
    async def passage(self, provider: str, model: str, limit: CallLimit, tokens: int) -> AsyncIterator[Passage]:
        """See `CallGate.passage`."""
        began = clock()
        async with self._gate.passage(provider, model, limit, tokens) as passage:
            if clock() - began >= WAITED:
                await self._check()
            yield passage


class CachedReplies:
    """Answers requests from the cache, and keeps what the provider answers."""

    def __init__(self, cache: ReplyCache, calls: ModelCalls, attempt: Attempt) -> None:
        self._cache = cache
        self._calls = calls
        self._attempt = attempt

    def call(self, provider: Provider, request: ModelRequest, further: Call) -> ModelReply:
        """See `CallLayer.call`."""
        entry = self._cache.entry(provider, request)
        if entry is None:
            return further(request)
        if self._may_read:
            found = read_reply(self._calls.reply_to(self._attempt, entry.find()))
            if found is not None:
                return self._given(found, request, entry)
        return self._kept(further(request), entry)

    async def acall(self, provider: Provider, request: ModelRequest, further: AsyncCall) -> ModelReply:
        """See `CallLayer.acall`."""
        entry = self._cache.entry(provider, request)
        if entry is None:
            return await further(request)
        if self._may_read:
            found = read_reply(await asyncio.wrap_future(self._calls.send(entry.find())))
            if found is not None:
                return self._given(found, request, entry)
        return self._kept(await further(request), entry)

    @property
    def _may_read(self) -> bool:
        """Not after a failure: a reply that the handler has failed on would be given to it again."""
        return self._attempt.claim.attempt <= 1

    def _given(self, reply: ModelReply, request: ModelRequest, entry: CacheEntry) -> ModelReply:
        self._calls.count_hit(self._attempt, request)
        self._give_up_with(entry)
        on_piece = on_piece_of_call.get()
        if on_piece is not None and reply.text:
            on_piece(reply.text)
        return reply

    def _kept(self, reply: ModelReply, entry: CacheEntry) -> ModelReply:
        call = entry.keep(reply)
        if call is not None:
            self._give_up_with(entry)
            self._calls.put(call)
        return reply

    def _give_up_with(self, entry: CacheEntry) -> None:
        """Take the reply out if the attempt fails."""
        self._attempt.on_failure += (lambda: self._calls.put(entry.take_out()),)


class UsageCount:
    """Has calls go through the limits of all processes, and counts each that the provider has answered."""

    def __init__(self, calls: ModelCalls, attempt: Attempt, gate: CallGate, budgets: BudgetCheck) -> None:
        self._gate = gate
        self._budgets = budgets
        self._calls = calls
        self._attempt = attempt

    def call(self, provider: Provider, request: ModelRequest, further: Call) -> ModelReply:
        """See `CallLayer.call`."""
        call_gate.set(BudgetedGate(self._gate, partial(self._budgets.check, provider, request)))
        reply = further(request)
        self._calls.count(self._attempt, provider, request, reply)
        return reply

    async def acall(self, provider: Provider, request: ModelRequest, further: AsyncCall) -> ModelReply:
        """See `CallLayer.acall`."""
        call_gate.set(BudgetedGate(self._gate, partial(self._budgets.check, provider, request)))
        reply = await further(request)
        self._calls.count(self._attempt, provider, request, reply)
        return reply


def is_used_up(budget: Budget, used: Usage) -> bool:
    """Whether no further call is to be made."""
    return (budget.usd is not None and used.usd >= budget.usd) or (
        budget.tokens is not None and used.tokens >= budget.tokens
    )


def _named(kind: str, name: str) -> str:
    if kind == "node":
        run_id, _, node = name.partition("/")
        return f"node '{node}' of run {run_id}"
    return f"run {name}" if kind == "run" else f"a run of its blueprint ({name})"


def _log_refusal(reply: Any) -> None:
    if isinstance(reply, Exception):
        logger.error("the usage of a model call was not counted: {}", reply)


def _log_cache(reply: Any) -> None:
    if isinstance(reply, Exception):
        logger.warning("the cache of model replies: {}", reply)
