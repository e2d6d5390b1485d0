"""What importing the package loads, in new processes, and the benchmark that times it."""

import json
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

import startup

ROOT = Path(__file__).resolve().parents[2]
LOADED = "sorted({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names)"


def added(*statements: str) -> list[set[str]]:
    """Run statements one after another; return the packages that each loads for the first time."""
    lines = [f"{statement}\nprint(json.dumps({LOADED}))" for statement in statements]
    script = "\n".join(["import sys, json", f"print(json.dumps({LOADED}))", *lines])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = [set(json.loads(line)) for line in done.stdout.splitlines()]
    return [after - before for before, after in pairwise(loaded)]


def test_the_package_loads_nothing_but_itself() -> None:
    assert added("import lightning_lyap") == [{"lightning_lyap"}]


@pytest.mark.slow
def test_public_names_load_nothing_but_what_is_loaded_before() -> None:
    packages = added(
        "import lightning_lyap",
        "import torch",
        "from lightning_lyap import lyapunov_spectrum",
        "import pytorch_lightning",
        "from lightning_lyap import *",
    )
    assert packages[0] == {"lightning_lyap"}
    assert "torch" in packages[1]
    assert packages[2] == set()
    assert "pytorch_lightning" in packages[3]
    assert packages[4] == set()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lightning") is None, reason="needs lightning")
def test_beside_the_other_namespace_the_callback_loads_lightning_twice_and_no_more() -> None:
    packages = added(
        "import torch, lightning.pytorch",
        "import lightning_lyap",
        "from lightning_lyap import LyapunovSpectrumCallback",
    )
    assert packages[1] == {"lightning_lyap"}
    assert packages[2] == {"pytorch_lightning", "lightning_fabric"}


def test_the_benchmark_sets_every_import_beside_the_bare_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def fake(statement: str) -> float:
        ran.append(statement)
        # The first round, which is not counted, is slow; then each line takes a second.
        return 50.0 if len(ran) <= 3 else 1.0 + statement.count("\n")

    monkeypatch.setattr(startup, "BARE", {"import json": "json", "import no_such": "no_such"})
    monkeypatch.setattr(startup, "seconds", fake)
    monkeypatch.setattr(sys, "argv", ["startup.py", "--repeats", "2"])
    startup.main()
    said = capsys.readouterr().out
    for statement in startup.ADDED:
        expected = f"| `import json` | `{statement}` | 1.00 | 1.000 | 1.000, 1.000 | 2.00 |"
        assert expected in said
    assert "| `import no_such` | not installed |" in said
    assert ran[:3] == ["import json", *(f"import json\n{added}" for added in startup.ADDED)]
    assert len(ran) == 9


def test_the_benchmark_times_whatever_a_statement_prints_and_not_one_that_fails() -> None:
    assert startup.seconds("print('7\\n-1')") > 0
    with pytest.raises(subprocess.CalledProcessError):
        startup.seconds("raise SystemExit(3)")
