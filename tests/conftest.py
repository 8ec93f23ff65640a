"""Fixtures that every test file may use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import polyres.cli
from polyres.layers import native
from polyres.layers.native import compiling
from polyres.model import ModelConfig, build
from polyres.weights import save

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def any_kernels() -> native.Kernels:
    """The native kernels; the test is skipped without a compiler."""
    compiled = native.kernels()
    if compiled is None:
        # Skipped, kernels that do not compile would pass.
        assert native.why_none() == "no C compiler", native.why_none()
        pytest.skip("needs native kernels: no C compiler")
    return compiled


@pytest.fixture(scope="session")
def kernels(any_kernels: native.Kernels) -> native.Kernels:
    """Native kernels such as minimal filtering needs; the test is skipped without them."""
    if any_kernels.lanes < 8:
        pytest.skip(f"needs native kernels with vectors of 8 lanes, not {any_kernels.lanes}")
    return any_kernels


@pytest.fixture(scope="session", params=["this machine", "8 lanes"])
def each_kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> native.Kernels:
    """The machine's kernels, and those for vectors of 8 lanes, which most desktops have."""
    if request.param == "this machine":
        return request.getfixturevalue("kernels")
    folder, patch = tmp_path_factory.mktemp("kernels"), pytest.MonkeyPatch()
    with patch.context() as narrow:
        narrow.setattr(compiling, "_TUNINGS", ("-march=x86-64-v3",))
        try:
            made = native.Kernels(compiling.compiled(folder))
        except compiling.CompilationError as error:
            pytest.skip(f"no kernels for vectors of 8 lanes: {error}")
    assert made.lanes == 8
    return made


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads torch uses; afterwards they are as before."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout with recorded references and data; the test is skipped without it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the reference data in {path}")
    return path


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the smallest network that makes any scale."""
    torch.manual_seed(0)
    encoder = {"name": "edsr", "options": {"channels": 4, "blocks": 1}}
    upsampler = {"name": "igconv", "options": {"width": 8, "hidden_layers": 1, "base": "bilinear"}}
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save(build(ModelConfig.model_validate({"encoder": encoder, "upsampler": upsampler})), path)
    return path


class Outcome(NamedTuple):
    """What a command came to: exit status, standard output and standard error."""

    status: int
    out: str
    err: str

    @property
    def raw(self) -> bytes:
        """Standard output as it came, which may be a picture."""
        return self.out.encode(errors="surrogateescape")


@pytest.fixture
def polyres_command(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """``polyres`` with these words, as :class:`Outcome`."""

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["polyres", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "300")
        with pytest.raises(SystemExit) as exit_:
            polyres.cli.main()
        captured = capsysbinary.readouterr()
        out = captured.out.decode(errors="surrogateescape")
        return Outcome(int(exit_.value.code or 0), out, captured.err.decode())

    return run


@pytest.fixture
def upscale(polyres_command: Callable[..., Outcome], model_file: Path) -> Callable[..., Outcome]:
    """``polyres upscale`` with these words, by the smallest network in torch."""
    chosen = ("-n", model_file, "--engine", "torch", "--device", "cpu")
    return lambda *words: polyres_command("upscale", *chosen, *words)
