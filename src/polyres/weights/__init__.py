"""Weights: files that describe themselves, the bundled models, and foreign checkpoints."""

from polyres.weights.card import ModelCard, Result
from polyres.weights.store import BUNDLED, load, load_card, resolve, save

__all__ = ["BUNDLED", "ModelCard", "Result", "load", "load_card", "resolve", "save"]
