"""Trains many networks in order, several at a time if asked, until all are done or time is over."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.connection import wait as wait_for_end

import torch

from paper.networks import Network
from paper.settings import Settings, resolve_data
from paper.training import Progress, for_task, train_network

Work = tuple[Network, Settings]


def plan(networks: Sequence[Network], settings: Settings) -> list[Work]:
    """Bring the data to disk and fix it for each network.

    Args:
        networks: What to train.
        settings: How to train.

    Returns:
        Networks with their settings, in order.
    """
    sources = resolve_data(networks, settings)
    return [(network, for_task(settings, sources[network.task])) for network in networks]


def train_all(work: Sequence[Work], jobs: int) -> list[str]:
    """Train networks, the first ones first, and say how each ended.

    Args:
        work: What `plan` returned.
        jobs: How many networks at a time.

    Returns:
        What went wrong, a line for each network that failed; the others go on.
    """
    begun, failures = 0, []
    for network, outcome in _one_by_one(work) if jobs == 1 else _side_by_side(work, jobs):
        begun += 1
        if isinstance(outcome, Progress):
            print(outcome.line(), flush=True)
        else:
            failures.append(f"{network.name}: {type(outcome).__name__}: {outcome}")
            print(failures[-1], flush=True)
    if begun < len(work):
        print(f"The time is over: {len(work) - begun} of {len(work)} networks not begun.")
    return failures


def _one_by_one(work: Sequence[Work]) -> Iterator[tuple[Network, Progress | Exception]]:
    """Train in this process.

    Args:
        work: Networks and settings.

    Yields:
        Each network with how far it got, or what went wrong.
    """
    for network, settings in work:
        if settings.is_over:
            return
        try:
            yield network, train_network(network, settings)
        except Exception as error:
            yield network, error


def _side_by_side(
    work: Sequence[Work], jobs: int
) -> Iterator[tuple[Network, Progress | Exception]]:
    """Train in processes of their own, which end with this one.

    Args:
        work: Networks and settings.
        jobs: How many processes.

    Yields:
        Each network with how far it got, or what went wrong.
    """
    rest = iter(work)
    running: dict[Future[Progress], Network] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(jobs,)) as pool:
        while True:
            # No more at once than there are processes: what waits could not be stopped in time.
            while len(running) < jobs and (item := next(rest, None)) is not None:
                network, settings = item
                if settings.is_over:
                    break
                running[pool.submit(train_network, network, settings)] = network
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                error = future.exception()
                network = running.pop(future)
                if isinstance(error, Exception):
                    yield network, error
                else:
                    yield network, future.result()


def _begin(jobs: int) -> None:
    """Share the cores, and end with the parent, even if it is killed.

    Args:
        jobs: How many processes there are.
    """
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // jobs)))
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """Wait for the parent's end and end this process, in the middle of whatever it does.

    Args:
        sentinel: Of the parent.
    """
    wait_for_end([sentinel])
    os._exit(1)
