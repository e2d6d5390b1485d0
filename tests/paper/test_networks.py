import math
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from paper.networks import charrnn_by_init, charrnn_random, mocap_by_init, of_tasks

CONF = Path(__file__).resolve().parents[2] / "paper" / "conf"


def settings(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def test_fig3_has_the_papers_values_and_one_seed() -> None:
    networks = charrnn_by_init(settings("scale=paper"))
    values = [0.04, 0.08, 0.12, 0.16, 0.2, 0.5]
    assert [network.facts for network in networks] == [{"init_p": value} for value in values]
    assert {network.overrides["seed"] for network in networks} == {1}
    assert {network.epochs for network in networks} == {15}


def test_random_draws_are_a_fixed_list_and_longer_ones_begin_with_shorter_ones() -> None:
    long = charrnn_random(settings("scale=paper"))
    short = charrnn_random(settings("scale=paper", "scale.charrnn_random.count=5"))
    assert len(long) == 60
    assert [n.facts for n in long[:5]] == [n.facts for n in short]
    assert long[0].facts == {"dropout": 0.0613, "lr": 0.0046687}
    assert len({tuple(n.facts.values()) for n in long}) == 60
    assert len({n.overrides["seed"] for n in long}) == 60


def test_random_draws_fill_their_ranges_in_the_logarithm_of_dropout() -> None:
    networks = charrnn_random(settings("scale=paper", "scale.charrnn_random.count=400"))
    for name, (low, high), scale in (
        ("dropout", (0.0001, 0.2), math.log),
        ("lr", (0.0005, 0.006), float),
    ):
        values = sorted(network.facts[name] for network in networks)
        places = [(scale(v) - scale(low)) / (scale(high) - scale(low)) for v in values]
        assert -1e-4 < places[0] < 0.02
        assert 0.98 < places[-1] < 1 + 1e-4
        # Quartiles of 400 uniform numbers, within 4 standard errors.
        assert [places[100], places[200], places[300]] == pytest.approx([0.25, 0.5, 0.75], abs=0.1)


def test_every_beginning_of_mocap_covers_the_range_evenly() -> None:
    networks = mocap_by_init(settings("scale=paper"))
    assert len(networks) == 30
    for count in (5, 13, 30):
        values = sorted(n.facts["init_p"] for n in networks[:count])
        gaps = [b - a for a, b in zip([0.05, *values], [*values, 0.5], strict=True)]
        assert max(gaps) < 2.7 * 0.45 / (count + 1)


def test_settings_of_train_py_reach_all_networks() -> None:
    cfg = settings("+train.lyapunov.orthonormalize_every=auto", "scale=tiny")
    for network in of_tasks(cfg):
        assert network.overrides["lyapunov"]["orthonormalize_every"] == "auto"
        assert network.overrides["task"]["hidden_size"] == 8


def test_what_is_drawn_wins_over_the_scale() -> None:
    cfg = settings("scale=tiny", "+scale.charrnn.task.dropout=0.5", "+scale.charrnn.seed=99")
    for network in charrnn_random(cfg):
        assert network.overrides["task"]["dropout"] == network.facts["dropout"] != 0.5
        assert network.overrides["seed"] != 99


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match=r"but got \['mocaap'\]"):
        of_tasks(settings("tasks=[charrnn,mocaap]"))
