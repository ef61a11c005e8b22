"""Load a frozen base model and its tokenizer by transformers' Auto classes: an asset, a hub id or a local folder."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from src.adapters.projections import Projection, find_projections, places_of
from src.assets import resolve_asset
from src.errors import ConfigError, HarnessError
from src.models.hardware import Attention
from src.records import atomic_folder
from src.spec import ModelSpec, TaskKind

logger = logging.getLogger(__name__)
# Their tokens see what follows them, so that next-token prediction would only copy; unless config.is_decoder says else.
_ENCODERS = frozenset({"bert", "roberta", "xlm-roberta"})


@dataclass(frozen=True)
class Base:
    """A frozen model, shared by all lanes of all packs that use it.

    Attributes:
        model: what transformers loaded; all parameters frozen, dropout off.
        backbone: the part from token ids to hidden states; projections are named relative to it.
        prefix: name of the backbone within `model`, with a dot, or empty.
        output: the frozen language-model head; None unless loaded for causal_lm.
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
        return str(_converted(ggufs[0], cache_dir) if ggufs else folder)
    folder = Path(spec.path).expanduser()
    if folder.is_dir():
        return str(folder.absolute())
    if spec.path.startswith(("/", ".", "~")) or spec.path.count("/") > 1:
        raise _not_loaded(spec, f"there is no folder {folder}.")
    logger.info("Asking the hub for the model %s", spec.path)
    return spec.path


def load_tokenizer(spec: ModelSpec, cache_dir: Path) -> Any:
    """The model's own fast tokenizer.

    Raises:
        HarnessError: missing files, no network.
    """
    source = local_source(spec, cache_dir)
    tokenizer = _load(spec, lambda: AutoTokenizer.from_pretrained(source, revision=spec.revision))
    # Where there are no tokenizer files, transformers makes a tokenizer to which every word is unknown.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise _not_loaded(spec, "it has no tokenizer.")
    return tokenizer


def load_base(
    spec: ModelSpec, kind: TaskKind, cache_dir: Path, *, device: torch.device, dtype: torch.dtype, attention: Attention
) -> Base:
    """Load, freeze and place the base model.

    Args:
        attention: which of transformers' implementations to use; they differ in speed and rounding only.

    Raises:
        HarnessError: missing files or weights, no network, an architecture without a projection table.
    """
    source = local_source(spec, cache_dir)
    options: dict[str, Any] = {"revision": spec.revision, "dtype": dtype, "attn_implementation": attention}
    auto = _auto_class(kind)
    model, report = _load(spec, lambda: auto.from_pretrained(source, output_loading_info=True, **options))
    _check_weights(spec, model, report["missing_keys"])
    return freeze(model.to(device), kind, source)


@functools.lru_cache(maxsize=32)
def outline(spec: ModelSpec, kind: TaskKind, cache_dir: Path) -> Base:
    """The same as `load_base` with real shapes but no weights (meta device): reads only the config.

    Raises:
        ConfigError: an encoder for a causal_lm task.
        HarnessError: as `load_base`.
    """
    source = local_source(spec, cache_dir)
    config = _load(spec, lambda: AutoConfig.from_pretrained(source, revision=spec.revision))
    places_of(config.model_type)
    if kind == "causal_lm" and config.model_type in _ENCODERS and not config.is_decoder:
        raise ConfigError(
            "task.kind", kind, f"classification or regression with the {config.model_type} model {spec.path}, which "
            "reads text in both directions; to predict text, take a model such as asset:smollm2 or gpt2"
        )  # fmt: skip
    with torch.device("meta"):
        model = _load(spec, lambda: _auto_class(kind).from_config(config))
    return freeze(model, kind, source)


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


def _auto_class(kind: TaskKind) -> Any:
    return AutoModelForCausalLM if kind == "causal_lm" else AutoModel


def freeze(model: Any, kind: TaskKind, source: str) -> Base:
    """Freeze a model as transformers made it, turn its dropout off, and describe it."""
    model.requires_grad_(False).eval()
    model.config.use_cache = False
    backbone = model.base_model
    prefix = "" if backbone is model else f"{model.base_model_prefix}."
    return Base(
        model=model,
        backbone=backbone,
        prefix=prefix,
        output=model.get_output_embeddings() if kind == "causal_lm" else None,
        projections=find_projections(backbone, model.config.model_type),
        num_parameters=sum(p.numel() for p in model.parameters()),
        hidden_size=model.config.hidden_size,
        source=source,
    )


def _load(spec: ModelSpec, load: Callable[[], Any]) -> Any:
    """Call transformers quietly; what it raises becomes one paragraph."""
    try:
        with _quiet():
            return load()
    except HarnessError:
        raise
    except Exception as error:  # broken files show as errors of many libraries
        raise _not_loaded(spec, _reason(error)) from error


def _reason(error: Exception) -> str:
    """The first line of what a library says, or all of it where that line only begins a list."""
    text = str(error).strip() or type(error).__name__
    first = text.splitlines()[0].strip()
    reason = " ".join(text.split()) if first.endswith(":") else first
    return reason if reason.endswith(".") else f"{reason}."


def _not_loaded(spec: ModelSpec, reason: str) -> HarnessError:
    return HarnessError(
        f"The model {spec.path!r} could not be loaded: {reason} Give model.path an asset (asset:minilm, "
        "asset:smollm2), a local folder with config.json, tokenizer and safetensors weights, or a hub id that this "
        "machine can reach."
    )


def _check_weights(spec: ModelSpec, model: nn.Module, missing: Collection[str]) -> None:
    """transformers fills what is missing with random numbers; only BERT's pooler can be missed, as it is not used."""
    names = {name for name, _ in model.named_parameters()}
    lost = sorted(key for key in missing if key in names and "pooler" not in key.split("."))
    if lost:
        raise _not_loaded(spec, f"its files lack {len(lost)} of its weights, such as {lost[0]}.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars, load reports and the hub client's retries."""
    hub = logging.getLogger("huggingface_hub")
    verbosity, level = transformers.logging.get_verbosity(), hub.level
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    hub.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        hub.setLevel(level)
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()


def _converted(gguf: Path, cache_dir: Path) -> Path:
    """A folder with the GGUF file's weights as float32 safetensors, made once."""
    target = cache_dir / "converted" / gguf.parent.name
    if target.exists():
        return target
    logger.info("Converting %s to safetensors (once)", gguf.name)
    # transformers draws a progress bar for this that no setting turns off.
    with _quiet(), contextlib.redirect_stderr(io.StringIO()), atomic_folder(target) as scratch:
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # What was read from GGUF counts as quantised and refuses to be saved; the same weights in a plain model do.
        del read.config.quantization_config
        plain = AutoModelForCausalLM.from_config(read.config)
        plain.load_state_dict(read.state_dict())
        plain.save_pretrained(scratch)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(scratch)
    return target
