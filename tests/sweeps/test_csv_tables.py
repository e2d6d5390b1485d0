"""Files that are set aside keep what they hold."""

from pathlib import Path

from lightning_lyap.tasks.run_folder import set_aside


def test_a_file_set_aside_takes_the_next_free_number(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "metrics.csv").write_text(content)
        set_aside(tmp_path / "metrics.csv")
    set_aside(tmp_path / "metrics.csv")
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"metrics-1.csv": "first", "metrics-2.csv": "second"}
