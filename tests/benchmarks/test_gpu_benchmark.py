"""The benchmark for GPUs, with small sizes on the CPU."""

import json
import sys
from pathlib import Path

import pytest

import gpu


def test_measures_and_writes_all_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_bench.BUDGET", 0.0)
    monkeypatch.setattr(
        sys, "argv", ["gpu.py", "--device", "cpu", "--quick", "--out", str(tmp_path)]
    )
    gpu.main()
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    sections = {row["section"] for row in rows}
    assert sections >= {
        "operation",
        "factor",
        "ratio",
        "spectrum",
        "agreement",
        "waits",
        "accuracy",
    }
    assert "failed" not in sections
    for row in rows:
        if row["section"] == "agreement":
            assert row["certified"]
            assert 0 < row["largest_difference"] < 1e-3
        if row["section"] == "accuracy":
            assert row["orthogonality"] < 1e-5
    text = (tmp_path / "gpu.md").read_text()
    assert text.count("\n## ") == len(sections)
