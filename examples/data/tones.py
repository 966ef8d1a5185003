"""Synthetic tones whose pitch class is known exactly, since it made them.

25,000 and 5,000 sounds float32 (n, 1, 1024), sampled 8,000 times a second.
"""

from __future__ import annotations

import numpy as np

from examples.data.labelled import SEED, DataSet, Labelled

SAMPLES = 1024
RATE = 8_000
LABELS = ("A", "A♯", "B", "C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯")
LOWEST = 220.0
"""Hertz of the lowest tone, the A below the middle C."""
OCTAVES = 3
DETUNED = 0.3
"""A tone is off its pitch by at most this share of a semitone."""
NOISE = 1.5
"""The largest standard deviation of the noise; a tone's amplitude is between a quarter and 1."""


def draw(count: int, seed: int) -> Labelled:
    """`count` tones of random pitch class, octave, phase, loudness, overtones and noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(len(LABELS), size=count)
    semitones = labels + 12 * random.integers(OCTAVES, size=count)
    pitch = LOWEST * 2 ** ((semitones + random.uniform(-DETUNED, DETUNED, count)) / 12)
    seconds = np.arange(SAMPLES) / RATE
    sounds = np.zeros((count, SAMPLES))
    for overtone, loudest in ((1, 1.0), (2, 0.5), (3, 0.5)):
        quietest = 0.25 if overtone == 1 else 0.0
        amplitude = random.uniform(quietest, loudest, (count, 1))
        phase = random.uniform(0, 2 * np.pi, (count, 1))
        sounds += amplitude * np.sin(2 * np.pi * overtone * pitch[:, None] * seconds + phase)
    sounds += random.uniform(0, NOISE, (count, 1)) * random.standard_normal(sounds.shape)
    return Labelled(sounds[:, None].astype(np.float32), labels.astype(np.int64))


def make() -> DataSet:
    """All tones; the same in every run."""
    return DataSet.split(draw(25_000, SEED), draw(5_000, SEED + 1))
