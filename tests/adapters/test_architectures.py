"""Every architecture, on a tiny random model: counts by hand, the right slices, gradients, merging, and peft."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import groupby

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PreTrainedModel

from src.adapters.architectures import ARCHITECTURES
from src.adapters.attach import attach, detach
from src.adapters.lora_linear import LoraLinear, Roster
from src.adapters.lowrank import LowRank
from src.adapters.peft_format import to_peft
from src.adapters.peft_import import from_peft
from src.adapters.projections import Projection, find_projections, select_projections
from src.adapters.start import FrozenWeights, make_adapters
from src.spec import LoraSpec
from tests.tiny_architectures import CASES, Case

GATED = [name for name, case in CASES.items() if "g" in case.letters]
FUSED = [name for name, case in CASES.items() if case.fused]


@dataclass
class Adapted:
    """A tiny model with one lane of adapters whose B is random, so that they do something."""

    model: PreTrainedModel
    projections: tuple[Projection, ...]
    adapters: dict[str, LowRank]
    layers: list[LoraLinear]


def adapt(name: str, targets: str = "all", *, rank: int = 2, layers: str | None = None, stacks: str | None = None):
    return adapt_model(CASES[name].build(), targets, rank, layers, stacks)


def adapt_model(
    model: PreTrainedModel, targets: str, rank: int = 2, layers: str | None = None, stacks: str | None = None
):
    projections = select_projections(find_projections(model, model.config), targets, layers, stacks)
    lora = LoraSpec(targets, rank, None, alpha=4.0)
    ranks = [rank] * len(projections)
    adapters = make_adapters(projections, ranks, lora, 0, FrozenWeights(model), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for adapter in adapters.values():
        nn.init.normal_(adapter.b, generator=generator)
    attached = attach(model, [(projections, adapters)], Roster(lanes=(0,)))
    return Adapted(model, projections, adapters, attached)


def units(case: Case, projection: Projection) -> list[int]:
    """Output units of a letter by hand, in the letter's own order."""
    return case.fused.get(projection.letter, list(range(projection.d_out)))


def placed(case: Case, projection: Projection, adapter: LowRank) -> Tensor:
    """Dense delta W of a whole module (module_out x d_in) for one letter, by hand."""
    dense = torch.zeros(projection.module_out, projection.d_in, dtype=torch.float64)
    dense[units(case, projection)] = adapter.scale * (adapter.b @ adapter.a).detach()
    return dense


def parameters_by_hand(case: Case, targets: str, rank: int) -> int:
    return sum(
        stack.num_layers * rank * (d_in + d_out)
        for stack in case.stacks.values()
        for letter, (d_in, d_out) in stack.shapes.items()
        if letter in targets
    )


