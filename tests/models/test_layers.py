"""Layers in order, for every architecture that has a table."""

from __future__ import annotations

import dataclasses

import pytest
from torch import nn

from src.adapters.projections import find_projections
from src.models.layers import find_layers
from tests.tiny import tiny
from tests.tiny_architectures import CASES


@pytest.mark.parametrize("name", CASES)
def test_each_layer_holds_its_own_projections(name: str) -> None:
    case = CASES[name]
    backbone = case.build()
    projections = find_projections(backbone, backbone.config)
    layers = find_layers(backbone, projections)
    assert layers is not None
    assert {stack: len(found) for stack, found in layers.items()} == {
        stack: known.num_layers for stack, known in case.stacks.items() if stack != "cross"
    }
    for p in projections:
        stack = "decoder" if p.stack == "cross" else p.stack
        module = backbone.get_submodule(p.module)
        assert [i for i, layer in enumerate(layers[stack]) if module in set(layer.modules())] == [p.layer]


def test_modules_outside_of_a_list_are_not_taken_for_layers() -> None:
    backbone = tiny("bert")
    found = find_projections(backbone, backbone.config)
    assert find_layers(backbone, [dataclasses.replace(found[0], layer=1)]) is None
    assert find_layers(backbone, find_projections(backbone, backbone.config, {"q": "pooler.dense"})) is None
    assert find_layers(backbone, []) is None


def test_layers_in_two_lists_without_a_name_are_not_taken_for_one_stack() -> None:
    first, second = tiny("bert"), tiny("bert")
    backbone = nn.ModuleDict({"first": first, "second": second})
    projections = [
        dataclasses.replace(p, module=f"{side}.{p.module}")
        for side in backbone
        for p in find_projections(first, first.config)
    ]
    assert find_layers(backbone, projections[: len(projections) // 2]) is not None
    assert find_layers(backbone, projections) is None
