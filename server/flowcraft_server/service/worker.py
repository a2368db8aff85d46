"""One worker in this process: built from the configuration, and served as a component."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from flowcraft_server.config.handler import Handler
from flowcraft_server.config.lifespan import Lifespan
from flowcraft_server.config.model import Settings
from flowcraft_server.llm.models import LanguageModels, build_models
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.worker.execution_record import ExecutionRecord
from flowcraft_server.worker.from_config import worker_settings
from flowcraft_server.worker.worker import Worker

from .gc_tuning import collect_less_often
from .tracing import build_tracing

if TYPE_CHECKING:
    from flowcraft_server.observability.tracing import Tracing


class ServedWorker:
    """A worker, and the language models of its handlers, as a component."""

    def __init__(self, worker: Worker, models: LanguageModels, tracing: "Tracing | None" = None) -> None:
        self._worker = worker
        self._models = models
        self._tracing = tracing
        self._drained = False

    @property
    def worker_id(self) -> str:
        """The id of the worker."""
        return self._worker.settings.worker_id

    def start(self) -> None:
        """Begin to claim nodes."""
        self._models.warn()
        collect_less_often()
        self._worker.start()

    def health(self) -> Sequence[str]:
        """Start threads again that died."""
        return self._worker.restart_dead_threads()

    def drain(self, deadline: float) -> bool:
        """Claim nothing more. See `Component`."""
        self._drained = self._worker.drain(0)
        return self._drained

    def stop(self) -> bool:
        """Hand back what still runs, and end all threads."""
        if not self._drained:
            logger.warning("handing back what still runs; another worker takes it from its beginning")
        self._worker.stop()
        self._models.close()
        if self._tracing is not None:
            self._tracing.close()
        return self._drained


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
    replace_process: Callable[[str], None] | None = None,
    secrets: frozenset[str] = frozenset(),
    deployment: str = "",
    lifespan: Lifespan | None = None,
) -> ServedWorker:
    """A worker with the language models that its handlers get, not yet started.

    Args:
        url: of Redis.
        folder: what paths in the settings are relative to.
        secrets: texts to be masked in what is recorded of failures.
        single: the process runs one function at a time, and is replaced for one that does not return.
        isolated: it runs nothing but suspects of lost workers.
        worker_id: the name that its supervisor knows it by; "" for a new one.
        executing: descriptor of the record of what it executes, if its supervisor keeps one.
        deployment: `host:file` of the deployment, for others to see.
        lifespan: what the process enters before its first node.
        replace_process: ends this process, given the worker's id, so that a fresh one takes its place.

    Raises:
        TracingNotInstalled: `tracing` is on, and OpenTelemetry is not installed.
        LLMSettingsError: a scripted provider's file is missing or wrong.
    """
    tracing = build_tracing(settings)
    if tracing is not None:
        tracing.make_global()
    models = build_models(settings.llm, base=folder, mask=Redactor(secrets).clean)
    runnable = dict(handlers)
    chosen = replace(worker_settings(settings), secrets=secrets, owns_process=True, deployment=deployment)
    chosen = replace(chosen, suspects="only" if isolated else "elsewhere")
    if single:
        chosen = replace(chosen, abandoned_threads=0)
    if worker_id:
        chosen = replace(chosen, worker_id=worker_id)
    record = None if executing is None else ExecutionRecord(executing)
    worker = Worker(url, settings.name, runnable, chosen, models, replace_process, record, lifespan, tracing)
    return ServedWorker(worker, models, tracing)
