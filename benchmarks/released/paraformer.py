"""The linguistic encoder in the released order of work: one chunk of 240 ms after the other, each through all layers.

Only the order and the operators are the release's (growing key/value lists cut to 16 rows, a grouped convolution,
explicit softmax); weights and front end are those of the `LinguisticEncoder` it is given. The comparison baseline of
the benchmarks, and the plain path that the fast path is tested against.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from services.tokenizer import LinguisticEncoder
from services.tokenizer.paraformer.frontend import CHUNK_SAMPLES
from services.tokenizer.paraformer.sanm import MEMORY_ROWS, OVERLAP_ROWS, SanmAttention, SanmLayer

_Cache = dict[str, Tensor]


@torch.inference_mode()
def encode_as_released(linguistic: LinguisticEncoder, samples_16k: Tensor) -> Tensor:
    """Encode a whole utterance chunk by chunk.

    Args:
        linguistic: its weights and front end are used.
        samples_16k: [N] float32.

    Returns:
        rows [T, D].
    """
    network = linguistic.encoder
    layers = [*network.encoders0, *network.encoders]
    caches: list[_Cache] = [{} for _ in layers]
    front_state = linguistic.front_end.initial_state()
    overlap = samples_16k.new_zeros(OVERLAP_ROWS, layers[0].norm1.weight.shape[0])
    rows: list[Tensor] = [samples_16k.new_zeros(0, network.config.output_size)]
    done = 0
    pieces = samples_16k.split(CHUNK_SAMPLES)
    for index, piece in enumerate(pieces):
        features, front_state = linguistic.front_end.push(piece, front_state, final=index == len(pieces) - 1)
        if not len(features):
            continue
        placed = features * network.config.output_size**0.5 + _sinusoids(len(features), done, features.shape[1])
        window = torch.cat([overlap, placed])
        overlap = window[-OVERLAP_ROWS:]
        done += len(features)
        x = window.unsqueeze(0)
        for layer, cache in zip(layers, caches, strict=True):
            x = _layer(layer, x, cache)
        rows.append(network.after_norm(x)[0, OVERLAP_ROWS:])
    return torch.cat(rows)


def _sinusoids(count: int, done: int, dim: int) -> Tensor:
    position = torch.arange(done + 1, done + count + 1, dtype=torch.float32)
    step = torch.tensor(10_000.0).log() / (dim // 2 - 1)
    angle = position[:, None] * torch.exp(torch.arange(dim // 2) * -step)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _layer(layer: SanmLayer, x: Tensor, cache: _Cache) -> Tensor:
    attended = _attention(layer.self_attn, layer.norm1(x), cache)
    x = x + attended if x.shape[-1] == attended.shape[-1] else attended
    feed_forward = layer.feed_forward
    return x + feed_forward.w_2(F.relu(feed_forward.w_1(layer.norm2(x))))  # type: ignore[no-any-return]  # nn.Module


def _attention(attention: SanmAttention, x: Tensor, cache: _Cache) -> Tensor:
    query, key, value = attention.linear_q_k_v(x).chunk(3, dim=-1)  # each [1, R, D]
    channels = value.shape[-1]
    kernel = attention.fsmn_block.weight
    memory = F.conv1d(value.transpose(1, 2), kernel, padding=kernel.shape[-1] // 2, groups=channels).transpose(1, 2)
    memory = memory + value
    keys, values = key, value
    if cache:
        keys, values = torch.cat([cache["key"], key], dim=1), torch.cat([cache["value"], value], dim=1)
    cache["key"] = keys[:, :-OVERLAP_ROWS][:, -MEMORY_ROWS:]
    cache["value"] = values[:, :-OVERLAP_ROWS][:, -MEMORY_ROWS:]
    q, k, v = (
        y.view(1, -1, attention.heads, channels // attention.heads).transpose(1, 2) for y in (query, keys, values)
    )
    weights = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(2, 3), dim=-1)
    return attention.linear_out((weights @ v).transpose(1, 2).flatten(2)) + memory  # type: ignore[no-any-return]  # nn.Module
