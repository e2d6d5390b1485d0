"""Optuna's pruning callback reads the spectrum at the end of each validation."""

from pathlib import Path

import pytest

from tests.modes.runs import epochs_of, quick
from tests.networks import fit

optuna = pytest.importorskip("optuna", reason="needs the extra `sweeps`")

pytestmark = pytest.mark.filterwarnings("ignore:The Lyapunov spectrum took")


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_optuna_prunes_on_the_largest_exponent(first: bool, tmp_path: Path) -> None:
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=1e3, n_warmup_steps=1)
    )
    trial, spectra = study.ask(), quick()
    pruning = optuna.integration.PyTorchLightningPruningCallback(trial, "lyapunov/max")
    order = [spectra, pruning] if first else [pruning, spectra]
    with pytest.raises(optuna.TrialPruned, match="epoch 1"):
        fit(tmp_path, *order, max_epochs=5)
    # The sanity check comes first: it reports nothing that was measured.
    reported = study.trials[0].intermediate_values
    assert epochs_of(spectra) == [0, 1, 2]
    history = spectra.histories["rnn"].exponents()[1:, 0]
    assert [reported[0], reported[1]] == pytest.approx(history.tolist(), rel=1e-6)
