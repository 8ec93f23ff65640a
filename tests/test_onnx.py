"""ONNX files: any size, equal to the model, told apart from what they are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import polyres
from polyres.deploy import onnx as onnx_module
from polyres.errors import CheckpointError, MissingExtraError, OutputError
from polyres.training.symmetry import begin_equivariant

pytest.importorskip("onnxscript", reason="needs the extra 'export'")
pytest.importorskip("onnxruntime", reason="needs the extra 'export'")

from polyres.deploy.onnx import OnnxModel, export_onnx


def tiny(upsampler: str = "igconv", **options: object) -> polyres.SRModel:
    torch.manual_seed(0)
    parts = {
        "encoder": {"name": "edsr", "options": {"channels": 8, "blocks": 1}},
        "upsampler": {"name": upsampler, "options": options},
        "mean": [0.45, 0.44, 0.4],
    }
    return polyres.build(polyres.ModelConfig.model_validate(parts)).eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[polyres.FusedModel, Path]]:
    """Exported files by scale, with the models that they are of."""
    folder, made = tmp_path_factory.mktemp("onnx"), {}
    for scale in ("2", "5/2"):
        fused = polyres.fuse(tiny(base="bilinear"), scale)
        path = folder / f"{scale.replace('/', '-')}.onnx"
        export_onnx(fused, path, {"licence": "Apache-2.0"})
        made[scale] = fused, path
    return made


@pytest.mark.parametrize("scale", ["2", "5/2"])
@pytest.mark.parametrize("size", [(1, 3, 1, 1), (1, 3, 7, 4), (3, 3, 16, 33), (1, 3, 64, 3)])
def test_a_file_equals_its_model_at_any_size(files, scale: str, size: tuple[int, ...]) -> None:
    fused, path = files[scale]
    image = torch.rand(size)
    with torch.no_grad():
        expected = fused(image)
    torch.testing.assert_close(OnnxModel(path)(image), expected, rtol=0, atol=2e-6)


def test_half_of_the_products_are_left_out_where_negatives_are_treated_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"channels": 64, "blocks": 2, "normalisation_equivariant": True}
    parts = {
        "encoder": {"name": "edsr-baseline", "options": options},
        "upsampler": {"name": "igconv", "options": {"width": 8, "hidden_layers": 1, "base": "bilinear"}},
    }
    model = polyres.build(polyres.ModelConfig.model_validate(parts)).eval()
    sizes = []
    for symmetric in (False, True):
        if symmetric:
            names = model.encoder.state_dict().keys()
            begin_equivariant(model.encoder, "turns-and-negatives", names)
        fused, path = polyres.fuse(model, 3), tmp_path / f"{symmetric}.onnx"
        export_onnx(fused, path)
        image = torch.rand(2, 3, 17, 12)
        with torch.no_grad():
            torch.testing.assert_close(OnnxModel(path)(image), fused(image), rtol=0, atol=1e-5)
        sizes.append(path.stat().st_size)
    left_out = 4 * 64 * 64 * 9 * 4 // 2  # half of the four kernels of the blocks, of four bytes a number
    assert sizes[0] - sizes[1] > 0.6 * left_out  # the graph has more nodes


def test_a_file_says_what_tiles_need_to_know(files) -> None:
    fused, path = files["5/2"]
    model = OnnxModel(path, threads=1)
    assert model.scale == fused.scale == polyres.Scale.of("5/2")
    assert (model.context, model.multiple_of, model.minimum_size) == (fused.context, 1, 1)
    assert (model.context, model.channels) == (5, 3)


def test_the_operator_set_and_the_licence_are_stated(files) -> None:
    onnx = pytest.importorskip("onnx")
    content = onnx.load(files["2"][1])
    assert {entry.domain: entry.version for entry in content.opset_import}[""] == onnx_module.OPSET
    assert {entry.key: entry.value for entry in content.metadata_props}["licence"] == "Apache-2.0"


def test_padding_to_windows_is_exported_for_every_size(tmp_path: Path) -> None:
    class Blocks(polyres.Encoder):
        """Adds the mean of each 4x4 block: a network that pads."""

        def __init__(self) -> None:
            super().__init__()
            self.in_channels, self.out_channels, self.multiple_of, self.context = 3, 3, 4, 3

        def forward(self, image: Tensor) -> Tensor:
            means = nn.functional.avg_pool2d(image, 4)
            return image + nn.functional.pixel_shuffle(means.repeat_interleave(16, 1), 4)

    head = polyres.UPSAMPLERS.make("spconv", in_channels=3, scales=(2,))
    fused = polyres.fuse(polyres.SRModel(Blocks(), head).eval(), 2)
    export_onnx(fused, tmp_path / "blocks.onnx")
    for size in ((1, 1), (2, 9), (8, 12), (5, 6)):
        image = torch.rand(1, 3, *size)
        torch.testing.assert_close(
            OnnxModel(tmp_path / "blocks.onnx")(image), fused(image), rtol=0, atol=1e-6
        )


def test_a_file_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        OnnxModel, "__call__", lambda self, image: torch.zeros(1, 3, *(2 * n for n in image.shape[2:]))
    )
    with pytest.raises(OutputError, match="differs from the model"):
        export_onnx(polyres.fuse(tiny(base="bilinear"), 2), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_exporting_leaves_the_model_working() -> None:
    # An export that computed the bilinear weights itself would leave symbols without values in their cache.
    code = (
        "import torch, polyres, io, pathlib, tempfile\n"
        "from polyres.deploy.onnx import export_onnx\n"
        "parts = {'encoder': {'name': 'edsr', 'options': {'channels': 4, 'blocks': 1}},"
        " 'upsampler': {'name': 'igconv', 'options': {'base': 'bilinear', 'width': 8}}}\n"
        "fused = polyres.fuse(polyres.build(polyres.ModelConfig.model_validate(parts)), '3/2')\n"
        "export_onnx(fused, pathlib.Path(tempfile.mkdtemp()) / 'x.onnx')\n"
        "assert fused(torch.rand(1, 3, 5, 4)).isfinite().all()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("content", [b"", b"no network", None])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.onnx"):
        OnnxModel(path)


def test_a_foreign_file_of_one_size_works_at_that_size(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    node = helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2)
    tile = helper.make_node("Concat", ["in"] * 4, ["x"], axis=1)
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("in", [1, 3, 8, 6]), ("y", [1, 3, 16, 12]))
    ]
    graph = helper.make_graph([tile, node], "nearest", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, tmp_path / "nearest.onnx")
    model = OnnxModel(tmp_path / "nearest.onnx")
    assert model.scale == polyres.Scale.of(2)
    assert model.context is None
    assert model(torch.rand(1, 3, 8, 6)).shape == (1, 3, 16, 12)
    with pytest.raises(CheckpointError, match=r"5x5.*takes \[1, 3, 8, 6\]"):
        model(torch.rand(1, 3, 5, 5))


def test_a_missing_exporter_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"polyres\[export\]"):
        export_onnx(polyres.fuse(tiny(), 2), tmp_path / "x.onnx")


def test_the_command_writes_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import polyres.cli

    polyres.save(tiny(base="bilinear"), tmp_path / "tiny.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["polyres", "export", "tiny.safetensors", "-s", "3"])
    with pytest.raises(SystemExit) as exit_:
        polyres.cli.main()
    assert not exit_.value.code
    assert "3x_tiny.onnx: x3, opset 20" in capsys.readouterr().out
    assert OnnxModel(tmp_path / "3x_tiny.onnx").scale == polyres.Scale.of(3)


#: Networks that have no ONNX form; a test says that polyres says so.
REFUSED = frozenset({"MambaIR"})


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("mambair", {}, "a loop over the pixels"),
        ("atd", {"category_size": 17}, "fewer pixels than a category"),
    ],
)
def test_what_has_no_form_for_every_size_is_refused(
    name: str, options: dict[str, int], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=reason) as caught:
        export_onnx(fused_tiny(name, options), tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def fused_tiny(name: str, options: dict[str, int]) -> polyres.FusedModel:
    """The encoder at its tiny arguments, and others, before a fixed upsampler."""
    torch.manual_seed(0)
    parts = {
        "encoder": {"name": name, "options": {**polyres.ENCODERS[name].tiny, **options}},
        "upsampler": {"name": "spconv", "options": {"scales": [2]}},
    }
    return polyres.fuse(polyres.build(polyres.ModelConfig.model_validate(parts)).eval(), 2)


def _by_network() -> dict[str, str]:
    """A name for each network of the table of encoders that is exported; several may be one at tiny arguments."""
    return {
        f"{entry.factory.__name__} {entry.tiny}": name
        for name, entry in polyres.ENCODERS.items()
        if entry.factory.__name__ not in REFUSED
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(_by_network().values()))
def test_every_other_encoder_is_exported(name: str, tmp_path: Path) -> None:
    fused = fused_tiny(name, {})
    export_onnx(fused, tmp_path / "x.onnx")
    for size in ((1, 3, 9, 8), (2, 3, 24, 57)):
        image = torch.rand(size)
        with torch.no_grad():
            torch.testing.assert_close(OnnxModel(tmp_path / "x.onnx")(image), fused(image), rtol=0, atol=2e-5)
