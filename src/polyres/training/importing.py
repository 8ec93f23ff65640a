"""Options files of BasicSR and the IGConv repository as run files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, get_args

from polyres.errors import ConfigError
from polyres.losses.adversarial import Kind
from polyres.weights.compat import configured

#: Their losses by section: ours, and their options under our names.
_LOSSES = {
    "L1Loss": "l1",
    "MSELoss": "mse",
    "CharbonnierLoss": "charbonnier",
    "FFTLoss": "fft",
    "MSSSIMLoss": "ms-ssim",
}

#: What has no meaning for a run of ours, or is always so.
_IDLE = {
    "model_type", "scale", "num_gpu", "manual_seed", "name", "phase", "dist_params", "use_hflip", "use_rot", "type",
    "io_backend", "use_shuffle", "num_worker_per_gpu", "dataset_enlarge_ratio", "prefetch_mode", "num_prefetch_queue",
    "meta_info", "meta_info_file", "filename_tmpl", "strict_load_g", "resume_state", "save_img", "metrics", "color",
    "use_tb_logger", "mean", "std", "gpu_ids", "dataroot_lq", "real_label_val", "fake_label_val", "strict_load_d",
}  # fmt: skip


class Options:
    """An options file whose values are taken one by one, so that what nobody took can be told."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content, self._taken = content, set[str]()

    def take(self, place: str, default: Any = None) -> Any:
        """The value at ``place`` (keys joined by dots); taking a section takes all of it."""
        value: Any = self._content
        for key in place.split("."):
            if not isinstance(value, Mapping) or key not in value:
                return default
            value = value[key]
        self._taken.add(place)
        return default if value is None else value

    def left(self) -> list[str]:
        """What was not taken and would have mattered."""
        return [
            f"{place}: {json.dumps(value, default=str)}" for place, value in self._rest(self._content, "")
        ]

    def _rest(self, content: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
        found = []
        for key, value in content.items():
            place = f"{prefix}{key}"
            if place in self._taken or key in _IDLE or value is None:
                continue
            if isinstance(value, Mapping):
                found += self._rest(value, f"{place}.")
            else:
                found.append((place, value))
        return found


def imported(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A run file's keys for the options ``content``, and notes on what does not carry over.

    Raises:
        ConfigError: no network, or one that is not known.
    """
    options, notes = Options(content), list[str]()
    network = options.take("network_g")
    if not isinstance(network, Mapping):
        raise ConfigError("the options have no network_g, which names the network and its sizes")
    run: dict[str, Any] = {"model": json.loads(configured(network).model_dump_json(exclude_defaults=True))}
    run["data"] = _data(options, notes)
    run["output"] = f"runs/{options.take('name', 'imported')}"
    run["steps"] = int(options.take("train.total_iter", 500_000))
    run["accumulate"] = max(1, int(options.take("num_gpu", 1)) if options.take("num_gpu") != "auto" else 1)
    run["optimiser"] = _optimiser(options, notes)
    run["losses"] = _losses(options, notes)
    if gan := _gan(options, notes, str(run["optimiser"]["schedule"])):
        run["gan"] = gan
    run["ema"] = float(options.take("train.ema_decay", 0))
    run["seed"] = int(options.take("manual_seed", 0))
    for ours, theirs in (
        ("initial", "path.pretrain_network_g"),
        ("validate_every", "val.val_freq"),
        ("save_every", "logger.save_checkpoint_freq"),
        ("log_every", "logger.print_freq"),
    ):
        if (value := options.take(theirs)) is not None:
            run[ours] = value if ours == "initial" else int(value)
    if options.take("use_tb_logger") is False:
        notes.append("TensorBoard files are written wherever its package is installed")
    notes += [f"not carried over: {line}" for line in options.left()]
    return run, notes


def _data(options: Options, notes: list[str]) -> dict[str, Any]:
    train = "datasets.train."
    scale = Fraction(str(options.take("scale", 4)))
    scales = options.take(train + "random_scales") or [options.take("scale", 4)]
    patch = options.take(train + "lq_size") or options.take("datasets.train.lq_patch_size")
    if patch is None:
        patch = Fraction(int(options.take(train + "gt_size", 128))) / scale
        if patch.denominator != 1:
            raise ConfigError(f"datasets.train.gt_size is not a multiple of scale {scale}")
    if options.take(train + "dataroot_lq"):
        notes.append("datasets.train.dataroot_lq: LR is made on the fly from HR with MATLAB's kernel")
    for key in ("use_hflip", "use_rot"):
        if options.take(train + key) is False:
            notes.append(f"{train}{key}: false is not carried over: crops are always flipped and turned")
    places = [str(options.take(train + "dataroot_gt", "datasets/train"))]
    run: dict[str, Any] = {
        "train": places,
        "patch": int(patch),
        "batch": int(options.take(train + "batch_size_per_gpu", 16)),
    }
    if options.take(train + "random_scales"):  # made from the crop by Pillow there
        run["low"] = {"kernel": "pil", "on": "crop"}
    held_out = options.take("datasets.val.dataroot_gt")
    if held_out:
        notes.append(
            "data.validation is what the options validate on; use pictures that are in no test set instead"
        )
    return {**run, "scales": [str(s) for s in scales], "validation": [str(held_out)] if held_out else []}


def _optimiser(options: Options, notes: list[str]) -> dict[str, Any]:
    result = {
        **_named_optimiser(options, "train.optim_g"),
        "warmup": max(0, int(options.take("train.warmup_iter", 0))),
    }
    kind = options.take("train.scheduler.type")
    if kind in ("MultiStepLR", "MultiStepRestartLR"):
        milestones = [int(step) for step in options.take("train.scheduler.milestones", [])]
        factor = float(options.take("train.scheduler.gamma", 0.1))
        return {**result, "schedule": "multistep", "milestones": milestones, "factor": factor}
    if kind in ("CosineAnnealingRestartLR", "CosineAnnealingRestartCyclicLR"):
        periods = [int(period) for period in options.take("train.scheduler.periods", [])]
        restarts = [float(part) for part in options.take("train.scheduler.restart_weights", [1])]
        final = float(options.take("train.scheduler.eta_min", 0))
        return {**result, "schedule": "restarts", "periods": periods, "restarts": restarts, "final_lr": final}
    if kind is not None:
        notes.append(f"train.scheduler.type: {kind} is not known; the learning rate is constant")
    return {**result, "schedule": "constant"}


def _named_optimiser(options: Options, section: str) -> dict[str, Any]:
    """Which optimiser ``section`` asks for, and its rates."""
    name = str(options.take(f"{section}.type", "Adam"))
    result: dict[str, Any] = {
        "name": {"Adam": "adam", "AdamW": "adamw"}.get(name, name),
        "lr": float(options.take(f"{section}.lr", 1e-4)),
        "weight_decay": float(options.take(f"{section}.weight_decay", 0)),
    }
    if betas := options.take(f"{section}.betas"):
        result["betas"] = [float(beta) for beta in betas]
    return result


def _losses(options: Options, notes: list[str]) -> list[dict[str, Any]]:
    losses = []
    for section in ("pixel_opt", "fft_opt", "ssim_opt"):
        kind = options.take(f"train.{section}.type")
        if kind is None:
            continue
        if kind not in _LOSSES:
            notes.append(f"train.{section}.type: {kind} is not known and left out")
            continue
        term: dict[str, Any] = {"name": _LOSSES[kind]}
        term["weight"] = float(options.take(f"train.{section}.loss_weight", 1))
        if kind == "FFTLoss":
            term["options"] = {"norm": "backward"}
        if kind == "CharbonnierLoss" and (epsilon := options.take(f"train.{section}.eps")):
            term["options"] = {"epsilon": float(epsilon) ** 0.5}  # theirs is the square
        options.take(f"train.{section}.reduction")
        losses.append(term)
    if options.take("train.perceptual_opt") is not None:
        notes.append(
            "train.perceptual_opt is left out: add {name: perceptual} to losses, with the file of VGG-19's weights"
        )
    if not losses:
        notes.append("no loss was carried over; l1 is put in")
    return losses or [{"name": "l1"}]


def _gan(options: Options, notes: list[str], schedule: str) -> dict[str, Any] | None:
    """The discriminator, if there is one that we have too."""
    network, kind = options.take("network_d.type"), options.take("train.gan_opt.gan_type")
    wanted = options.take("train.gan_opt") is not None
    rates = _named_optimiser(options, "train.optim_d")
    if not wanted:
        return None
    if network != "UNetDiscriminatorSN" or kind not in get_args(Kind):
        notes.append(
            f"train.gan_opt is left out: network_d {network} with gan_type {kind} is none of ours; see gan in the run "
            "file's schema"
        )
        return None
    if schedule != "constant":
        notes.append(f"gan.optimiser has a constant learning rate, not the model's {schedule}")
    sizes = {"channels": int(options.take("network_d.num_feat", 64))}
    if options.take("network_d.skip_connection") is False:
        sizes["skip"] = False
    options.take("network_d.num_in_ch")
    gan: dict[str, Any] = {"discriminator": {"name": "unet", "options": sizes}, "kind": kind}
    gan["weight"] = float(options.take("train.gan_opt.loss_weight", 1))
    gan["optimiser"] = {**rates, "warmup": 0, "schedule": "constant"}
    if initial := options.take("path.pretrain_network_d"):
        gan["initial"] = str(initial)
    for key, idle in (("net_d_iters", 1), ("net_d_init_iters", 0)):
        if (value := options.take(f"train.{key}")) not in (None, idle):
            notes.append(f"train.{key}: {value} is not carried over: both learn in every step")
    return gan
