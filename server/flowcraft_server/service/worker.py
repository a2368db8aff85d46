"""One worker in this process: built from the configuration, served until a stop is asked for, drained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from loguru import logger

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.config.handler import Handler
from flowcraft_server.config.model import Settings
from flowcraft_server.llm.models import LanguageModels, build_models
from flowcraft_server.worker.execution_record import ExecutionRecord
from flowcraft_server.worker.from_config import worker_settings
from flowcraft_server.worker.worker import Worker

from .stopping import StopRequests

TICK = 1.0
"""Seconds between looks at the health of what is served."""


def build_worker(
    url: str,
    settings: Settings,
    handlers: dict[str, Handler],
    folder: Path,
    *,
    single: bool = False,
    isolated: bool = False,
    worker_id: str = "",
    executing: int | None = None,
    replace_process: Callable[[], None] | None = None,
    secrets: frozenset[str] = frozenset(),
    deployment: str = "",
) -> tuple[Worker, LanguageModels]:
    """A worker, not yet started, and the language models its handlers get.

    Args:
        url: of Redis.
        folder: what paths in the settings are relative to.
        secrets: texts to be masked in what is recorded of failures.
        single: the process runs one function at a time, and is replaced for one that does not return.
        isolated: it runs nothing but suspects of lost workers.
        worker_id: the name that its supervisor knows it by; "" for a new one.
        executing: descriptor of the record of what it executes, if its supervisor keeps one.
        deployment: `host:file` of the deployment, for others to see.
        replace_process: ends this process so that a fresh one takes its place.

    Raises:
        LLMSettingsError: a scripted provider's file is missing or wrong.
    """
    models = build_models(settings.llm, base=folder)
    runnable = dict(handlers)
    chosen = replace(worker_settings(settings), secrets=secrets, owns_process=True, deployment=deployment)
    chosen = replace(chosen, suspects="only" if isolated else "elsewhere")
    if single:
        chosen = replace(chosen, abandoned_threads=0)
    if worker_id:
        chosen = replace(chosen, worker_id=worker_id)
    record = None if executing is None else ExecutionRecord(executing)
    return Worker(url, settings.name, runnable, chosen, models, replace_process, record), models


def serve(worker: Worker, stop: StopRequests, drain_timeout: float, tick: Callable[[], None]) -> bool:
    """Run a worker until a stop is asked for; returns whether all that ran could finish.

    Args:
        worker: not yet started.
        stop: when to stop: once to finish what runs, twice to hand it back.
        drain_timeout: seconds that running nodes may take to finish.
        tick: called every second, to look after whatever else is served.
    """
    worker.start()
    while not stop.wait(TICK):
        worker.check_health()
        tick()
    logger.info("stopping: what runs may finish within {:g} s; asked again, it is handed back at once", drain_timeout)
    finished = worker.drain(0)
    deadline = clock() + drain_timeout
    while not finished and not stop.now and clock() < deadline:
        stop.wait(0.02)
        finished = worker.drain(0)
    if not finished:
        logger.warning("handing back what still runs; another worker takes it from its beginning")
    worker.stop()
    return finished
