"""Steps made of steps: in sequence, shuffled, one of several, or only sometimes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polyres.data.degradations.base import Degradation, Image, chance


class InSequence:
    """All steps, in order or in a random order.

    Args:
        steps: the steps.
        shuffle: draw the order anew for every picture (Zhang et al. 2021, BSRGAN, arXiv 2103.14006).
    """

    def __init__(self, steps: Sequence[Degradation], shuffle: bool = False) -> None:
        self.steps, self.shuffle = tuple(steps), shuffle

    def __call__(self, image: Image, random: np.random.Generator, low: tuple[int, int]) -> Image:
        """``image`` after all of them."""
        count = len(self.steps)
        for index in random.permutation(count) if self.shuffle else range(count):
            image = self.steps[index](image, random, low)
        return image


class OneOf:
    """One of the steps, drawn for every picture.

    Args:
        steps: the steps, at least one.
        weights: how often each is drawn, relatively; equal if not given.
    """

    def __init__(self, steps: Sequence[Degradation], weights: Sequence[float] | None = None) -> None:
        self.steps = tuple(steps)
        frequencies = np.ones(len(self.steps)) if weights is None else np.asarray(weights, dtype=float)
        if not steps or frequencies.shape != (len(self.steps),) or frequencies.min() < 0:
            raise ValueError("one-of needs steps, and as many weights of at least 0")
        self.chances = frequencies / frequencies.sum()

    def __call__(self, image: Image, random: np.random.Generator, low: tuple[int, int]) -> Image:
        """``image`` after one of them."""
        return self.steps[random.choice(len(self.steps), p=self.chances)](image, random, low)


class Sometimes:
    """A step for a part of the pictures, which leaves the others as they are.

    Args:
        step: the step.
        probability: the part, 0 to 1.
    """

    def __init__(self, step: Degradation, probability: float) -> None:
        self.step, self.probability = step, chance("probability", probability)

    def __call__(self, image: Image, random: np.random.Generator, low: tuple[int, int]) -> Image:
        """``image``, with or without the step."""
        return self.step(image, random, low) if random.random() < self.probability else image
