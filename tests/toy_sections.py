"""The sections of the performance benchmark with toy sizes."""

from collections.abc import Callable
from functools import partial

import torch

from performance import crossover, fit, laws, leading, over_time, overhead, parallel, union
from performance.table import Result

CPU = torch.device("cpu")
TOYS: dict[str, Callable[[torch.device], Result]] = {
    "overhead": partial(overhead.measure, overhead.Sizes(8, 2, 5, 2)),
    "leading": partial(leading.measure, leading.Sizes(8, 2, 6, 2, leading=3)),
    "laws": partial(
        laws.measure, laws.Sizes((4, 5, 6, 8), (2, 3, 4), (2, 3, 4), (3, 4, 5), (1, 2, 3), 2, 1)
    ),
    "crossover": partial(crossover.measure, crossover.Sizes((4,), 2, 1, gates=(4,))),
    "union": partial(union.measure, union.Sizes(((4, 2, 3),), 2, stack=2)),
    "parallel": partial(parallel.measure, parallel.Sizes(((8, 3, 2),), 2, 1, 1.0)),
    "over_time": partial(
        over_time.measure, over_time.Sizes((over_time.Case("GRU", 4, 2, 2, 12, 3),), 9, 2)
    ),
    "callback": partial(
        fit.measure,
        fit.Sizes(3, 4, 5, 2, 2, 2, 1, {"num_sequences": 2, "num_steps": 6, "figures": False}),
    ),
}
