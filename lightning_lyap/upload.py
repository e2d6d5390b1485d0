"""Copies to the device that nobody waits for."""

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device without waiting for what the device is doing.

    Args:
        tensor: On the CPU.
        device: Where to.

    Returns:
        The copy; the tensor itself on the CPU.
    """
    if device.type == "cuda":
        # From memory that may be paged out the driver copies only once the device is idle.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
