"""Load a frozen base model and its tokenizer by transformers' Auto classes: an asset, a hub id or a local folder."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
)

from src.adapters.projections import Projection, find_projections
from src.assets import resolve_asset
from src.errors import ConfigError, HarnessError, brief
from src.models.frozen import speed_up
from src.models.gguf import converted
from src.models.hardware import Attention
from src.models.library import is_panic, quiet, reason_of
from src.models.seq2seq import backbone_of, check_kind, reads_and_writes, text_head, usable
from src.models.trust import check_folder, check_size, check_values
from src.spec import TEXT_KINDS, ModelSpec, TaskKind

logger = logging.getLogger(__name__)
# Their tokens see what follows them, so that next-token prediction would only copy; unless config.is_decoder says else.
_ENCODERS = frozenset({"bert", "roberta", "xlm-roberta", "electra", "deberta-v2", "distilbert"})
# No code of a model's own is run: not even asked about, as transformers would by default.
_SAFE = {"trust_remote_code": False}
_SEE = frozenset({"vit", "clip_vision_model"})


@dataclass(frozen=True)
class Base:
    """A frozen model, shared by all lanes of all packs that use it.

    Attributes:
        model: what transformers loaded; all parameters frozen, dropout off.
        backbone: the part from token ids to hidden states; projections are named relative to it. A model with encoder
            and decoder ends with the decoder's states for seq2seq, with the encoder's for other tasks.
        prefix: name of the backbone within `model`, with a dot, or empty.
        output: the frozen language-model head; None unless loaded for causal_lm or seq2seq.
        projections: everything that can be adapted.
        num_parameters: of the whole model.
        hidden_size: width of the hidden states.
        source: path or id that plain transformers and peft load it from.
    """

    model: nn.Module
    backbone: nn.Module
    prefix: str
    output: nn.Module | None
    projections: tuple[Projection, ...]
    num_parameters: int
    hidden_size: int
    source: str


def local_source(spec: ModelSpec, cache_dir: Path) -> str:
    """Path or hub id that transformers can load: assets are fetched, GGUF files converted once.

    Raises:
        ConfigError, HarnessError: no such asset or folder.
    """
    if spec.path.startswith("asset:"):
        folder = resolve_asset(spec.path, cache_dir, "model.path")
        ggufs = list(folder.glob("*.gguf"))
        if not ggufs and not (folder / "config.json").exists():
            raise ConfigError("model.path", spec.path, "an asset that holds a model: asset:minilm or asset:smollm2")
        return str(converted(ggufs[0], cache_dir) if ggufs else folder)
    folder = Path(spec.path).expanduser()
    if folder.is_dir():
        return str(folder.absolute())
    if spec.path.startswith(("/", ".", "~")) or spec.path.count("/") > 1:
        raise _not_loaded(spec, f"there is no folder {brief(str(folder))}.")
    logger.info("Asking the hub for the model %s", spec.path)
    return spec.path


def load_tokenizer(spec: ModelSpec, cache_dir: Path) -> Any:
    """The model's own fast tokenizer.

    Raises:
        HarnessError: missing files, no network.
    """
    source = local_source(spec, cache_dir)
    tokenizer = _load(spec, lambda: AutoTokenizer.from_pretrained(source, revision=spec.revision, **_SAFE))
    if not isinstance(tokenizer.model_max_length, int | float):
        raise _not_loaded(spec, "its tokenizer's model_max_length is no number.")
    # Where there are no tokenizer files, transformers makes a tokenizer to which every word is unknown.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise _not_loaded(spec, "it has no tokenizer.")
    return tokenizer


def load_image_processor(spec: ModelSpec, cache_dir: Path) -> Any:
    """The model's own image processor, which computes with Pillow whether or not torchvision is installed.

    Raises:
        HarnessError: missing files, no network.
    """
    source = local_source(spec, cache_dir)
    options = {"revision": spec.revision, "backend": "pil", **_SAFE}
    return _load(spec, lambda: AutoImageProcessor.from_pretrained(source, **options))


def load_base(
    spec: ModelSpec, kind: TaskKind, cache_dir: Path, *, device: torch.device, dtype: torch.dtype, attention: Attention
) -> Base:
    """Load, freeze and place the base model.

    Args:
        attention: which of transformers' implementations to use, where the architecture has it, else eager; they
            differ in speed and rounding only.

    Raises:
        HarnessError: missing files or weights, no network, an architecture without a projection table.
    """
    source = local_source(spec, cache_dir)
    # Without safetensors transformers would read pickles.
    options: dict[str, Any] = {"revision": spec.revision, "dtype": dtype, "use_safetensors": True, **_SAFE}
    auto, options["config"] = _auto_class(kind), _load_config(spec, source)
    # DeBERTa's own attention has terms that torch's fused one does not know.
    fuses = _load(spec, lambda: auto._model_mapping[type(options["config"])])._supports_sdpa
    options["attn_implementation"] = attention if fuses else "eager"
    model, report = _load(spec, lambda: auto.from_pretrained(source, output_loading_info=True, **options))
    if getattr(model, "_hf_peft_config_loaded", False):
        raise _not_loaded(spec, "it is an adapter, where a whole model belongs.")
    _check_weights(spec, model, report["missing_keys"])
    base = freeze(model.to(device), kind, source, spec.projections)
    speed_up(model)
    return base


@functools.lru_cache(maxsize=32)
def outline(spec: ModelSpec, kind: TaskKind, cache_dir: Path) -> Base:
    """The same as `load_base` with real shapes but no weights (meta device): reads only the config.

    Raises:
        ConfigError: a model that cannot do this kind of task.
        HarnessError: as `load_base`.
    """
    source = local_source(spec, cache_dir)
    config = _load_config(spec, source)
    if kind == "causal_lm" and config.model_type in _ENCODERS | _SEE and not getattr(config, "is_decoder", False):
        reads = "pictures" if config.model_type in _SEE else "text in both directions"
        raise ConfigError(
            "task.kind", kind, f"classification or regression with the {config.model_type} model {spec.path}, which "
            f"reads {reads}; to predict text, take a model such as asset:smollm2 or gpt2"
        )  # fmt: skip
    check_kind(spec, config, kind)
    with torch.device("meta"):
        model = _load(spec, lambda: _auto_class(kind).from_config(config, **_SAFE))
    _load(spec, lambda: check_size(source, sum(p.numel() for p in model.parameters())))
    return freeze(model, kind, source, spec.projections)


def kind_of_all(spec: ModelSpec, cache_dir: Path) -> TaskKind:
    """The kind of task for which `load_base` shows every projection: for others a decoder may be left out.

    Raises:
        HarnessError: as `load_base`.
    """
    config = _load_config(spec, local_source(spec, cache_dir))
    return "seq2seq" if reads_and_writes(config) else "classification"


def max_positions(base: Base) -> int | None:
    """Longest input in tokens, None where the config does not say."""
    config: Any = base.model.config
    limit = getattr(config, "max_position_embeddings", None)
    # RoBERTa numbers positions from padding_idx + 1, so two of its rows can never be used.
    reserved = (config.pad_token_id or 0) + 1 if config.model_type in {"roberta", "xlm-roberta"} else 0
    return None if limit is None else int(limit) - reserved


def check_length(base: Base, max_length: int) -> None:
    """Raises:
    ConfigError: more tokens than the model has positions.
    """
    limit = max_positions(base)
    if limit is not None and max_length > limit:
        raise ConfigError("task.max_length", max_length, f"at most {limit}, the model's positions")


def _load_config(spec: ModelSpec, source: str) -> Any:
    """Of CLIP's two towers, only the one that sees is used."""

    def load() -> Any:
        check_folder(source)
        values, _ = PreTrainedConfig.get_config_dict(source, revision=spec.revision)
        check_values(values)
        return AutoConfig.from_pretrained(source, revision=spec.revision, **_SAFE)

    config = _load(spec, load)
    # What a config asks for may be a kernel from a hub; load_base says which one is used.
    config._attn_implementation = "eager"
    return config.vision_config if config.model_type == "clip" else config


