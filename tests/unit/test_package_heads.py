"""The head of each package says who imports it, and says so truly."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = {"flowcraft_sdk": ROOT / "sdk" / "flowcraft_sdk", "flowcraft_server": ROOT / "server" / "flowcraft_server"}
PACKAGES = sorted(
    file.parent.relative_to(root.parent).as_posix().replace("/", ".")
    for root in PARTS.values()
    for file in root.glob("*/__init__.py")
)


def _imported(file: Path, package: tuple[str, ...]) -> set[str]:
    """The names of modules that a file imports, written out from the top."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *(node.module or "").split(".")))
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def _who(name: str, imported_from: str, own: str) -> str:
    if name != imported_from:
        return "the server"
    return "the package itself" if own == "__init__" else own


def _importers() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {package: set() for package in PACKAGES}
    for name, root in PARTS.items():
        for file in root.rglob("*.py"):
            inside = file.relative_to(root).parts
            own = inside[0] if len(inside) > 1 else file.stem
            for module in _imported(file, (name, *inside[:-1])):
                top, _, rest = module.partition(".")
                package = f"{top}.{rest.partition('.')[0]}"
                if package in found and package != f"{name}.{own}":
                    found[package].add(_who(name, top, own))
    return found


IMPORTERS = _importers()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_head_says_who_imports_it(package: str) -> None:
    top, _, rest = package.partition(".")
    text = ast.get_docstring(ast.parse((PARTS[top] / rest / "__init__.py").read_text(encoding="utf-8"))) or ""
    _, _, listed = text.replace("\n", " ").partition("Imported by: ")
    expected = ", ".join(sorted(IMPORTERS[package])) or "nothing"
    assert listed == f"{expected}.", f"the head of {package} ends with: Imported by: {expected}."
