"""Run files: everything about a training run, typed, with unknown keys refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from polyres.data.choosing import Measure
from polyres.data.degradations import make_steps
from polyres.errors import UsageError
from polyres.layers.equivariance import Symmetry
from polyres.losses.adversarial import Kind
from polyres.model import ModelConfig, PartConfig
from polyres.scale import Scale
from polyres.training.scale_sets import check_patch, frequencies_of

#: Optimisers whose steps keep equivariant kernels equivariant: they treat equal gradients alike.
KEEPING = ("adam", "adamw", "muon")


class Section(BaseModel):
    """Common to all sections: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LowConfig(Section):
    """How LR is made on the fly."""

    kernel: Literal["matlab", "matlab-double", "pil"] = Field(
        default="matlab",
        description="matlab rounds after each axis, as the published test sets; matlab-double once, as BasicSR; pil",
    )
    on: Literal["picture", "crop"] = Field(
        default="picture",
        description="whether pixels around the crop take part, as in the whole picture's LR",
    )


class DegradationConfig(Section):
    """One degradation."""

    name: str = Field(description="name in the table of degradations")
    probability: float = Field(default=1.0, ge=0, le=1, description="how often it happens")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the degradation")


class DataConfig(Section):
    """What the run sees."""

    train: list[Path] = Field(min_length=1, description="folders, packs or LMDBs with training pictures")
    validation: list[Path] = Field(
        default=[], description="folders, packs or LMDBs with pictures to measure on; never test sets"
    )
    validation_pictures: int = Field(default=8, ge=1, description="how many of them to use")
    patch: int = Field(default=48, ge=8, description="side of the LR crops in pixels")
    batch: int = Field(default=16, ge=1, description="crops in a micro-batch, all of one scale")
    scales: dict[str, float] = Field(
        default={"2": 1, "3": 1, "4": 1},
        min_length=1,
        description="scale: how often it is drawn, relatively; or a list, or a range: see ScaleRange",
    )
    workers: int = Field(
        default=2, ge=0, description="threads that make crops ahead; 0 makes each when it is wanted"
    )
    worker_processes: bool = Field(
        default=False,
        description="processes instead of threads: for packs with costly degradations on many cores",
    )
    low: LowConfig = Field(default_factory=LowConfig, description="how LR is made on the fly")
    degradations: list[DegradationConfig] = Field(
        default=[],
        description="what happens to a picture on its way to LR, in order; bicubic at the end unless to-low is there",
    )
    skip_small: bool = Field(
        default=False, description="leave out pictures that are smaller than a crop instead of refusing them"
    )
    choose_from: int = Field(
        default=1,
        ge=1,
        description="places that are drawn for each crop; the one with the most of choose_by is taken",
    )
    choose_by: Measure = Field(
        default="detail", description="detail: differences of pixels; coherence: gradients of one direction"
    )

    @field_validator("degradations")
    @classmethod
    def _known(cls, value: list[DegradationConfig]) -> list[DegradationConfig]:
        """Each can be made with its options."""
        try:
            make_steps(step.model_dump() for step in value)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("scales", mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        """A list means all equally often; ``{range: [1, 4], max_p: 8, max_q: 3}`` is a :class:`ScaleRange`."""
        return frequencies_of(value)

    @model_validator(mode="after")
    def _on_the_grid(self) -> DataConfig:
        for scale in self.exact_scales:
            if min(scale.y, scale.x) < 1:
                raise ValueError(f"scales to train are at least 1; got {scale}")
        check_patch(self.exact_scales, self.patch)
        return self

    @model_validator(mode="after")
    def _chosen_of_several(self) -> DataConfig:
        if self.choose_from == 1 and self.choose_by != "detail":
            raise ValueError(
                f"choose_by: {self.choose_by} chooses between places; set choose_from to 2 or more; got 1"
            )
        return self

    @property
    def exact_scales(self) -> list[Scale]:
        """The scales, in the order of the file."""
        return [Scale.of(text) for text in self.scales]


class OptimiserConfig(Section):
    """How weights change: an optimiser, and the learning rate over the run."""

    name: str = Field(
        default="adam",
        description="adam, adamw, muon (orthogonalised momentum for matrices, Adam for the rest), "
        "or a class of torch.optim such as RMSprop",
    )
    lr: float = Field(default=5e-4, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "multistep", "restarts", "constant", "wsd"] = Field(
        default="cosine",
        description="what follows the warm-up; wsd stays at the peak until the last steps (decay), so that a run can "
        "be made longer for as long as those have not begun",
    )
    decay: int = Field(default=0, ge=0, description="wsd: last steps, in which the learning rate falls")
    final_lr: float = Field(
        default=1e-6, ge=0, description="learning rate at the end of each cosine or decay"
    )
    warmup: int = Field(default=200, ge=0, description="steps from zero to the peak")
    milestones: list[int] = Field(
        default=[], description="multistep: steps done when the learning rate is multiplied by factor"
    )
    factor: float = Field(default=0.5, gt=0, le=1, description="multistep: factor at each milestone")
    periods: list[Annotated[int, Field(ge=1)]] = Field(
        default=[], description="restarts: steps of each cosine, the last one goes on at its end"
    )
    restarts: list[Annotated[float, Field(gt=0)]] = Field(
        default=[], description="restarts: part of lr that each cosine begins at; 1 if not given"
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.99), description="Adam's decay rates")
    weight_decay: float = Field(default=0.0, ge=0, description="of all but recalibrations and their bases")
    options: dict[str, Any] = Field(default_factory=dict, description="further arguments of the optimiser")
    clip: float | None = Field(
        default=None, gt=0, description="largest norm of the gradient, over all weights"
    )
    recalibration_lr: float = Field(
        default=1.0,
        gt=0,
        description="factor on the learning rate of kernel recalibrations, if there are any",
    )

    @model_validator(mode="after")
    def _scheduled(self) -> OptimiserConfig:
        """What the schedule needs is there, and nothing else."""
        if (self.schedule == "wsd") != (self.decay > 0):
            raise ValueError("schedule wsd needs decay, a number of steps; decay needs schedule wsd")
        for schedule, lists in (("multistep", ["milestones"]), ("restarts", ["periods", "restarts"])):
            given = [name for name in lists if getattr(self, name)]
            if self.schedule == schedule and not getattr(self, lists[0]):
                raise ValueError(f"schedule {schedule} needs {lists[0]}, a list of steps")
            if self.schedule != schedule and given:
                raise ValueError(
                    f"{' and '.join(given)} without schedule: {schedule} would do nothing; set it or leave them out"
                )
        if self.milestones != sorted(self.milestones):
            raise ValueError(f"milestones are in ascending order; got {self.milestones}")
        if self.restarts and len(self.restarts) != len(self.periods):
            raise ValueError(f"restarts has one value for each of periods; got {len(self.restarts)}")
        return self


