"""Motion recordings for the mocap task when the real ones are out of reach.

Every recording has the format of the real ones: 117 comma-separated columns a frame at 120 frames a
second, the root's position and rotation first, then joint angles in radians. The columns that are
constant in the real recordings are constant here. Limbs are chains in which each joint follows its
parent with a delay; two phases with the golden ratio between their frequencies drive them, so that
no frame returns exactly. Amplitudes and tempo drift slowly. There is no noise.
"""

import random
from math import pi, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

VERSION = "motion_v1"
NUM_COLUMNS = 117
FRAMES_PER_SECOND = 120
GOLDEN_RATIO = (1 + sqrt(5)) / 2
# The lengths of the real recordings: five to train with, then the one called test.
FRAMES = {
    "basketball": (722, 528, 397, 386, 403, 577),
    "soccer": (802, 591, 363, 437, 573, 598),
    "walking": (344, 599, 495, 317, 330, 359),
    "jumping": (416, 1505, 427, 337, 352, 2086),
}
CYCLES_PER_SECOND = {"basketball": 1.1, "soccer": 0.9, "walking": 0.8, "jumping": 0.6}
# The columns that move in the real recordings, from the root outwards, and the phase at the root.
CHAINS = (
    ((9, 10, 11, 12, 13, 15, 16, 17, 18, 19), 0.0),
    ((27, 28, 29, 30, 31, 33, 34, 35, 36, 37), pi),
    (tuple(range(42, 60)), pi / 2),
    ((66, 67, 68, 70, 71, 72, 75, 76, 77, 80, 84, 85, 86), pi),
    ((93, 94, 95, 97, 98, 99, 102, 103, 104, 107, 111, 112, 113), 0.0),
)
# Centimetres scaled as in the real recordings: sideways, height, forwards.
ROOT_POSITION = ((3.5, 4.0), (17.5, 1.7), (0.0, 19.0))


def write_motion(folder: Path, seed: int = 0) -> None:
    """Write all recordings in the layout of the data folder.

    Args:
        folder: Data folder to create; recordings are ``cmu_mocap/SPLIT/ACTION/ACTION_N.txt``.
        seed: Seed of the recordings.
    """
    for action, lengths in FRAMES.items():
        for index, num_frames in enumerate(lengths):
            split, number = ("train", index + 1) if index < len(lengths) - 1 else ("test", 1)
            path = folder / "cmu_mocap" / split / action / f"{action}_{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            frames = generate_recording(action, index, num_frames, seed)
            np.savetxt(path, frames, fmt="%.7g", delimiter=",", newline="\n")


def generate_recording(action: str, index: int, num_frames: int, seed: int = 0) -> FloatArray:
    """Generate one recording; the same arguments give the same frames.

    Args:
        action: One of the four actions; actions differ in tempo, posture and gesture.
        index: Number of the recording; recordings of an action differ in phase, tempo and reach.
        num_frames: Length F in frames of 1/120 s.
        seed: Seed of generators of their own.

    Returns:
        Frames ``[F, 117]``; angles in radians.
    """
    gesture = random.Random(f"{seed}/{action}")
    take = random.Random(f"{seed}/{action}/{index}")
    seconds = np.arange(num_frames) / FRAMES_PER_SECOND
    tempo = CYCLES_PER_SECOND[action] * take.uniform(0.9, 1.1)
    phase = _phase(seconds, tempo, take)
    second_phase = _phase(seconds, tempo * GOLDEN_RATIO, take)
    frames = np.zeros((num_frames, NUM_COLUMNS))
    frames[:, :6] = _root(seconds, phase, second_phase, take)
    for columns, offset in CHAINS:
        limb = _limb(len(columns), phase + offset, second_phase, gesture)
        frames[:, columns] = limb * _reach(seconds, take)[:, None]
    return frames


def _phase(seconds: FloatArray, frequency: float, rng: random.Random) -> FloatArray:
    """Return a phase in radians, ``[F]``, whose tempo drifts slowly around cycles per second."""
    drift = 0.5 * np.sin(2 * pi * frequency / (4 * sqrt(2)) * seconds + rng.uniform(0, 2 * pi))
    return 2 * pi * frequency * seconds + rng.uniform(0, 2 * pi) + drift


def _reach(seconds: FloatArray, rng: random.Random) -> FloatArray:
    """Return positive factors, ``[F]``, that rise and fall within a few seconds."""
    period = rng.uniform(3.0, 7.0)
    swell = np.sin(2 * pi * seconds / period + rng.uniform(0, 2 * pi))
    return rng.uniform(0.8, 1.2) * (1 + rng.uniform(0.1, 0.3) * swell)


def _root(
    seconds: FloatArray, phase: FloatArray, second_phase: FloatArray, rng: random.Random
) -> FloatArray:
    """Return position and rotation of the body, ``[F, 6]``, which wanders, bobs and sways."""
    bob = 0.4 * np.sin(2 * phase) + 0.2 * np.sin(second_phase)
    position = []
    for mean, spread in ROOT_POSITION:
        wander = np.sin(2 * pi * seconds / rng.uniform(5.0, 9.0) + rng.uniform(0, 2 * pi))
        position.append(mean + spread * (rng.uniform(1.0, 1.4) * wander + 0.3 * bob))
    sway = [0.2 * np.sin(phase + lag) + 0.1 * np.sin(second_phase + lag) for lag in (0.0, 1.0, 2.0)]
    return np.stack(position + sway, axis=1)


def _limb(
    num_joints: int, phase: FloatArray, second_phase: FloatArray, rng: random.Random
) -> FloatArray:
    """Return angles of a chain of joints, ``[F, J]``, radians, each after and by its parent's."""
    angles: list[FloatArray] = []
    parent = np.zeros_like(phase)
    for joint in range(num_joints):
        lag = 0.3 * joint + rng.uniform(-0.3, 0.3)
        swing = np.sin(phase - lag + parent)
        swing += rng.uniform(0.2, 0.5) * np.sin(2 * (phase - lag) + rng.uniform(0, 2 * pi))
        swing += rng.uniform(0.2, 0.5) * np.sin(second_phase - lag)
        parent = rng.uniform(0.1, 0.4) * swing
        angles.append(rng.uniform(-0.3, 0.3) + parent)
    return np.stack(angles, axis=1)
