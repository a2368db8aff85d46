"""Reloading while a deployment runs: blueprints in this process, handler code in fresh worker processes."""

import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import redis
from loguru import logger

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk.records.counts import counted
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.config.blueprint_files import handler_routes
from flowcraft_server.config.blueprint_reload import BlueprintFiles, Reread, folder_state
from flowcraft_server.config.load import LoadResult, load_settings
from flowcraft_server.config.model import Settings
from flowcraft_server.config.schedules import schedule_diagnostics
from flowcraft_server.config.setting_changes import changed_settings, is_live, is_of_workers

from .deployment import Deployment
from .handler_code import HandlerCode, check_in_child
from .namespace_peers import HASH_SHOWN
from .publishing import KeptPublished
from .stopping import StopRequests
from .supervisor import Supervisor

LOOK_PAUSE = 0.25
"""Seconds between two looks at the files, and for requests."""

MOST_LINES, LONGEST_LINE = 50, 1_000
"""Mistakes that are reported elsewhere than in the log, and characters of each."""


@dataclass
class ReloadReport:
    """What a reload did.

    Attributes:
        published: `id@version` of each blueprint that was published.
        removed: blueprints that no file has any more; they stay published.
        mistakes: what is wrong with files, each with file, line and column: what was before stays.
        restart: what has changed and needs a restart.
        workers: what happened to the worker processes; '' if nothing did.
        failure: why nothing, or not all, was reloaded; '' if that is not so.
        publishes: whether this server publishes blueprints.
    """

    published: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)
    workers: str = ""
    failure: str = ""
    publishes: bool = True

    @property
    def ok(self) -> bool:
        """Whether nothing went wrong."""
        return not self.mistakes and not self.failure

    def lines(self) -> list[str]:
        """For people."""
        unchanged = "the blueprints are published by another server"
        if self.publishes:
            unchanged = "no blueprint was published" if self.failure else "no blueprint has changed"
        shown = [f"published {', '.join(self.published)}" if self.published else unchanged]
        mistakes = _grouped(self.mistakes)
        shown += [f"not reloaded, what was before stays: {mistake}" for mistake in mistakes[:MOST_LINES]]
        if len(mistakes) > MOST_LINES:
            shown.append(f"... and {len(mistakes) - MOST_LINES} more mistakes")
        if self.removed:
            shown.append(f"no file any more, still published: {', '.join(self.removed)}")
        if self.restart:
            shown.append(f"needs a restart: {', '.join(self.restart)}")
        shown += [line for line in (self.workers, self.failure) if line]
        return shown


@dataclass(frozen=True)
class _Request:
    why: str
    answer: Callable[[ReloadReport], None]
    restart_workers: bool = False


