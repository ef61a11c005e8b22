"""What a finished lane leaves on disk beside its record: adapter, head, predictions."""

from __future__ import annotations

from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

from src.adapters.peft_format import to_peft
from src.models.adapted import AdaptedModel
from src.records import RunPaths, write_bytes_atomic, write_json_atomic


def save_lane(model: AdaptedModel, lane: int, paths: RunPaths, examples: Mapping[str, Tensor]) -> None:
    """Write the lane as it is now (its best state): peft's adapter files, head.safetensors, predictions.

    Args:
        examples: `Result.examples` of test.


    Raises:
        HarnessError: the system refused to write.
    """
    setup, base = model.setups[lane], model.base
    if setup.projections:
        adapter = to_peft(
            setup.projections,
            model.adapters[lane],
            prefix=base.prefix,
            source=base.source,
            causal_lm=setup.spec.task.kind == "causal_lm",
        )
        write_bytes_atomic(paths.adapter_weights, save(adapter.tensors))
        write_json_atomic(paths.adapter_config, adapter.config)
    head = {name: parameter.detach().cpu().contiguous() for name, parameter in model.heads[lane].items()}
    if head:
        write_bytes_atomic(paths.head, save(head))
    write_bytes_atomic(paths.predictions, save({name: values.contiguous() for name, values in examples.items()}))
