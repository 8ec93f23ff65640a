"""Model cards: what a weights file says about itself."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Result(BaseModel):
    """One measured row: the mean over a set at one scale."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = Field(description="name of the benchmark set")
    scale: str = Field(description="exact scale, such as 2 or 5/2")
    protocol: str = Field(description="name of the measuring protocol")
    psnr: float = Field(description="dB")
    ssim: float = Field(description="mean structural similarity")


class ModelCard(BaseModel):
    """Provenance and results of a model; stored in its file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="", description="short name")
    summary: str = Field(default="", description="one line: what it is for")
    licence: str = Field(default="unknown", description="SPDX identifier of the weights' licence")
    source: str = Field(default="", description="who trained it, with what code version")
    training_data: str = Field(default="", description="pictures that it saw")
    training: str = Field(
        default="", description="recipe in a sentence: steps, batch, patch, loss, optimiser"
    )
    scales: tuple[str, ...] = Field(default=(), description="scales that it was trained at")
    results: tuple[Result, ...] = Field(default=(), description="measured results, each with its protocol")
    run: dict[str, Any] = Field(
        default_factory=dict,
        description="the training run: its whole configuration, versions of the code, fingerprint of the pictures",
    )