class LossConfig(Section):
    """One term of the loss."""

    name: str = Field(description="name in the table of losses")
    weight: float = Field(default=1.0, gt=0, description="factor on the term")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the loss")


class TeacherConfig(Section):
    """A trained model whose results are learned from beside the pictures."""

    model: str = Field(
        description="name of a bundled model, or a model file that makes all scales of the run"
    )
    weight: float = Field(
        default=1.0, gt=0, description="factor on the mean absolute difference from its results"
    )


class GanConfig(Section):
    """A discriminator that learns to tell outputs from pictures, and how much the model heeds it."""

    discriminator: PartConfig = Field(
        default=PartConfig(name="unet"), description="what judges; its weights are learned beside the model's"
    )
    kind: Kind = Field(
        default="vanilla", description="of the losses: vanilla (logistic), lsgan (squares) or hinge"
    )
    weight: float = Field(default=0.1, gt=0, description="factor on the term that the model's loss gains")
    optimiser: OptimiserConfig = Field(
        default=OptimiserConfig(lr=1e-4, schedule="constant", warmup=0),
        description="of the discriminator; its steps count from start",
    )
    start: int = Field(default=0, ge=0, description="steps done without it before it begins")
    initial: Path | None = Field(
        default=None,
        description="file of the discriminator's weights: one that a run left, or the original implementation's",
    )


class GuardConfig(Section):
    """What happens when a number is not finite."""

    action: Literal["skip", "rollback", "stop"] = Field(
        default="skip",
        description="skip: the step is left out; rollback: its weights go back to those of the last multiple of "
        "save_every; stop: the run ends. A weight that is not finite is always rolled back",
    )
    limit: int = Field(default=10, ge=0, description="rejected steps among the last 1000 that a run bears")


class InitialConfig(Section):
    """Parts of other models to begin from; what is not named is fresh."""

    encoder: Path | None = Field(
        default=None,
        description="file whose encoder is taken; plain kernels become the bases of recalibrated ones, and biases that "
        "its convolutions lack begin at zero",
    )
    upsampler: Path | None = Field(default=None, description="file whose upsampler is taken")
    deepen: bool = Field(
        default=False,
        description="the encoder, an EDSR, has more blocks than the file's: the further ones begin by adding nothing",
    )
    without: list[int] = Field(
        default=[],
        description="blocks of the file's encoder, an EDSR, that are left out, counted from 0",
    )
    twice: list[int] = Field(
        default=[],
        description="blocks of the file's encoder, an EDSR, that come twice, each time adding half of what they did: a "
        "deeper network that begins nearly as good",
    )
    merged: list[int] = Field(
        default=[],
        description="blocks of the file's encoder, an EDSR, that become one with the next: it has every second hidden "
        "channel of each, so that features in groups that are kept to turns are then kept to flips",
    )

    @property
    def files(self) -> dict[str, Path]:
        """The files by part."""
        named = {"encoder": self.encoder, "upsampler": self.upsampler}
        return {part: path for part, path in named.items() if path is not None}


