"""What a deployment decides about vLLM, and whether a model can be cut up that way."""

from dataclasses import dataclass
from typing import Literal

from services.shared.errors import InvalidOptionError
from services.shared.step1_config import Step1Config


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmOptions:
    """How vLLM serves one model.

    Attributes:
        dtype: of activations, and of weights that are not quantized.
        weights: `stored` takes them as the checkpoint has them, quantized where its config.json says so (INT8 comes
            that way: vLLM quantizes no dense layer to INT8 while loading); `fp8` quantizes them while loading, one
            scale a channel.
        max_batch: replies that are generated at the same time.
        context_tokens: longest prompt and reply together; 0 is as long as the model allows.
        tensor_parallel: devices that share each layer.
        pipeline_parallel: groups of devices that each have some of the layers.
        memory_fraction: of each device's memory, for weights and key/value cache together.
        kv_cache_mib: the key/value cache of each device where it is to be set outright; 0 takes what memory_fraction
            leaves.
        prefill_tokens: tokens of one step. A longer prompt is read in pieces of it, beside the replies that run.
        model_runner: vLLM's first or second; each has its own kind of logits processor, and both have the rule.
        graphs: whether passes are compiled and captured as CUDA graphs; without, the start is quick and passes slow.
    """

    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    weights: Literal["stored", "fp8"] = "stored"
    max_batch: int = 8
    context_tokens: int = 0
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    memory_fraction: float = 0.9
    kv_cache_mib: int = 0
    prefill_tokens: int = 2048
    model_runner: Literal[1, 2] = 1
    graphs: bool = True

    def context_of(self, sizes: Step1Config) -> int:
        """The longest prompt and reply together that will be served of a model."""
        return self.context_tokens or sizes.max_seq_len

    def check(self, sizes: Step1Config) -> None:
        """Hold the options against a model.

        Raises:
            InvalidOptionError: the model cannot be cut up or quantized that way, or its context is shorter.
        """
        shares, stages = self.tensor_parallel, self.pipeline_parallel
        heads, groups = sizes.num_attention_heads, sizes.num_attention_groups
        if heads % shares or (groups % shares and shares % groups):
            raise InvalidOptionError(
                f"tensor_parallel is {shares}; it must divide the model's {heads} heads, and divide its {groups} "
                "groups or be a multiple of them"
            )
        if stages > sizes.num_hidden_layers:
            raise InvalidOptionError(f"pipeline_parallel is {stages}; the model has {sizes.num_hidden_layers} layers")
        if self.context_tokens > sizes.max_seq_len:
            raise InvalidOptionError(
                f"context_tokens is {self.context_tokens}; the model's max_seq_len is {sizes.max_seq_len}"
            )
        if self.weights == "fp8" and self.dtype != "bfloat16":
            raise InvalidOptionError(f"weights are fp8 with dtype {self.dtype}; use bfloat16")