def _auto_class(kind: TaskKind) -> Any:
    return {"causal_lm": AutoModelForCausalLM, "seq2seq": AutoModelForSeq2SeqLM}.get(kind, AutoModel)


def freeze(model: Any, kind: TaskKind, source: str, named: Mapping[str, str] | None = None) -> Base:
    """Freeze a model as transformers made it, turn its dropout off, and describe it.

    Args:
        named: `model.projections`, in place of the architecture's table.

    Raises:
        ConfigError: no table for this architecture, or places that it lacks.
    """
    model.requires_grad_(False).eval()
    model.config.use_cache = False
    backbone = backbone_of(model)
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    return Base(
        model=model,
        backbone=backbone,
        prefix=prefix,
        output=text_head(model) if kind in TEXT_KINDS else None,
        projections=usable(find_projections(backbone, model.config, named), kind, model.config),
        num_parameters=sum(p.numel() for p in model.parameters()),
        hidden_size=_hidden_size(model.config),
        source=source,
    )


def _hidden_size(config: Any) -> int:
    """Width of what the backbone returns; some of OPT's sizes end with a matrix back to the narrower embeddings."""
    narrowed = config.word_embed_proj_dim if config.model_type == "opt" else None
    return int(narrowed or config.hidden_size)


def _load(spec: ModelSpec, load: Callable[[], Any]) -> Any:
    """Call transformers quietly; what it raises becomes one paragraph."""
    try:
        with quiet():
            return load()
    except HarnessError:
        raise
    except BaseException as error:  # broken files show as errors of many libraries
        if isinstance(error, Exception) or is_panic(error):
            raise _not_loaded(spec, reason_of(error)) from error
        raise


def _not_loaded(spec: ModelSpec, reason: str) -> HarnessError:
    return HarnessError(
        f"The model {brief(repr(spec.path))} could not be loaded: {reason} Give model.path an asset (asset:minilm, "
        "asset:smollm2), a local folder with config.json, tokenizer and safetensors weights, or a hub id that this "
        "machine can reach."
    )


def _check_weights(spec: ModelSpec, model: nn.Module, missing: Collection[str]) -> None:
    """transformers fills what is missing with random numbers; only BERT's pooler can be missed, as it is not used."""
    names = {name for name, _ in model.named_parameters()}
    lost = sorted(key for key in missing if key in names and "pooler" not in key.split("."))
    if lost:
        raise _not_loaded(spec, f"its files lack {len(lost)} of its weights, such as {lost[0]}.")