class RunConfig(Section):
    """A training run."""

    model: ModelConfig = Field(description="what is trained")
    data: DataConfig = Field(description="what it sees")
    output: Path = Field(description="folder for the model, its checkpoints and logs; made if missing")
    steps: int = Field(ge=1, description="optimiser steps")
    accumulate: int = Field(
        default=1, ge=1, description="micro-batches a step over all processes, each of a scale of its own"
    )
    optimiser: OptimiserConfig = Field(default_factory=OptimiserConfig, description="how weights change")
    losses: list[LossConfig] = Field(
        default=[LossConfig(name="l1"), LossConfig(name="fft", weight=0.5)],
        min_length=1,
        description="terms of the loss, summed",
    )
    teacher: TeacherConfig | None = Field(
        default=None, description="a trained model to learn from, beside the losses (distillation)"
    )
    gan: GanConfig | None = Field(
        default=None, description="a discriminator beside the losses, for pictures that look real"
    )
    ema: float = Field(default=0.999, ge=0, lt=1, description="decay of the averaged weights; 0 for none")
    guard: GuardConfig = Field(default_factory=GuardConfig, description="when a number is not finite")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="of the convolutions; auto is bfloat16 where the processor has units for it: of all where these "
        "take matrices, of the products of fast_convolutions alone where they take pairs and nearly all of the "
        "encoder is such convolutions",
    )
    fast_convolutions: bool = Field(
        default=True,
        description="compute 3x3 convolutions on a CPU without units for matrices by minimal filtering (Winograd): "
        "twice as fast and more, other roundings; with such units, residual blocks in few passes between them",
    )
    equivariant: Symmetry | None = Field(
        default=None,
        description="keep the encoder's kernels such that it treats turned and mirrored pictures alike (turns), or "
        "mirrored ones alone (flips), and the negative too (turns-and-negatives, flips-and-negatives): it learns more "
        "from each crop, and costs what it cost; for encoders of plain convolutions",
    )
    device: str = Field(default="cpu", description="cpu or cuda")
    seed: int = Field(default=0, ge=0, description="of weights, crops and scales")
    sharding: Literal["none", "fsdp2"] = Field(
        default="none",
        description="fsdp2: several processes divide the encoder's weights, gradients and optimiser state among them",
    )
    compile: bool = Field(default=False, description="compile the encoder with torch.compile")
    initial: Path | InitialConfig | None = Field(
        default=None, description="model file to start from instead of fresh weights, or a file for each part"
    )
    validate_every: int = Field(default=1000, ge=1, description="steps between validations")
    save_every: int = Field(default=500, ge=1, description="steps between checkpoints")
    log_every: int = Field(default=50, ge=1, description="steps between log lines")
    keep: int = Field(default=2, ge=1, description="checkpoints that are kept")
    pictures: int = Field(
        default=1, ge=0, description="validation pictures written after each validation, at every scale"
    )
    trackers: list[Literal["wandb", "mlflow"]] = Field(
        default=[], description="services that are told too; each needs its package, and Accelerate"
    )

    def saves_after(self, step: int) -> bool:
        """Whether there is a checkpoint after ``step`` steps."""
        return step == self.steps or step % self.save_every == 0

    @model_validator(mode="after")
    def _begun(self) -> RunConfig:
        if self.sharding != "none" and (self.optimiser.name == "muon" or self.compile):
            raise ValueError(
                "sharding does not go with optimiser muon, which wants whole matrices, or with compile; leave one out"
            )
        if self.equivariant is not None and (self.sharding != "none" or self.optimiser.name not in KEEPING):
            raise ValueError(
                f"equivariant goes with the optimisers {', '.join(KEEPING)}, and not with sharding; leave one out"
            )
        if self.optimiser.decay > self.steps:
            raise ValueError(f"optimiser.decay is {self.optimiser.decay}, but the run has {self.steps} steps")
        if self.gan is not None and self.gan.start >= self.steps:
            raise ValueError(
                f"gan.start is {self.gan.start}, but the run has {self.steps} steps: it would never begin"
            )
        return self
