"""From trajectories to an estimate: means over sequences, their errors, and the certificate."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_lyap.certificate.result import IDENTITIES, Certificate, Check, worst
from lightning_lyap.estimator.batching import Group
from lightning_lyap.estimator.result import SpectrumEstimate, SpectrumSums, TimeChunks
from lightning_lyap.estimator.trajectories import Trajectories
from lightning_lyap.statistics.batch_means import joined

# What rounding may have turned of an exponent that is resolved, nats in all: what has turned more
# may have turned altogether.
MOST_TURNED = 0.03


def _valid_sequences(part: Trajectories) -> Tensor:
    """Return which sequences stayed finite, ``[B]``, bool; exponents may be minus infinity."""
    lost = part.sums.isnan() | part.sums.isposinf()
    valid = ~lost.any(-1)
    for tensor in part.state:
        valid &= tensor.isfinite().flatten(1).all(-1)
    return valid


def _distinct_sequences(part: Trajectories) -> Tensor:
    """Return which sequences are no repetition of another one, ``[B]``, bool."""
    if part.overlap is None:
        return torch.ones(part.shape[0], dtype=torch.bool, device=part.sums.device)
    return part.overlap.distinct.to(part.sums.device)


def _sums_of(part: Trajectories) -> SpectrumSums:
    """Return the sums over distinct, finite sequences, in the order of the basis vectors."""
    counted = _valid_sequences(part) & _distinct_sequences(part)
    shared = torch.zeros_like(part.sums[:, 0]) if part.overlap is None else part.overlap.shared
    turned, steps = part.turned, part.steps.unsqueeze(-1)
    rounding = ((part.rounding + turned) / steps)[counted]
    resolved = (part.resolved & (turned < MOST_TURNED))[counted]
    if part.schedule.tolerance is not None:
        resolved = resolved & (rounding.mean(0) <= part.schedule.tolerance)
    contrasts = vars(part.bins.contrasts(part.steps, counted))
    return SpectrumSums(
        **(contrasts | {"overlap": shared.to(counted.device)[counted].sum()}),
        rounding=rounding.sum(0),
        unresolved=(~resolved).sum(0),
        steps=torch.stack([counted.sum() * part.warmup_steps, part.steps[counted].sum()]),
    )


def _total_sums(parts: Sequence[Trajectories]) -> SpectrumSums:
    """Return the sums over all sequences of several parts."""
    return joined([_sums_of(part) for part in parts])


def _parts_of(groups: Sequence[Group]) -> list[Trajectories]:
    """Return the trajectories of several groups, one after the other."""
    return [share for group in groups for share in group.shares]


def is_precise(groups: Sequence[Group], target: float) -> bool:
    """Return whether the standard errors of all resolved exponents have reached a target.

    Args:
        groups: Those that were run so far.
        target: Nats per step.

    Returns:
        False also where there is no resolved exponent, or an error does not exist yet.
    """
    parts = _parts_of(groups)
    size, columns = parts[0].system.tangent_size, parts[0].shape[2]
    spectrum = _total_sums(parts).sorted_mean(size, columns=columns)[0]
    errors = spectrum.standard_errors[spectrum.resolved]
    return errors.numel() > 0 and bool((errors <= target).all())


def assemble(
    groups: Sequence[Group],
    num_exponents: int | None,
    first: Mapping[str, Check | None],
    target_reached: bool | None,
) -> SpectrumEstimate:
    """Take the means over all sequences, sort them once, and certify them.

    Args:
        groups: Groups at their end, of sequences one after the other.
        num_exponents: K or None for all there are.
        first: Checks of the first steps by identity, None where there is none.
        target_reached: Whether the target of the standard errors was reached; None without one.

    Returns:
        The estimate.
    """
    parts = _parts_of(groups)
    system = parts[0].system
    sums = _total_sums(parts)
    spectrum, order = sums.sorted_mean(system.tangent_size, num_exponents, parts[0].shape[2])
    block_ends, stretches = _joint_blocks(parts)
    known = spectrum.rounding_errors[spectrum.resolved]
    made = [*first.items(), *(named for part in parts for named in part.inspector.found)]
    found = {name: worst(check for own, check in made if own == name) for name in IDENTITIES}
    return SpectrumEstimate(
        **vars(spectrum),
        per_sequence=torch.cat([p.sums / p.steps.unsqueeze(-1) for p in parts])[:, order],
        valid=torch.cat([_valid_sequences(part) for part in parts]),
        distinct=torch.cat([_distinct_sequences(part) for part in parts]),
        steps=torch.cat([part.steps for part in parts]),
        order=order,
        sums=sums,
        layer=order // parts[0].shape[2] if system.num_blocks > 1 else None,
        final_state=system.export_state(
            tuple(torch.cat(tensors) for tensors in zip(*[p.state for p in parts], strict=True))
        ),
        final_basis=torch.cat([part.basis for part in parts]),
        block_ends=torch.tensor(block_ends, device=sums.squares.device),
        certificate=Certificate(
            **found,
            num_sequences=spectrum.num_sequences,
            rounding_error=known.max().item() if known.numel() else None,
            num_factorizations=sum(len(group.longest.block_ends) for group in groups),
            num_redone=sum(group.longest.redone for group in groups),
        ),
        target_reached=target_reached,
        log_stretches=None if stretches is None else stretches[..., order],
        chunks=_joint_chunks([part.chunks for part in parts if part.chunks is not None]),
    )


def _joint_blocks(parts: Sequence[Trajectories]) -> tuple[list[int], Tensor | None]:
    """Return the block ends that several parts have in common, in steps counted.

    With the log-stretches of these blocks, ``[M, B, C]``, if they were kept.
    """
    last = max(part.block_ends[-1] for part in parts)
    # A part that ended earlier has nothing to add, and no say in what follows.
    own = [{*part.block_ends, *range(part.block_ends[-1], last + 1)} for part in parts]
    every = sorted({end for part in parts for end in part.block_ends})
    common = [end for end in every if all(end in ends for ends in own)]
    if not parts[0].stretches:
        return common, None
    joined = []
    for part in parts:
        # Not by differences of cumulated sums: minus infinity has none.
        index = torch.bucketize(torch.tensor(part.block_ends), torch.tensor(common))
        zeros = part.sums.new_zeros(len(common), *part.sums.shape)
        joined.append(zeros.index_add(0, index.to(zeros.device), torch.stack(part.stretches)))
    return common, torch.cat(joined, dim=1)


def _joint_chunks(parts: Sequence[TimeChunks]) -> TimeChunks | None:
    """Return how the chunks of several parts came out together; None without chunks."""
    if not parts:
        return None
    return TimeChunks(
        count=max(part.count for part in parts),
        steps=max(part.steps for part in parts),
        rounds=max(part.rounds for part in parts),
        angle=max(part.angle for part in parts),
        num_finished_plainly=sum(part.num_finished_plainly for part in parts),
    )
