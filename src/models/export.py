"""A run as others load it: its adapter in peft's format, or a model folder with the adapter merged into the weights.

Either folder says in its README.md how to load it; a task head, which neither format has a place for, lies beside as
head.safetensors (``head.weight`` C x d, ``head.bias`` C), with head.json: how hidden states are pooled, the labels.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig

from src.errors import ConfigError, HarnessError
from src.models.bank import AdapterBank
from src.models.hardware import master_dtype
from src.models.library import quiet
from src.models.loading import Base, load_base, load_image_processor, load_tokenizer
from src.models.methods import make_method
from src.models.setup import set_up
from src.records import RunPaths, RunRecord, atomic_folder
from src.spec import NEW_WEIGHTS, RunSpec, to_dict

Format = Literal["peft", "merged"]
_CLASSES = {"causal_lm": "AutoModelForCausalLM", "seq2seq": "AutoModelForSeq2SeqLM"}


@dataclass(frozen=True)
class Exported:
    """A completed run and its files."""

    record: RunRecord
    run: RunPaths

    @property
    def spec(self) -> RunSpec:
        return self.record.run_spec()


def export(run: Exported, target: Path, form: Format, cache_dir: Path, dtype: str = "float32") -> None:
    """Write the folder, whole or not at all.

    Args:
        dtype: of the merged weights, as torch names it; they are merged in float32 or better.

    Raises:
        ConfigError: a run of this method has no such form.
        HarnessError: the folder is there already, files of the run are missing, or the system refused to write.
    """
    if target.exists():
        raise HarnessError(f"{target} exists already and was left as it is; name a new folder with to=.")
    write = _peft(run) if form == "peft" else _merged(run, cache_dir, getattr(torch, dtype))
    with atomic_folder(target) as scratch:
        write(scratch)
        if run.run.head.is_file():
            shutil.copyfile(run.run.head, scratch / run.run.head.name)
            (scratch / "head.json").write_text(json.dumps(_head(run), indent=2) + "\n")
        (scratch / "README.md").write_text(_readme(run, form))


def _peft(run: Exported) -> Callable[[Path], None]:
    """The run's own files are in peft's format, also where it trained letters of a fused weight."""
    spec = run.spec
    if spec.method.name != "lora" or spec.lora.targets == "none":
        own = "the head alone" if spec.method.name == "lora" else spec.method.name
        allowed = "merged" if _mergeable(spec) else "a run that trained nothing but LoRA adapters"
        raise ConfigError("format", "peft", f"{allowed}; this run is of method {own}")
    if missing := [f for f in (run.run.adapter_config, run.run.adapter_weights) if not f.is_file()]:
        raise HarnessError(f"{missing[0]} is missing; run the cell again with rerun=true to have it written.")

    def write(folder: Path) -> None:
        for file in (run.run.adapter_config, run.run.adapter_weights):
            shutil.copyfile(file, folder / file.name)

    return write


def _merged(run: Exported, cache_dir: Path, dtype: torch.dtype) -> Callable[[Path], None]:
    spec = run.spec
    if not _mergeable(spec):
        raise ConfigError(
            "format", "merged", f"only runs of method lora, head, {', '.join(NEW_WEIGHTS)}: what {spec.method.name} "
            "trains cannot be folded into the base's weights"
        )  # fmt: skip
    cpu = torch.device("cpu")
    # Rounded once, at the end: factors in bfloat16 would change what is merged.
    wide = master_dtype(dtype)
    base = load_base(spec.model, spec.task.kind, cache_dir, device=cpu, dtype=wide, attention="sdpa")
    if spec.method.name == "lora" and spec.lora.targets != "none":
        bank = AdapterBank(base)
        bank.load(run.record.run_id, run.run.adapter)
        bank.merge(run.record.run_id)
    elif spec.method.name in NEW_WEIGHTS:
        _put_weights(run, base)
    preprocessor = (load_image_processor if spec.task.image else load_tokenizer)(spec.model, cache_dir)

    base.model.to(dtype)

    def write(folder: Path) -> None:
        _plain_config(base, spec)
        with quiet():
            base.model.save_pretrained(folder)  # type: ignore[operator]
            preprocessor.save_pretrained(folder)

    return write


def _mergeable(spec: RunSpec) -> bool:
    return spec.method.name in ("lora", *NEW_WEIGHTS)


@torch.no_grad()
def _put_weights(run: Exported, base: Base) -> None:
    """Let a method's values take the place of the base's own."""
    setup = set_up(run.spec, base)
    dtype = master_dtype(next(base.model.parameters()).dtype)
    method = make_method(base, setup.spec, setup.allocation, dtype=dtype)
    try:
        state = load_file(run.run.method)
        if method is None or method.parameters().keys() != state.keys():
            raise ValueError("its names are not those of the method's parameters")
        for name, parameter in method.parameters().items():
            parameter.copy_(state[name])
        own = dict(base.model.named_parameters())
        for name, tensor in method.weights().items():
            own[name].copy_(tensor)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise HarnessError(f"{run.run.method} cannot be merged: {error}.") from error


def _plain_config(base: Base, spec: RunSpec) -> None:
    """The caching of past keys, which training turns off, as the base's own files have it."""
    config: Any = base.model.config
    plain = AutoConfig.from_pretrained(base.source, revision=spec.model.revision)
    if hasattr(plain, "use_cache"):
        config.use_cache = plain.use_cache
    else:
        del config.use_cache


def _head(run: Exported) -> dict[str, Any]:
    return {
        "kind": run.spec.task.kind,
        "pooling": run.spec.model.pooling,
        "labels": run.record.data.get("label_names"),
    }


def _readme(run: Exported, form: Format) -> str:
    spec = run.spec
    title = "LoRA adapter in peft's format" if form == "peft" else "Merged model"
    made = json.dumps({key: to_dict(spec)[key] for key in ("model", "lora", "method")}, indent=2)
    code = "\n".join(f"    {line}" for line in _loading_code(run, form))
    return (
        f"# {title}: {run.record.run_id}\n\nTask: {spec.task.kind}, {spec.task.path}. To load it in this folder:\n\n"
        f"{code}\n\nWhat it was made from:\n\n```json\n{made}\n```\n"
    )


def _loading_code(run: Exported, form: Format) -> list[str]:
    name = _CLASSES.get(run.spec.task.kind, "AutoModel")
    lines = [f"from transformers import {name}"]
    if form == "merged":
        lines += [f'model = {name}.from_pretrained(".")']
    else:
        base = json.loads(run.run.adapter_config.read_bytes())["base_model_name_or_path"]
        lines = ["import peft", *lines, f"model = {name}.from_pretrained({json.dumps(base)})"]
        lines += ['model = peft.PeftModel.from_pretrained(model, ".")']
    if run.run.head.is_file():
        lines = ["import safetensors.torch", *lines, 'head = safetensors.torch.load_file("head.safetensors")']
        lines += [*_POOLING[run.spec.model.pooling], 'logits = pooled @ head["head.weight"].T + head["head.bias"]']
    return lines


_POOLING = {
    "mean": ("mask = inputs.attention_mask.unsqueeze(-1)", "hidden = model(**inputs).last_hidden_state",
             "pooled = (hidden * mask).sum(1) / mask.sum(1)"),
    "first": ("pooled = model(**inputs).last_hidden_state[:, 0]",),
    "last": ("hidden = model(**inputs).last_hidden_state",
             "pooled = hidden[range(len(hidden)), inputs.attention_mask.sum(1) - 1]"),
}  # fmt: skip