def test_every_table_has_a_tiny_model():
    assert {case.config.model_type for case in CASES.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", CASES)
def test_letters_layers_stacks_and_shapes_by_hand(name):
    case = CASES[name]
    model = case.build()
    found = find_projections(model, model.config)
    expected = [
        (stack, layer, letter, *of_stack.shapes[letter])
        for stack, of_stack in case.stacks.items()
        for layer in range(of_stack.num_layers)
        for letter in "qkvougd"
        if letter in of_stack.shapes
    ]
    assert [(p.stack, p.layer, p.letter, p.d_in, p.d_out) for p in found] == expected
    assert all(p.rows.index().tolist() == units(case, p) for p in found)
    assert len({p.key for p in found}) == len(found)


@pytest.mark.parametrize("name", CASES)
def test_adapters_have_as_many_parameters_as_the_config_says(name):
    case = CASES[name]
    for targets in ("all", "qv", "o", "mlp"):
        adapted = adapt(name, targets, rank=3)
        letters = {"all": "qkvougd", "mlp": "ugd"}.get(targets, targets)
        total = sum(p.numel() for adapter in adapted.adapters.values() for p in (adapter.a, adapter.b))
        assert total == parameters_by_hand(case, letters, 3)


@pytest.mark.parametrize("name", CASES)
def test_one_letter_changes_its_own_units_only_in_output_and_in_the_merged_weight(name):
    case = CASES[name]
    for letter in case.letters:
        adapted = adapt(name, letter, layers="1-1")
        for projection, layer in zip(adapted.projections, adapted.layers, strict=True):
            own = units(case, projection)
            others = sorted(set(range(projection.module_out)) - set(own))
            delta = placed(case, projection, adapted.adapters[projection.key])
            x = torch.randn(3, 4, projection.d_in, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
            change = layer(x) - layer.base(x)
            torch.testing.assert_close(change, x @ delta.T, rtol=1e-9, atol=1e-9)
            assert change[..., own].abs().amin() > 0 and not change[..., others].any()
            before = layer.weight.clone()
            layer.merge(0)
            torch.testing.assert_close(layer.weight - before, delta, rtol=1e-9, atol=1e-9)
            assert torch.equal(layer.weight[others], before[others])
            layer.unmerge()
            assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("name", CASES)
def test_gradients_reach_every_a_and_b(name):
    adapted = adapt(name)
    CASES[name](adapted.model).square().sum().backward()
    for key, adapter in adapted.adapters.items():
        assert adapter.a.grad.abs().amax() > 0 and adapter.b.grad.abs().amax() > 0, key
    assert all(p.grad is None for p in adapted.model.parameters())


@pytest.mark.parametrize("name", CASES)
def test_merging_does_not_change_what_the_model_computes(name):
    adapted = adapt(name)
    apart = CASES[name](adapted.model)
    assert (apart - CASES[name](CASES[name].build())).abs().amax() > 1e-3
    for layer in adapted.layers:
        layer.merge(0)
    torch.testing.assert_close(CASES[name](adapted.model), apart, rtol=1e-6, atol=1e-6)
    detach(adapted.model)
    assert torch.equal(CASES[name](adapted.model), CASES[name](CASES[name].build()))


@pytest.mark.parametrize("name", CASES)
def test_unfused_letters_equal_peft_under_the_names_of_their_modules(name):
    case = CASES[name]
    targets = "".join(letter for letter in case.letters if letter not in case.fused)
    ours = adapt(name, targets)
    config = peft.LoraConfig(
        r=2, lora_alpha=4.0, target_modules=[p.module for p in ours.projections], fan_in_fan_out=name == "gpt2"
    )
    theirs = peft.get_peft_model(case.build(), config, autocast_adapter_dtype=False).double()
    factors = []
    for p in ours.projections:
        layer = theirs.get_submodule(f"base_model.model.{p.module}")
        mine, peer = ours.adapters[p.key], (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
        with torch.no_grad():
            peer[0].copy_(mine.a)
            peer[1].copy_(mine.b)
        factors += [(mine.a, peer[0]), (mine.b, peer[1])]
    mine, peer = case(ours.model), case(theirs.base_model.model)
    torch.testing.assert_close(mine, peer, rtol=1e-9, atol=1e-9)
    mine.square().sum().backward()
    peer.square().sum().backward()
    for own, other in factors:
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_export_of_all_letters_computes_the_same_in_peft_and_comes_back(name):
    case, ours = CASES[name], adapt(name)
    weight_of = {layer_name: layer.weight for layer_name, layer in ours.model.named_modules() if layer in ours.layers}
    saved = to_peft(
        ours.projections, ours.adapters, weight_of=weight_of.__getitem__, prefix="", source=name, task_type=None
    )
    config = peft.LoraConfig(**(saved.config | {"base_model_name_or_path": None}))
    theirs = peft.get_peft_model(case.build(), config, autocast_adapter_dtype=False).double()
    result = peft.set_peft_model_state_dict(theirs, saved.tensors)
    assert not result.unexpected_keys and not [key for key in result.missing_keys if "lora_" in key]
    torch.testing.assert_close(case(theirs.base_model.model), case(ours.model), rtol=1e-9, atol=1e-9)
    back = from_peft(ours.projections, saved).adapters
    assert back.keys() == ours.adapters.keys()
    for key, adapter in ours.adapters.items():
        torch.testing.assert_close(back[key].delta(), adapter.delta(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_only_queries_and_keys_change_which_tokens_their_own_attention_looks_at(name):
    """In a stack's last layer: what is behind the softmax cannot change the probabilities before it."""
    case = CASES[name]
    of_stack = {
        "": "attentions",
        "encoder": "encoder_attentions",
        "decoder": "decoder_attentions",
        "cross": "cross_attentions",
    }
    model = case.build(attn_implementation="eager")
    plain = model(**case.inputs(), output_attentions=True)
    for stack, of_case in case.stacks.items():
        last = of_case.num_layers - 1
        for letter in of_case.shapes:
            adapt_model(model, letter, layers=f"{last}-{last}", stacks=stack or None)
            output = model(**case.inputs(), output_attentions=True)
            change = (output[of_stack[stack]][-1] - plain[of_stack[stack]][-1]).abs().amax()
            assert (change > 1e-5) if letter in "qk" else (change < 1e-12), (stack, letter, float(change))
            detach(model)


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize(("letter", "linear"), [("u", True), ("g", False)])
def test_the_mlp_is_linear_in_up_and_not_in_gate(name, letter, linear):
    """W_d is given act(W_g x) * W_u x: twice delta W_u changes that twice as much."""
    adapted = adapt(name, letter, layers="1-1")
    plain = CASES[name].build()
    down = next(p for p in find_projections(plain, plain.config) if (p.letter, p.layer) == ("d", 1))
    seen: list[Tensor] = []
    adapted.model.get_submodule(down.module).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for factor in (0.0, 1.0, 2.0):
        for layer, adapter in zip(adapted.layers, adapted.adapters.values(), strict=True):
            layer.adapters[0] = [dataclasses.replace(adapter, scale=factor * adapter.scale)]
        CASES[name](adapted.model)
    first, second = seen[1] - seen[0], seen[2] - seen[0]
    assert first.abs().amax() > 1e-6
    assert torch.allclose(second, 2 * first, rtol=1e-9, atol=1e-12) == linear


def test_dropout_reaches_all_of_debertas_relative_positions():
    """They go through W_q and W_k too, and are not as many as the tokens."""
    adapted = adapt("deberta-v2", "q", layers="0-0")
    (layer,) = adapted.layers
    (adapter,) = adapted.adapters.values()
    layer.adapters[0] = [dataclasses.replace(adapter, dropout=0.5)]
    layer.roster.training, layer.roster.lengths = True, (7,)
    layer.roster.generators[0] = torch.Generator().manual_seed(0)
    positions = torch.ones(1, 8, 16, dtype=torch.float64)
    change = layer(positions) - layer.base(positions)
    assert (change.abs().amax(dim=-1) > 0).all() and change.std(dim=1).amax() > 0


@pytest.mark.parametrize("name", FUSED)
def test_letters_of_one_fused_weight_stand_side_by_side(name):
    model = CASES[name].build()
    modules = [p.module for p in find_projections(model, model.config)]
    assert len(list(groupby(modules))) == len(set(modules)) < len(modules)


@st.composite
def selections(draw):
    """Architecture, letters, rank, layers and stacks that go together."""
    name = draw(st.sampled_from(sorted(CASES)))
    case = CASES[name]
    chosen = draw(st.sets(st.sampled_from(sorted(case.stacks)), min_size=1))
    stacks = "+".join(sorted(chosen)) if "cross" in case.stacks else None
    letters = {letter for stack in chosen for letter in case.stacks[stack].shapes}
    targets = "".join(sorted(draw(st.sets(st.sampled_from(sorted(letters)), min_size=1)), key="qkvougd".index))
    layer = draw(st.sampled_from([None, 0, 1]))
    return name, chosen, stacks, targets, layer, draw(st.integers(1, 3))


@settings(max_examples=25, deadline=None)
@given(selections())
def test_any_selection_has_the_counted_parameters_merges_exactly_and_leaves_the_rest_alone(selection):
    name, chosen, stacks, targets, layer, rank = selection
    case = CASES[name]
    adapted = adapt(name, targets, rank=rank, layers=None if layer is None else f"{layer}-{layer}", stacks=stacks)
    total = sum(p.numel() for adapter in adapted.adapters.values() for p in (adapter.a, adapter.b))
    assert total == sum(
        (case.stacks[stack].num_layers if layer is None else 1) * rank * (d_in + d_out)
        for stack in chosen
        for letter, (d_in, d_out) in case.stacks[stack].shapes.items()
        if letter in targets
    )
    output = case(adapted.model)
    output.square().sum().backward()
    assert all(a.a.grad.isfinite().all() and a.b.grad.any() for a in adapted.adapters.values())
    expected = {name: p.detach().clone() for name, p in case.build().named_parameters()}
    for p in adapted.projections:
        delta = placed(case, p, adapted.adapters[p.key])
        expected[f"{p.module}.weight"] += delta.T if p.transposed else delta
    for lora_linear in adapted.layers:
        lora_linear.merge(0)
    torch.testing.assert_close(case(adapted.model), output, rtol=1e-6, atol=1e-6)
    for weight, tensor in adapted.model.named_parameters():
        torch.testing.assert_close(tensor, expected[weight.replace(".base.", ".")], rtol=1e-9, atol=1e-9)