class Reloader:
    """A component that reloads in a thread of its own: when it is asked to, and when files change that it watches.

    Args:
        deployment: as it was started.
        client: of Redis; its values are text.
        kept: what is published; None where others publish.
        supervisor: of the worker processes; None for a worker in this process.
        stop: asked for a restart of the program where that is how handlers are reloaded, and whether a signal asks to reload.
        watch: whether the files of blueprints are watched.
        restarts: whether the program begins anew when handlers or settings change, as `dev` does; their files are watched.
    """

    def __init__(
        self,
        deployment: Deployment,
        client: Any,
        kept: KeptPublished | None,
        supervisor: Supervisor | None,
        stop: StopRequests,
        *,
        watch: bool = False,
        restarts: bool = False,
    ) -> None:
        self._deployment = deployment
        self._client = client
        self._kept = kept
        self._supervisor = supervisor
        self._stop = stop
        self._watch = watch
        self._restarts = restarts
        self._files: BlueprintFiles | None = None
        self._code = HandlerCode(deployment.loaded.folder, deployment.loaded.began_ns)
        self._of_workers = deployment.settings
        self._handlers_known = True
        self._requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self._seen: dict[str, tuple[int, ...]] | None = None
        self.mistakes: tuple[str, ...] = ()

    @property
    def deployment(self) -> Deployment:
        """The deployment as it is now."""
        return self._deployment

    def start(self) -> None:
        """Begin to take requests, and to watch."""
        if self._watch or self._restarts:
            state, began = self._state(), self._deployment.loaded.began_ns
            # What was written since the deployment was read counts as changed.
            self._seen = {path: signature for path, signature in state.items() if signature[0] < began}
        self._thread.start()

    def health(self) -> Sequence[str]:
        """What it does it logs by itself."""
        return ()

    def drain(self, deadline: float) -> bool:
        """Take no further request. See `Component`."""
        self._stopping.set()
        return True

    def stop(self) -> bool:
        """End the thread, unless it checks handlers just now: that changes nothing any more."""
        self._stopping.set()
        self._thread.join(2.0)
        return True

    def request(
        self, why: str, answer: Callable[[ReloadReport], None] = lambda _report: None, *, restart_workers: bool = False
    ) -> None:
        """Ask for a reload. From any thread.

        Args:
            why: for the log.
            answer: called with what it did, in the thread that reloads.
            restart_workers: replace the worker processes although neither their code nor their settings have changed.
        """
        self._requests.put(_Request(why, answer, restart_workers))

    def _run(self) -> None:
        unsettled: dict[str, tuple[int, ...]] | None = None
        while not self._stopping.is_set():
            try:
                request: _Request | None = self._requests.get(timeout=LOOK_PAUSE)
            except queue.Empty:
                request = _Request("SIGHUP", lambda _report: None) if self._stop.take_reload() else None
            if request is None and self._seen is not None:
                state = self._state()
                if state != self._seen and state == unsettled:  # else a file is perhaps just being written
                    request = _Request("files have changed", lambda _report: None)
                unsettled = state
            if request is not None and not self._stopping.is_set():
                self._take(request)

    def _take(self, request: _Request) -> None:
        if self._seen is not None:
            self._seen = self._state()
        try:
            report = self.reload(restart_workers=request.restart_workers)
        except Exception as error:  # what was before stays
            logger.exception("reloading met an error of its own")
            report = ReloadReport(failure=f"reloading met an error of its own: {type(error).__name__}")
        self.mistakes = tuple(_bounded(mistake) for mistake in report.mistakes[:MOST_LINES])
        for line in report.lines():
            (logger.info if report.ok else logger.warning)("reload ({}): {}", request.why, line)
        try:
            request.answer(report)
        except (redis.exceptions.RedisError, OSError) as error:
            logger.warning("the answer to a request to reload could not be written: {}", error)

    def _state(self) -> dict[str, tuple[int, ...]]:
        """The watched files, each with the time of its last change (ns) first."""
        deployment = self._deployment
        state: dict[str, tuple[int, ...]] = {}
        if self._watch:
            state.update(folder_state(deployment.loaded.folder, deployment.settings))
        if self._restarts:
            state.update(self._code.state())
            state[str(deployment.loaded.path)] = (_changed_at(deployment.loaded.path),)
        return state

    def reload(self, *, restart_workers: bool = False) -> ReloadReport:
        """Reload, and wait until it is done."""
        report, deployment = ReloadReport(publishes=self._kept is not None), self._deployment
        loaded = load_settings(deployment.loaded.path, profile=deployment.profile, overrides=dict(deployment.overrides))
        settings = loaded.settings
        if settings is None:
            report.mistakes = [str(diagnostic) for diagnostic in loaded.errors]
            return report
        known = self._reload_workers(report, settings, restart_workers)
        if self._kept is not None:
            self._reload_blueprints(report, self._kept, loaded, settings, known)
        if report.ok and self._restarts and self._supervisor is None and report.restart:
            report.workers = f"starting again, for what has changed: {', '.join(report.restart)}"
            report.restart = []
            self._stop.request_restart()
        return report

    def _reload_workers(self, report: ReloadReport, settings: Settings, forced: bool) -> list[Diagnostic]:
        """Replace worker processes if their code or settings have changed; returns mistakes in blueprints found on the way."""
        code = [f"handler code ({name})" for name in self._code.changed()]
        changed = [name for name in changed_settings(self._deployment.settings, settings) if not is_live(name)]
        of_workers = [name for name in changed_settings(self._of_workers, settings) if is_of_workers(name)]
        report.restart = [name for name in changed if not is_of_workers(name)]
        # Handlers that are new, or whose module is, are imported by fresh processes alone.
        if not code and not of_workers and not (forced and self._supervisor is not None):
            return []
        if self._supervisor is None and not self._restarts:
            report.restart = [*code, *changed]
            return []
        checked = check_in_child(self._deployment.loaded.path, self._deployment.profile, self._environ())
        folders = tuple(os.path.join(self._deployment.loaded.folder, name, "") for name in settings.blueprints.dirs)
        of_blueprints: list[Diagnostic] = []
        others: list[Diagnostic] = []
        for diagnostic in checked.errors:
            file = None if diagnostic.position is None else os.path.abspath(diagnostic.position.file)
            (of_blueprints if file is not None and file.startswith(folders) else others).append(diagnostic)
        if checked.failure or others:
            report.mistakes += [str(diagnostic) for diagnostic in others]
            report.failure = checked.failure or "the worker processes keep the code and settings that they have"
            return of_blueprints
        if self._supervisor is None:
            report.restart = [*code, *changed]
            return of_blueprints
        self._handlers_known = False  # this process has imported the old ones; the fresh ones were checked in the child
        self._code.accept()
        replacement = self._supervisor.replace_all()
        while not replacement.done.wait(LOOK_PAUSE):
            if self._stopping.is_set():
                replacement.end("the server is stopping")
        report.workers = f"{replacement.replaced} of {replacement.count} worker processes replaced"
        if replacement.error:
            report.failure = replacement.error
        else:
            self._of_workers = settings
        return of_blueprints

    def _environ(self) -> dict[str, str]:
        return self._deployment.child_environ(os.environ)

    def _reload_blueprints(
        self,
        report: ReloadReport,
        kept: KeptPublished,
        loaded: LoadResult,
        settings: Settings,
        known: Sequence[Diagnostic],
    ) -> None:
        if self._files is None:
            self._files = BlueprintFiles.of(self._deployment.loaded)
        before = self._files.blueprints
        handlers = self._deployment.loaded.handlers if self._handlers_known else None
        reread = self._files.read(loaded, settings, handlers, known)
        report.mistakes += [str(diagnostic) for diagnostic in reread.errors]
        report.removed = list(reread.removed)
        blueprints = [reread.blueprints[name] for name in reread.blueprints]
        wrong = schedule_diagnostics(settings.schedules, blueprints, settings.limits.max_value, loaded.values)
        report.mistakes += [str(diagnostic) for diagnostic in wrong]
        if wrong:
            settings = settings.model_copy(update={"schedules": self._deployment.settings.schedules})
        try:
            report.published = self._publish(kept, reread, settings)
        except redis.exceptions.RedisError as error:
            self._files.blueprints = before  # they are looked at again at the next reload
            report.failure = f"Redis refused the blueprints: {error}"
        except BaseException:
            self._files.blueprints = before  # else the next reload would find that nothing has changed
            raise

    def _publish(self, kept: KeptPublished, reread: Reread, settings: Settings) -> list[str]:
        """Publish what has changed; returns the versions."""
        deployment = self._deployment
        routes = handler_routes(deployment.settings)
        plans = {name: compile_blueprint(reread.blueprints[name], routes) for name in reread.changed}
        fresh = {name: plan.hash for name, plan in plans.items() if kept.hashes.get(name) != plan.hash}
        blueprints = [reread.blueprints[name] for name in reread.blueprints]
        merged = deployment.settings.model_copy(
            update={
                "blueprints": settings.blueprints,
                "history": settings.history,
                "limits": deployment.settings.limits.model_copy(update={"named": settings.limits.named}),
                "schedules": settings.schedules,
                "defaults": deployment.settings.defaults.model_copy(
                    update={"join_strategy": settings.defaults.join_strategy}
                ),
            }
        )
        with kept.change():
            changed = replace(
                deployment, settings=merged, loaded=replace(deployment.loaded, blueprints=blueprints, kept=None)
            )
            changed.publish_some(self._client, list(fresh), {**kept.hashes, **fresh})
            kept.replace({**kept.hashes, **fresh})
            self._deployment = changed
        return [f"{name}@{plan[:HASH_SHOWN]}" for name, plan in fresh.items()]


def _grouped(mistakes: list[str]) -> list[str]:
    """A line for each mistake, and one for all places that say the same: a module that fails is named by each of its handlers."""
    places: dict[str, list[str]] = {}
    for mistake in mistakes:
        _, separator, message = mistake.partition(": ")
        places.setdefault(message if separator else mistake, []).append(mistake)
    return [
        _bounded(first) + (f" (and at {counted(len(others), 'more place')})" if others else "")
        for first, *others in places.values()
    ]


def _bounded(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 1]}…"


def _changed_at(path: "os.PathLike[str]") -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
