"""The directions of import, read from the source: mathematics below, the callback on top."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import lightning_lyap

ROOT = Path(lightning_lyap.__file__).parents[1]
PACKAGE = "lightning_lyap"
MATHEMATICS = {
    "upload",
    "reflectors",
    "rounding",
    "householder",
    "cholesky",
    "orthonormal",
    "measures",
    "dynamics",
    "modes",
    "certificate",
    "block_bases",
    "inspector",
    "interval",
    "trajectories",
    "checks",
    "tensor_checks",
    "contrasts",
    "uncertainty",
    "estimate",
    "threads",
    "memory",
    "groups",
    "assembly",
    "extension",
    "forward",
    "cuts",
    "chunk_rounds",
    "time_chunks",
    "spectrum",
}
TORCH_ALONE = MATHEMATICS | {"systems", "correlation"}
# Room -> the rooms it may look into.
SIGHT = {
    "_version": set[str](),
    "upload": set[str](),
    "reflectors": set[str](),
    "rounding": {"reflectors", "upload"},
    "householder": {"reflectors", "rounding"},
    "cholesky": {"rounding"},
    "orthonormal": {"cholesky", "householder", "rounding"},
    "measures": set[str](),
    "certificate": set[str](),
    "inspector": {"certificate", "dynamics", "orthonormal", "reflectors", "rounding", "upload"},
    "interval": {"rounding"},
    "block_bases": {"dynamics", "rounding"},
    "trajectories": {
        "block_bases",
        "contrasts",
        "dynamics",
        "householder",
        "inspector",
        "interval",
        "orthonormal",
        "reflectors",
        "rounding",
        "upload",
    },
    "dynamics": {"dynamics", "modes", "reflectors"},
    "modes": set[str](),
    "checks": set[str](),
    "tensor_checks": {"dynamics"},
    "contrasts": set[str](),
    "uncertainty": {"contrasts"},
    "estimate": {"certificate", "checks", "measures", "contrasts", "uncertainty"},
    "threads": set[str](),
    "memory": {"dynamics"},
    "groups": {"dynamics", "inspector", "threads", "trajectories"},
    "assembly": {"certificate", "dynamics", "estimate", "groups", "trajectories"},
    "extension": {"assembly", "groups", "trajectories"},
    "forward": {"certificate", "dynamics", "modes"},
    "cuts": {"dynamics", "interval", "memory", "reflectors", "rounding", "trajectories"},
    "chunk_rounds": {
        "block_bases",
        "cuts",
        "dynamics",
        "estimate",
        "inspector",
        "orthonormal",
        "reflectors",
        "trajectories",
        "upload",
    },
    "time_chunks": {
        "checks",
        "chunk_rounds",
        "cuts",
        "dynamics",
        "estimate",
        "groups",
        "interval",
        "trajectories",
    },
    "spectrum": MATHEMATICS,
    "systems": {"systems"},
    "metric": MATHEMATICS | {"plotting"},
    "whole_files": set[str](),
    "plotting": {"plotting", "whole_files"},
    "compiled": set[str](),
    "finding": {"compiled", "dynamics"},
    "recordings": {"dynamics"},
    "loops": {"dynamics", "recordings"},
    "history": MATHEMATICS | {"plotting", "saved_history", "whole_files", "_version"},
    "saved_history": set[str](),
    "layout": {"loggers"},
    "hyperparameters": set[str](),
    "failures": set[str](),
    "pacing": set[str](),
    "progress": set[str](),
    "trainer_facts": {"failures"},
    "generators": set[str](),
    "driving": {"capture", "failures", "generators", "modes", "recordings"},
    "probe": MATHEMATICS | {"generators", "metric", "recordings"},
    "ledger": {"checks", "estimate", "failures", "history", "probe", "trainer_facts"},
    "network_probe": {
        "compiled",
        "driving",
        "estimate",
        "failures",
        "finding",
        "generators",
        "ledger",
        "probe",
        "progress",
        "recordings",
        "trainer_facts",
    },
    "logged_values": {"ledger", "trainer_facts"},
    "resumption": {"ledger", "logged_values", "pacing"},
    "reporter": {
        "failures",
        "history",
        "layout",
        "ledger",
        "loggers",
        "pacing",
        "probe",
        "publishing",
        "trainer_facts",
    },
    "callback": {
        "checks",
        "dynamics",
        "failures",
        "finding",
        "history",
        "interval",
        "logged_values",
        "network_probe",
        "probe",
        "reporter",
        "resumption",
        "trainer_facts",
    },
    "loggers": set[str](),
    "network_spectra": MATHEMATICS | {"capture", "compiled", "finding", "generators", "recordings"},
    "spectrum_text": MATHEMATICS,
    "correlation": {"checks"},
    "tables": {"whole_files"},
    "losses": {"tables"},
    "run_folder": {"whole_files"},
    "objective": set[str](),
    "runs": {"history", "losses"},
    "selection": {"runs"},
    "comparison": MATHEMATICS | {"correlation", "runs", "selection"},
    "comparison_table": {"comparison", "correlation"},
    "comparing_plots": {"comparison", "comparison_table", "correlation", "plotting"},
    "__main__": set[str](),
}
DRAWING = {"plotting", "comparing_plots"}
OPTIONAL = {"matplotlib", "mpl_toolkits", "tensorboard", "hydra", "omegaconf", "pooch", "wandb"}
HEAVY = ("pytorch_lightning", "lightning", "torchmetrics", "matplotlib", "hydra", "tensorboard")


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the full names of the modules imported below a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def rooms_seen_by(path: Path) -> set[str]:
    names = (name.split(".") for name in imported(parse(path)))
    rooms = {parts[1] for parts in names if parts[0] == PACKAGE and len(parts) > 1}
    return rooms & {room(source) for source in sources(PACKAGE)}


def tops(tree: ast.AST) -> set[str]:
    return {name.split(".")[0] for name in imported(tree)}


@pytest.mark.parametrize("path", sources(PACKAGE), ids=lambda p: str(p.relative_to(ROOT)))
class TestEveryFile:
    def test_sees_only_the_rooms_it_may(self, path: Path) -> None:
        if room(path) in SIGHT:
            assert rooms_seen_by(path) <= SIGHT[room(path)]

    def test_does_not_import_the_callback(self, path: Path) -> None:
        if path != ROOT / PACKAGE / "__init__.py":
            assert "callback" not in rooms_seen_by(path)

    def test_is_mathematics_or_knows_lightning(self, path: Path) -> None:
        if room(path) in TORCH_ALONE:
            assert not tops(parse(path)) & {*HEAVY, "lightning_utilities", "numpy", "tqdm"}

    def test_leaves_matplotlib_to_plotting(self, path: Path) -> None:
        if room(path) not in DRAWING:
            assert not tops(parse(path)) & {"matplotlib", "mpl_toolkits"}

    def test_imports_at_the_top_but_for_optional_packages(self, path: Path) -> None:
        functions = (
            node
            for node in ast.walk(parse(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        for function in functions:
            assert tops(function) <= OPTIONAL, f"in {function.name}"

    def test_is_no_room_without_a_name(self, path: Path) -> None:
        assert path.stem not in {"utils", "helpers", "misc", "common"}


def test_no_cycles() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources(PACKAGE)
        if path != ROOT / PACKAGE / "__init__.py"
    }
    graph = {name: set(imported(parse(path))) & set(modules) for name, path in modules.items()}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index(f"{PACKAGE}.spectrum") > order.index(f"{PACKAGE}.orthonormal")


@pytest.mark.parametrize("path", sources("datamodules"), ids=lambda p: p.name)
def test_datamodules_stand_alone(path: Path) -> None:
    assert PACKAGE not in tops(parse(path))


@pytest.mark.parametrize("folder", [PACKAGE, "datamodules", "conf"])
def test_nothing_looks_up_to_the_papers_figures(folder: str) -> None:
    for path in [*sources(folder), ROOT / "train.py"]:
        assert "paper" not in tops(parse(path)), path


@pytest.mark.parametrize("path", sources("paper"), ids=lambda p: p.name)
class TestThePapersFigures:
    def test_leave_mathematics_and_training_to_the_package(self, path: Path) -> None:
        assert not {"callback", "dynamics", "trajectories", "probe"} & rooms_seen_by(path)

    def test_see_what_makes_figures_only_from_below(self, path: Path) -> None:
        figures = {"fig3", "fig4", "fig7", "table1", "readout", "hidden_full"}
        rooms = {"settings", "networks", "training", "jobs", "records", "archive"}
        if path.stem in rooms | {"timing", "costs", "confidence", "courses", "settling"}:
            seen = {n.split(".")[1] for n in imported(parse(path)) if n.startswith("paper.")}
            assert not seen & (figures | {"command", "drawing", "claims", "report"})

    def test_imports_at_the_top_but_for_optional_packages(self, path: Path) -> None:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef):
                assert tops(node) <= {*OPTIONAL, "PIL"}, f"in {node.name}"

    def test_is_no_room_without_a_name(self, path: Path) -> None:
        assert path.stem not in {"utils", "helpers", "misc", "common"}


@pytest.mark.parametrize("name", lightning_lyap.__all__)
def test_public_names_resolve_and_are_documented(name: str) -> None:
    value = getattr(lightning_lyap, name)
    if name != "__version__":
        assert value.__doc__
        assert name in dir(lightning_lyap)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = lightning_lyap.no_such_name


def test_public_names_are_listed_once() -> None:
    assert sorted({*lightning_lyap._HOMES, "__version__"}) == sorted(lightning_lyap.__all__)
    for name, home in lightning_lyap._HOMES.items():
        assert hasattr(import_module(f"{PACKAGE}.{home}"), name)


@pytest.mark.parametrize("statement", ["import lightning_lyap", "import lightning_lyap.spectrum"])
def test_the_estimator_needs_torch_alone(statement: str) -> None:
    script = f"import sys; {statement}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_package_is_typed() -> None:
    assert (ROOT / PACKAGE / "py.typed").is_file()
