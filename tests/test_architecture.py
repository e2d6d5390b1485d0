"""What the import contract (`lint-imports`, pyproject.toml) can't say."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import lightning_lyap

ROOT = Path(lightning_lyap.__file__).parents[1]
PACKAGE = "lightning_lyap"
DRAWING = {"plotting", "sweeps/plots.py"}
OPTIONAL = {"matplotlib", "mpl_toolkits", "tensorboard", "hydra", "omegaconf", "pooch", "wandb"}
HEAVY = ("pytorch_lightning", "lightning", "torchmetrics", "matplotlib", "hydra", "tensorboard")
SOURCES = [path for name in (PACKAGE, "paper") for path in sorted((ROOT / name).rglob("*.py"))]


def tops(tree: ast.AST) -> Iterator[str]:
    """Yield the top-level packages that are imported below a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0, "relative import"
            yield node.module.split(".")[0]


class TestEveryFile:
    def test_leaves_matplotlib_to_plotting(self) -> None:
        for path in SOURCES:
            place = path.relative_to(ROOT).as_posix().removeprefix(f"{PACKAGE}/")
            if not place.startswith((*DRAWING, "paper/")):
                found = {*tops(ast.parse(path.read_text()))}
                assert not found & {"matplotlib", "mpl_toolkits"}, place

    def test_imports_at_the_top_but_for_optional_packages(self) -> None:
        for path in SOURCES:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    assert {*tops(node)} <= {*OPTIONAL, "PIL"}, f"{path}, in {node.name}"

    def test_is_named_for_what_it_does_and_not_too_long(self) -> None:
        for path in SOURCES:
            assert path.stem not in {"utils", "helpers", "misc", "common"}, path
            assert len(path.read_text().splitlines()) <= 350, path


def test_the_package_has_few_parts() -> None:
    names = {path.name for path in (ROOT / PACKAGE).iterdir()} - {"__pycache__"}
    assert 10 < len(names) <= 22


def test_public_names_resolve_and_are_documented() -> None:
    for name in {*lightning_lyap.__all__} - {"__version__"}:
        assert getattr(lightning_lyap, name).__doc__, name
        assert name in dir(lightning_lyap), name


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = lightning_lyap.no_such_name


def test_public_names_are_listed_once() -> None:
    assert sorted({*lightning_lyap._HOMES, "__version__"}) == sorted(lightning_lyap.__all__)
    for name, home in lightning_lyap._HOMES.items():
        assert hasattr(import_module(f"{PACKAGE}.{home}"), name)


def test_the_estimator_needs_torch_alone() -> None:
    """And the comparison of runs SciPy besides, nothing else."""
    loaded = f"print([m for m in {(*HEAVY, 'scipy')} if m in sys.modules])"
    script = f"import sys; from lightning_lyap import lyapunov_spectrum, spectra_of; {loaded}; "
    script += f"import lightning_lyap.cli.compare; {loaded}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[]", "['scipy']"]


def test_configurations_of_earlier_versions_find_the_networks() -> None:
    from lightning_lyap import modules, tasks

    assert (modules.CharRNN, modules.MocapRNN) == (tasks.CharRNN, tasks.MocapRNN)


def test_the_package_is_typed() -> None:
    assert (ROOT / PACKAGE / "py.typed").is_file()
