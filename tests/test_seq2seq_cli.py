"""A sequence-to-sequence study from the command line: a T5 folder and a JSONL file of one's own, and what it leaves."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast

from src.data import collate, load_task
from src.records import RunPaths, read_record
from src.spec import run_spec_from_dict
from tests.tiny import tiny

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("red", "green", "blue", "white", "black")


def write_pairs(file: Path) -> Path:
    """Lists of colours, and how many there are of the first one."""
    draw = random.Random(0)
    rows = [[draw.choice(NAMES) for _ in range(draw.randint(2, 9))] for _ in range(120)]
    lines = [json.dumps({"list": " ".join(row), "answer": f"{row.count(row[0])} {row[0]}"}) for row in rows]
    file.write_text("\n".join(lines) + "\n")
    return file


def save_t5(folder: Path, data: Path) -> Path:
    """A tiny T5 and a tokenizer of T5's build, trained on the data."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    special = ["<unk>", "<pad>", "<x>", "<y>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator([data.read_text()], trainer)
    backend.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 4)])
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    tiny("t5", seq2seq=True).to(torch.float32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunPaths]:
    """One sweep over two ranks on the folder and the file."""
    root = tmp_path_factory.mktemp("seq2seq")
    data = write_pairs(root / "pairs.jsonl")
    model = save_t5(root / "t5", data)
    command = [
        sys.executable, "-m", "src.train", "-m", f"model.path={model}", "task=own", f"task.path={data}",
        "task.kind=seq2seq", "task.prompt='count: {list} ='", "task.completion='{answer}'", "task.metric=loss",
        "task.max_length=32", "lora.rank=2,4", "lora.targets=all", "optim.lr=1e-2", "trainer.max_steps=20",
        "trainer.dtype=float32", "tracking=none", "device=cpu", f"output_dir={root}/out", f"cache_dir={root}/cache",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [RunPaths(path.parent) for path in sorted(root.glob("out/*/runs/*/record.json"))]


def test_each_cell_trains_and_is_recorded(runs: list[RunPaths]) -> None:
    records = [read_record(run.record) for run in runs]
    assert sorted(record.params.rank or 0 for record in records) == [2, 4]
    assert {record.status for record in records} == {"completed"}
    for record in records:
        assert record.metrics.test is not None
        assert record.metrics.test.keys() == {"loss", "perplexity", "token_accuracy"}
        # Uniform over the vocabulary would be log 100 = 4.6.
        assert record.metrics.test["loss"] is not None and record.metrics.test["loss"] < 4.0
        attention, mlp = 2 + 3 + 3, 2 + 3  # layers of encoder, decoder and cross-attention
        units = attention * 4 * (16 + 16) + mlp * 2 * (16 + 24)
        assert (record.params.adapter, record.params.head) == (units * (record.params.rank or 0), 0)


def test_plain_transformers_and_peft_give_the_recorded_loss(runs: list[RunPaths]) -> None:
    for run in runs:
        record = read_record(run.record)
        config = json.loads(run.adapter_config.read_text())
        assert config["task_type"] == "SEQ_2_SEQ_LM"
        folder = config["base_model_name_or_path"]
        task = run_spec_from_dict(record.spec).task
        data = load_task(task, AutoTokenizer.from_pretrained(folder), run.root / "cache")
        batch = collate(data.test, torch.arange(len(data.test)), data.pad_id)
        model = peft.PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(folder), run.adapter)
        with torch.no_grad():
            out = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels)
        assert record.metrics.test is not None
        assert float(out.loss) == pytest.approx(record.metrics.test["loss"], rel=1e-4)
        said = load_file(run.predictions)
        assert float(said["loss"].sum() / said["tokens"].sum()) == pytest.approx(float(out.loss), rel=1e-4)
