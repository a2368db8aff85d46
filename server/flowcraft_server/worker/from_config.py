"""The settings of a worker, from the configuration of a deployment."""

from flowcraft_sdk.protocol.scripts import Keep
from flowcraft_server.blueprints.model import RetryDelay
from flowcraft_server.config.model import Settings
from flowcraft_server.config.sections import RetryDelaySection
from flowcraft_server.engine.retry import ExecutionDefaults
from flowcraft_server.worker.settings import LineCapture, Retention, WorkerSettings


def worker_settings(settings: Settings) -> WorkerSettings:
    """The part of the configuration that a worker needs."""
    executor = settings.executor
    return WorkerSettings(
        queues=executor.queues,
        threads=executor.workers,
        async_concurrency=executor.async_concurrency,
        lease=executor.lease,
        heartbeat=executor.heartbeat,
        cancel_grace=executor.cancel_grace,
        max_crashes=executor.max_crashes,
        abandoned_threads=executor.abandoned_threads,
        max_value=settings.limits.max_value,
        inline_value=settings.limits.inline_value,
        max_depth=settings.limits.subflow_depth,
        max_nodes=settings.limits.dynamic_nodes,
        defaults=ExecutionDefaults(
            max_attempts=settings.defaults.max_retries,
            retry_delay=_retry_delay(settings.defaults.retry_delay),
            timeout=settings.defaults.timeout,
        ),
        retention=retention_of(settings),
        mcp=settings.mcp,
        capture=LineCapture(
            level=settings.logging.capture.level,
            lines=settings.logging.capture.lines,
            bytes=settings.logging.capture.bytes,
            run_bytes=settings.logging.capture.run_bytes,
            names=settings.logging.redact,
        ),
        tag_budgets={tag: section.budget for tag, section in settings.budgets.tags_per_day.items()},
        partitions=settings.redis.partitions,
    )


def retention_of(settings: Settings) -> Retention:
    """How long ended runs are kept, in the form that the worker's retention takes."""
    section = settings.retention
    classes = {"completed": section.completed, "failed": section.failed, "cancelled": section.cancelled}
    return Retention(
        keep=tuple(
            Keep(name, None if rule.age is None else round(rule.age * 1000), rule.count)
            for name, rule in classes.items()
        ),
        bytes=section.bytes,
        tombstone_age_ms=round(section.tombstones.age * 1000),
        tombstone_count=section.tombstones.count,
    )


def _retry_delay(section: RetryDelaySection | None) -> RetryDelay | None:
    if section is None:
        return None
    longest = None if section.max is None else round(section.max * 1000)
    return RetryDelay(round(section.initial * 1000), section.factor, longest, section.jitter)
