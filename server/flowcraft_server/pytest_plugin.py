"""The pytest plugin that comes with the server.

In a deployment's folder, its modules can be imported as by the server. The fixture `flowcraft_env` is a test environment of
the deployment. With the ini option `flowcraft_blueprints = true`, the `tests:` of blueprint files are collected: name the
folders of blueprints on the command line or in `testpaths`.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flowcraft_server.testing import TestEnvironment
    from flowcraft_server.testing.case_run import CaseResult, CaseRunner
    from flowcraft_server.testing.suite import Suite

CONFIG_FILE = "flowcraft.yaml"
COLLECT = "flowcraft_blueprints"
_SUFFIXES = (".yaml", ".yml", ".json")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option that has the tests of blueprints collected.

    Args:
        parser: pytest's.
    """
    parser.addini(COLLECT, "Collect the `tests:` of Flowcraft blueprints.", type="bool", default=False)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Put the folder of the nearest `flowcraft.yaml`, from where the tests are upwards, at the end of the import path.

    At the end, as the server does: a file in it never takes the place of an installed module.

    Args:
        early_config: The configuration of pytest.
    """
    places = [Path(argument.partition("::")[0]) for argument in early_config.known_args_namespace.file_or_dir]
    for place in [*places, early_config.invocation_params.dir]:
        folder = deployment_folder((early_config.invocation_params.dir / place).resolve())
        if folder is not None and str(folder) not in sys.path:
            sys.path.append(str(folder))


def deployment_folder(place: Path) -> Path | None:
    """Find the folder of the nearest `flowcraft.yaml` from a file or folder upwards.

    Args:
        place: The file or folder.

    Returns:
        The folder, None if there is none.
    """
    return next((folder for folder in (place, *place.parents) if (folder / CONFIG_FILE).is_file()), None)


@pytest.fixture
def flowcraft_env(request: pytest.FixtureRequest) -> "Iterator[TestEnvironment]":
    """Give a test the environment of the nearest deployment, with a private server and a clock of its own.

    Args:
        request: pytest's.

    Yields:
        The environment, entered; `env.override(name, function)` puts functions in the place of handlers.
    """
    from flowcraft_server.testing import TestEnvironment

    folder = deployment_folder(request.path)
    if folder is None:
        pytest.fail(f"flowcraft_env: there is no {CONFIG_FILE} in the folder of {request.path.name} or above it")
    with TestEnvironment.from_config(folder / CONFIG_FILE) as env:
        yield env


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "BlueprintFile | None":
    """Collect the tests of a blueprint file, if the ini option says so.

    Args:
        file_path: The file.
        parent: The folder.

    Returns:
        The collector; None if it is no blueprint file of a deployment.
    """
    if file_path.suffix.lower() not in _SUFFIXES or not parent.config.getini(COLLECT):
        return None
    folder = deployment_folder(file_path)
    if folder is None or file_path.parent not in _folders_of(parent.config, folder):
        return None
    file: BlueprintFile = BlueprintFile.from_parent(parent, path=file_path)
    file.config_file = folder / CONFIG_FILE
    return file


class _Runners:
    """The environments of a session: one for each deployment, started with its first test."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._runners: dict[Path, CaseRunner] = {}
        self.suites: dict[Path, Suite] = {}
        self.folders: dict[Path, frozenset[Path]] = {}

    def of(self, config_file: Path) -> "CaseRunner":
        """The runner of a deployment's cases."""
        from flowcraft_server.testing.coverage import Coverage

        if config_file not in self._runners:
            runner = self._stack.enter_context(self.suites[config_file].runner(Coverage()))
            for note in runner.notes:
                warnings.warn(note, pytest.PytestWarning, stacklevel=1)
            self._runners[config_file] = runner
        return self._runners[config_file]

    def close(self) -> None:
        """Stop them all."""
        self._stack.close()


_KEY = pytest.StashKey[_Runners]()


def _runners(config: pytest.Config) -> _Runners:
    if _KEY not in config.stash:
        config.stash[_KEY] = _Runners()
    return config.stash[_KEY]


def _folders_of(config: pytest.Config, folder: Path) -> frozenset[Path]:
    """The folders of a deployment's blueprints."""
    from flowcraft_server.config.load import load_settings

    known = _runners(config).folders
    if folder not in known:
        loaded = load_settings(folder / CONFIG_FILE)
        if loaded.settings is None:
            errors = "\n".join(map(str, loaded.errors))
            raise pytest.UsageError(f"{COLLECT}: the deployment cannot be loaded\n{errors}")
        known[folder] = frozenset(loaded.place(name).resolve() for name in loaded.settings.blueprints.dirs)
    return known[folder]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the environments.

    Args:
        config: pytest's configuration.
    """
    if _KEY in config.stash:
        config.stash[_KEY].close()


class CaseFailed(Exception):
    """A test of a blueprint failed.

    Args:
        result: What came of it.
    """

    def __init__(self, result: "CaseResult") -> None:
        super().__init__(result.name)
        self.result = result


class BlueprintFile(pytest.File):
    """A blueprint file with its tests."""

    config_file: Path

    def collect(self) -> "Iterable[BlueprintCase]":
        """Read the file with its deployment, and give its tests.

        Yields:
            The tests.

        Raises:
            pytest.Collector.CollectError: A blueprint has errors, or the deployment does.
        """
        from flowcraft_server.llm.errors import LLMSettingsError
        from flowcraft_server.testing.blueprint_warnings import BlueprintWarning
        from flowcraft_server.testing.suite import load_suite

        suites = _runners(self.config).suites
        if self.config_file not in suites:
            try:
                suites[self.config_file] = load_suite(self.config_file)
            except LLMSettingsError as error:
                raise self.CollectError(str(error)) from None
        suite = suites[self.config_file]
        if suite.diagnostics:
            raise self.CollectError("\n".join(map(str, suite.diagnostics)))
        for diagnostic in suite.warnings if _is_first_worker(self.config) else ():
            if diagnostic.position is not None and Path(diagnostic.position.file).resolve() == self.path.resolve():
                self.warn(BlueprintWarning(str(diagnostic).removesuffix("   [warning]")))
        for case in suite.cases:
            if case.blueprint.file is not None and Path(case.blueprint.file).resolve() == self.path.resolve():
                item: BlueprintCase = BlueprintCase.from_parent(self, name=case.name)
                item.case = case
                yield item


def _is_first_worker(config: pytest.Config) -> bool:
    """Whether what collecting brings up is to be shown by this process: with pytest-xdist each worker collects all."""
    given: dict[str, str] = getattr(config, "workerinput", {})
    return given.get("workerid", "gw0") == "gw0"


class BlueprintCase(pytest.Item):
    """A test of a blueprint."""

    case: Any

    def runtest(self) -> None:
        """Run it on the real engine.

        Raises:
            CaseFailed: It went otherwise than expected.
        """
        assert isinstance(self.parent, BlueprintFile)
        result = _runners(self.config).of(self.parent.config_file).run(self.case.blueprint, self.case.index)
        if not result.passed:
            raise CaseFailed(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what was not met in place of a traceback.

        Args:
            excinfo: What was raised.
            style: As pytest has it.

        Returns:
            The text.
        """
        if isinstance(excinfo.value, CaseFailed):
            return "\n".join(excinfo.value.result.explained())
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Say where it stands.

        Returns:
            File, line from 0, and name.
        """
        position = self.case.blueprint.positions.of(("tests", self.case.index))
        return self.path, position.line - 1 if position is not None else 0, f"{self.case.blueprint.id}: {self.name}"
