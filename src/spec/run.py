"""RunSpec: everything that can change a run's result, and nothing else.

Frozen and free of Hydra. Field metadata ``identity=False`` marks the few values that are carried along but
cannot change the result; they take no part in the run's identity (src/spec/identity.py). Fields marked LATER came after
the first studies: at their default they take no part in it either, so that those studies stay valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from src.spec.frozen import FrozenMap

LATER: Mapping[str, Any] = {"later": True}
Pooling = Literal["mean", "first", "last"]
TaskKind = Literal["classification", "regression", "causal_lm", "seq2seq"]
TEXT_KINDS: frozenset[TaskKind] = frozenset({"causal_lm", "seq2seq"})  # they write text and have no task head
MethodName = Literal[
    "lora", "full", "head", "bitfit", "adapter_h", "adapter_l", "prefix", "lora_prefix", "random_subspace"
]
Init = Literal["gaussian", "kaiming", "pissa"]
Fill = Literal["none", "layers"]
Schedule = Literal["linear", "cosine", "constant"]
DType = Literal["auto", "float32", "bfloat16", "float64"]


@dataclass(frozen=True)
class ModelSpec:
    """The frozen base model.

    Attributes:
        path: ``asset:<name>`` (src/assets/catalogue.py), a hub id or a local folder.
        revision: hub revision, None for the default branch.
        pooling: how token states become one vector for the classification head.
        projections: for an architecture without a table of its own (src/adapters/architectures.py): letter to module,
            such as ``q: encoder.{i}.attention.query``; None for the table.
    """

    path: str
    revision: str | None = None
    pooling: Pooling = "mean"
    projections: FrozenMap[str] | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class TaskSpec:
    """Data, template and metric.

    Attributes:
        path: ``asset:<name>``, ``pydoc``, a hub id, a local folder, or a csv, tsv, json, jsonl or parquet file.
        test_path: a second file for the test split, where `path` is one file; None otherwise.
        subset: name of a hub data set's configuration (GLUE's ``sst2``).
        text, text_pair: columns that hold the input text(s).
        image: column of pictures, which then take the place of text; None for text.
        label: column of the class or number.
        prompt, completion: for causal_lm and seq2seq, templates over columns: ``"{source}\n# "``.
        train_split, validation_split, test_split: split names in the source; None means: a seeded, stratified
            part of train.
        train_size, validation_size, test_size: at most so many examples (stratified); None means all, or, for a
            split that is carved from train, a tenth.
        split_seed: seed of all splitting and subsetting; the same for every cell, so that seeds are paired.
        max_length: tokens; longer texts are truncated (causal_lm and seq2seq truncate the prompt only). Of
            causal_lm it limits prompt and completion together, of seq2seq each of them.
        metric: the validation metric by which the best epoch is chosen.
        generate: for causal_lm and seq2seq, whether completions of test are also generated and scored as text.
        beams: width of beam search, 1 for greedy decoding.
        length_penalty, no_repeat_ngram: as in transformers' generate; 0 n-grams forbids none.
        max_new_tokens: longest completion that is generated, in tokens.
    """

    path: str
    kind: TaskKind
    test_path: str | None = None
    subset: str | None = None
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    prompt: str | None = None
    completion: str | None = None
    train_split: str = "train"
    validation_split: str | None = None
    test_split: str | None = "test"
    train_size: int | None = None
    validation_size: int | None = None
    test_size: int | None = None
    split_seed: int = 0
    max_length: int = 128
    metric: str = "accuracy"
    image: str | None = field(default=None, metadata=LATER)
    generate: bool = field(default=False, metadata=LATER)
    beams: int = field(default=1, metadata=LATER)
    length_penalty: float = field(default=1.0, metadata=LATER)
    no_repeat_ngram: int = field(default=0, metadata=LATER)
    max_new_tokens: int = field(default=64, metadata=LATER)


@dataclass(frozen=True)
class MethodSpec:
    """How the model is adapted: LoRA, or what it is judged against; each with its source in src/models/methods/.

    Attributes:
        name: ``lora``, also with DoRA, rsLoRA, LoRA+ and PiSSA (LoraSpec); ``head``: nothing but the task head.
        size: m of adapter layers, tokens of a prefix, d of a random subspace; None where it follows from the budget,
            and for methods that have none.
        said: for random_subspace, whether each layer has a scale of its own that is trained (SAID), or none has (DID).
    """

    name: MethodName = "lora"
    size: int | None = None
    said: bool = True


@dataclass(frozen=True)
class LoraSpec:
    """Which matrices get how much LoRA (Hu et al. 2021, section 4).

    Attributes:
        targets: canonical letters or word (src/spec/targets.py).
        rank: r; exactly one of rank and budget.
        budget: trained parameters besides the head; r, or the size of another method, is then the largest that fits.
        alpha: numerator of the scale alpha / r.
        dropout: probability of dropping an input element of A.
        init: of A: ``gaussian`` (N(0, 1 / d_in), as the paper says Gaussian) or ``kaiming`` (uniform, a = sqrt 5,
            as the released code does); or of A and B: ``pissa``, the top r singular triplets of W0, whose rest stays
            frozen (Meng et al. 2024, arXiv 2404.02948).
        layers: inclusive range ``a-b`` of layer indices, or None for all.
        dora: whether each output unit also has a trained magnitude (Liu et al. 2024, arXiv 2402.09353).
        rslora: scale alpha / sqrt(r) in place of alpha / r (Kalajdzievski 2023, arXiv 2312.03732).
        b_lr_ratio: learning rate of B over that of A, 1 for the same (LoRA+, Hayou et al. 2024, arXiv 2402.12354).
        ranks: ranks that differ from `rank`, by letters (``q``, ``qk``), by layers (``3``, ``0-5``) or by both
            (``q/0-5``); both count before layers, and layers before letters. None for none (src/spec/ranks.py).
        fill: ``layers`` spends what a budget leaves on one more rank in some layers, the last ones first.
        stacks: of an encoder-decoder model: ``encoder``, ``decoder``, ``cross`` (the decoder's attention to the
            encoder), or several joined by ``+``; None for all.
    """

    targets: str
    rank: int | None
    budget: int | None
    alpha: float
    dropout: float = 0.0
    init: Init = "kaiming"
    layers: str | None = None
    dora: bool = field(default=False, metadata=LATER)
    rslora: bool = field(default=False, metadata=LATER)
    b_lr_ratio: float = field(default=1.0, metadata=LATER)
    ranks: FrozenMap[int] | None = field(default=None, metadata=LATER)
    fill: Fill = field(default="none", metadata=LATER)
    stacks: str | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class OptimSpec:
    """AdamW and its schedule; all of it may differ between the lanes of a pack.

    Attributes:
        lr: peak learning rate of the adapters.
        head_lr: peak learning rate of the task head, its own value so that heads train alike in all cells.
        warmup: share of all steps spent in linear warm-up, in [0, 1).
        clip: largest global gradient norm of a lane, None for no clipping.
        label_smoothing: in [0, 1), not for regression.
    """

    lr: float
    head_lr: float
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    schedule: Schedule = "linear"
    warmup: float = 0.06
    clip: float | None = 1.0
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class TrainerSpec:
    """The loop; equal for all lanes of a pack.

    Attributes:
        epochs: passes over train.
        max_steps: optimiser steps in all; overrides epochs when set.
        batch_size: examples of one lane in one optimiser step.
        accumulation: micro-batches into which a step's examples are split.
        eval_every: optimiser steps between validations; None means every epoch.
        patience: stop a lane after so many validations without improvement; None means never.
        dtype: of the frozen base; ``auto`` is bfloat16 where the hardware multiplies it natively, else float32.
        eval_batch_size, checkpoint_every: examples per evaluation batch; optimiser steps between checkpoints.
        gradient_checkpointing: whether layers keep their inputs only and run again in the backward pass.
        cache_frozen: whether what enters the lowest adapted layer is kept by example, where memory allows it.
    """

    epochs: int = 1
    max_steps: int | None = None
    batch_size: int = 16
    accumulation: int = 1
    eval_every: int | None = None
    patience: int | None = None
    dtype: DType = "auto"
    eval_batch_size: int = field(default=32, metadata={"identity": False})
    checkpoint_every: int = field(default=100, metadata={"identity": False})
    gradient_checkpointing: bool = field(default=False, metadata={"identity": False})
    cache_frozen: bool = field(default=True, metadata={"identity": False})


@dataclass(frozen=True)
class RunSpec:
    """One cell of a sweep."""

    model: ModelSpec
    task: TaskSpec
    lora: LoraSpec
    optim: OptimSpec
    trainer: TrainerSpec
    seed: int = 0
    method: MethodSpec = field(default=MethodSpec(), metadata=LATER)
