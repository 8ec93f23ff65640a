"""Maxima of regions: the form for exporters equals the one that runs, to the last bit, at every size."""

from __future__ import annotations

import pytest
import torch

from polyres.layers.pooling import nearest_to, region_maxima

SIZES = [*range(8, 70), 114, 333]


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_the_form_for_exporters_is_equal(reduction: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    for size in SIZES:
        for shape in ((2, 3, size, 11), (1, 2, 9, size)):
            features = torch.randn(shape, generator=generator)
            maxima = region_maxima(features, reduction)
            wide = nearest_to(maxima, *shape[2:])
            with monkeypatch.context() as patched:
                patched.setattr(torch.compiler, "is_exporting", lambda: True)
                assert torch.equal(region_maxima(features, reduction), maxima)
                assert torch.equal(nearest_to(maxima, *shape[2:]), wide)


def test_regions_cover_all() -> None:
    features = torch.arange(11.0).expand(1, 1, 8, 11)
    assert region_maxima(features, 8).tolist() == [[[[10.0]]]]
    assert region_maxima(features, 4)[0, 0, 0].tolist() == [5.0, 10.0]
