"""The test cases of blueprint files: found, checked, and run in an environment of their own."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flowcraft_sdk import ConfigurationError
from flowcraft_sdk.node import NonRetryableError
from flowcraft_server.blueprints.agent_params import PROVIDED
from flowcraft_server.blueprints.linting.catalog import Catalog
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import FORMATS, load_dirs
from flowcraft_server.blueprints.loading.near_file import meant_file
from flowcraft_server.blueprints.model import BUILTIN_USES, Blueprint, Diagnostic, Node
from flowcraft_server.blueprints.suggestions import did_you_mean
from flowcraft_server.config.blueprint_files import handler_routes, params_of, places_of, with_params
from flowcraft_server.config.blueprint_reload import blueprint_folders
from flowcraft_server.config.handler import Handler
from flowcraft_server.config.handler_forms import HandlerError
from flowcraft_server.config.handlers import register_handlers, undecorated
from flowcraft_server.config.lifespan import Lifespan, load_lifespan
from flowcraft_server.config.load import LoadResult, load_config
from flowcraft_server.config.sections import HandlerEntry
from flowcraft_server.llm.models import build_models
from flowcraft_server.observability.redaction import Redactor
from flowcraft_server.testing.case_run import TIMEOUT, CaseRunner, case_name
from flowcraft_server.testing.coverage import Coverage
from flowcraft_server.testing.environment import TestEnvironment
from flowcraft_server.worker.from_config import worker_settings
from flowcraft_server.worker.lifespan import LifespanError
from flowcraft_server.worker.settings import Retention, WorkerSettings


class HandlerMissing(NonRetryableError):
    """A node ran that has no mock, and whose handler cannot be had."""


@dataclass(frozen=True, slots=True)
class Case:
    """A test case of a blueprint.

    Attributes:
        blueprint: the blueprint that it stands in.
        index: its place among the blueprint's cases, from 0.
    """

    blueprint: Blueprint
    index: int

    @property
    def name(self) -> str:
        """Its name; its number, if it has none."""
        return case_name(self.blueprint, self.index)

    @property
    def id(self) -> str:
        """`BLUEPRINT::NAME`, by which it is chosen and reported."""
        return f"{self.blueprint.id}::{self.name}"


@dataclass(frozen=True)
class Suite:
    """Test cases with all that it takes to run them.

    Attributes:
        cases: in the order of the files.
        blueprints: all that subflows may call, those of the cases among them.
        diagnostics: errors for which the cases cannot be run.
        warnings: what else `check` finds in the blueprints of the cases.
        secrets: texts that must not be shown.
        handlers, queues, settings, models, lifespan: of the deployment.
        notes: what is to be known of the run of the cases, a line each.
        missing: handlers that nodes use and that cannot be had, each with the reason.
        chosen: the blueprints whose cases these are.
    """

    cases: tuple[Case, ...]
    blueprints: tuple[Blueprint, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    secrets: frozenset[str] = frozenset()
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    queues: Mapping[str, str] = field(default_factory=dict)
    settings: WorkerSettings = field(default_factory=WorkerSettings)
    models: Any = None

    lifespan: Lifespan | None = None
    notes: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    chosen: tuple[Blueprint, ...] = ()

    def environment(self, coverage: Coverage | None = None) -> TestEnvironment:
        """Make an environment for the blueprints, with a private server; it is to be entered.

        Args:
            coverage: where it is noted what its runs go through.
        """
        used = {node.config.queue for blueprint in self.blueprints for node in blueprint.nodes} - {None}
        queues = tuple(dict.fromkeys((*self.settings.queues, "default", *self.queues.values(), *map(str, used))))
        kept = Retention(keep=(), bytes=None)  # whatever the clock says
        settings = replace(self.settings, queues=queues, retention=kept)
        if coverage is not None:
            settings = replace(settings, routed=coverage.routed)
        env = TestEnvironment(
            blueprints=[
                replace(blueprint, run_limits=None) for blueprint in self.blueprints
            ],  # each case runs by itself
            settings=settings,
            models=self.models,
            check=False,
            partitions=1,
        )
        env.handlers.update({name: _refusing(name, reason) for name, reason in self.missing.items()})
        env.handlers.update(self.handlers)
        env.queues.update(self.queues)
        env.lifespan = self.lifespan
        return env

    @contextmanager
    def runner(self, coverage: Coverage, timeout: float = TIMEOUT) -> Iterator[CaseRunner]:
        """Start an environment for the cases, with a private server, and stop it at the end.

        Args:
            coverage: where it is noted what the runs went through.
            timeout: seconds of real time that a case may take.
        """
        with ExitStack() as stack:
            suite, notes = (self, list(self.notes)) if self._runs_handlers() else (replace(self, lifespan=None), [])
            env = suite.environment(coverage)
            try:
                stack.enter_context(env)
            except LifespanError as error:
                env.__exit__(None, None, None)
                notes.append(f"{error}; nodes without mocks get no resources")
                env = stack.enter_context(replace(self, lifespan=None).environment(coverage))
            yield CaseRunner(env, coverage, timeout, notes)

    def _runs_handlers(self) -> bool:
        """Whether a node may run its own handler, for want of a mock."""
        return any(
            node.id not in (case.blueprint.tests[case.index].get("mocks") or {})
            for case in self.cases
            for node in case.blueprint.nodes
            if any(name not in BUILTIN_USES for name in _names(node))
        )


def load_suite(
    config: Path | None, paths: Sequence[Path] = (), *, profile: str | None = None, only: str | None = None
) -> Suite:
    """Find the test cases of a deployment, or of some of its blueprint files.

    A handler that cannot be imported does not keep them from being run: a node that uses it has to be mocked.

    Args:
        config: the deployment's file. Without one, nodes that are not mocked have no handlers.
        paths: blueprint files, and folders of them; none for all of the deployment.
        profile: name of a profile of the file.
        only: without paths, id of the one blueprint of the deployment that is chosen.

    Raises:
        ConfigurationError: neither a deployment nor a path is given, or a path is not there.
        LLMSettingsError: the file of a scripted provider is missing or wrong.
    """
    if config is None and not paths:
        raise ConfigurationError("no flowcraft.yaml here or above: name blueprint files or folders, or give --config")
    for path in paths:
        if not path.exists():
            raise ConfigurationError(f"{path}: no such file or folder{meant_file(path)}")
        if path.is_file() and path.suffix.lower() not in FORMATS:
            raise ConfigurationError(f"{path}: a blueprint file ends in {', '.join(FORMATS)}")
    loaded = None if config is None else load_config(config, profile=profile, with_handlers=False)
    if loaded is not None and (loaded.errors or loaded.settings is None):
        return Suite((), diagnostics=tuple(loaded.errors), secrets=loaded.secrets)
    ours_in = [] if loaded is None or loaded.settings is None else blueprint_folders(loaded.folder, loaded.settings)
    named, diagnostics = load_dirs(paths or ours_in)  # of ours it is for what the loader warns of
    ours = list(loaded.blueprints) if loaded is not None else []
    by_file = {Path(blueprint.file).resolve(): blueprint for blueprint in ours if blueprint.file}
    chosen = [by_file.get(Path(blueprint.file or "").resolve(), blueprint) for blueprint in named] if paths else ours
    if only is not None and not paths:
        chosen = [blueprint for blueprint in ours if blueprint.id == only]
        diagnostics = [
            each for each in diagnostics if chosen and each.position and each.position.file == chosen[0].file
        ]
    known = {blueprint.id: blueprint for blueprint in (*ours, *chosen)}
    handlers, missing = _handlers_of(loaded, known.values())
    diagnostics += _mistakes(loaded, chosen, known, handlers, missing)
    clean = Redactor(loaded.secrets if loaded is not None else ()).clean
    diagnostics = [replace(diagnostic, message=clean(diagnostic.message)) for diagnostic in dict.fromkeys(diagnostics)]
    errors = tuple(diagnostic for diagnostic in diagnostics if diagnostic.severity == "error")
    warnings = tuple(diagnostic for diagnostic in diagnostics if diagnostic.severity == "warning")
    cases = tuple(Case(blueprint, index) for blueprint in chosen for index in range(len(blueprint.tests)))
    suite = Suite(
        cases, tuple(known.values()), errors, warnings, handlers=handlers, missing=missing, chosen=tuple(chosen)
    )
    if loaded is None or loaded.settings is None:
        return suite
    settings = loaded.settings
    lifespan, notes = None, []
    if settings.lifespan is not None:
        try:
            lifespan = load_lifespan(settings.lifespan, loaded.folder)
        except HandlerError as error:
            notes = [f"lifespan: {error}"]
    return replace(
        suite,
        lifespan=lifespan,
        notes=tuple(notes),
        secrets=loaded.secrets,
        queues={name: route.queue for name, route in handler_routes(settings).items() if route.queue},
        settings=replace(worker_settings(settings), secrets=loaded.secrets, partitions=1),
        models=build_models(settings.llm, base=loaded.folder, mask=Redactor(loaded.secrets).clean)
        if not errors
        else None,
    )


def with_modules(suite: Suite, modules: Sequence[str]) -> tuple[Suite, list[str]]:
    """Add the functions of modules to the handlers; the second part is what is wrong, a line each.

    Args:
        suite: the suite.
        modules: dotted names, or paths of `.py` files. Functions of theirs are handlers by their names, or by the names
            that their decorators give.
    """
    handlers: dict[str, Handler] = {}
    problems: list[str] = []
    for module in modules:
        file = Path(module)
        name, folder = (file.stem, file.parent) if module.endswith(".py") else (module, Path.cwd())
        found, refusals = register_handlers({}, (name,), folder)
        plain = {each: HandlerEntry(path=place) for each, place in undecorated((name,)).items()}
        others, more = register_handlers(plain, (), folder)
        problems += [f"--handlers {module}: {refusal.message}" for refusal in (*refusals, *more)]
        handlers |= {**others, **found}
    missing = {name: reason for name, reason in suite.missing.items() if name not in handlers}
    for blueprint in suite.chosen if not problems else ():
        for node in blueprint.nodes:
            for name in _names(node):
                if name in missing:
                    place = blueprint.positions.of_key(("nodes", node.id)) or blueprint.file
                    problems.append(f"{place}   nodes.{node.id}: handler '{name}' cannot be used ({missing[name]})")
    return replace(suite, handlers={**suite.handlers, **handlers}, missing=missing), problems


def _handlers_of(
    loaded: LoadResult | None, blueprints: Iterable[Blueprint]
) -> tuple[dict[str, Handler], dict[str, str]]:
    """The handlers that can be had, and for all others that nodes use the reason why they cannot."""
    handlers: dict[str, Handler] = {}
    reasons: dict[str, str] = {}
    general = "there is no flowcraft.yaml that names it"
    if loaded is not None and loaded.settings is not None:
        settings = loaded.settings
        handlers, refusals = register_handlers(settings.handlers, settings.handler_modules, loaded.folder)
        reasons = {str(refusal.path[1]): refusal.message for refusal in refusals if refusal.path[0] == "handlers"}
        modules = [refusal.message for refusal in refusals if refusal.path[0] == "handlerModules"]
        general = "; ".join(modules) or f"{loaded.path.name} names no such handler"
    used = {name for blueprint in blueprints for node in blueprint.nodes for name in _names(node)}
    missing = {}
    for name in sorted(used - handlers.keys() - {*BUILTIN_USES, *PROVIDED}):
        near = did_you_mean(name, handlers) if name not in reasons else ""
        missing[name] = reasons.get(name, general) + near
    return handlers, missing


def _names(node: Node) -> Iterator[str]:
    yield node.uses
    for param in ("uses", "workerUsesKey"):
        if node.uses in BUILTIN_USES and isinstance(node.params.get(param), str):
            yield node.params[param]


def _refusing(name: str, reason: str) -> Handler:
    def refuse(ctx: Any) -> Any:
        raise HandlerMissing(f"handler '{name}' cannot be used ({reason}): mock node '{ctx.node_id}' in the test")

    return Handler(name, refuse, is_async=False)


def _mistakes(
    loaded: LoadResult | None,
    chosen: Sequence[Blueprint],
    known: Mapping[str, Blueprint],
    handlers: Mapping[str, Handler],
    missing: Mapping[str, str],
) -> list[Diagnostic]:
    """What is wrong with the blueprints that are to be tested; where handlers are missing, nothing that depends on them."""
    settings = loaded.settings if loaded is not None else None
    specs = None if missing else {name: handler.declared for name, handler in handlers.items()}
    catalog, found = Catalog(known), []
    for blueprint in chosen:
        found += lint(
            blueprint if settings is None else with_params(blueprint, settings.handlers),
            handlers=specs,
            blueprints=catalog,
            handler_params=params_of(settings) if settings is not None else {},
            handler_places=places_of(loaded.values) if loaded is not None else None,
            max_attempts=settings.defaults.max_retries if settings is not None else None,
            queues=settings.executor.queues if settings is not None else None,
        )
    return list(dict.fromkeys(found))
