"""The vocoder in the released order of work, as the yardstick of the fast one.

Written from the specification, as plainly as it reads there: the estimator sees the joined [x, mu, speaker, prompt mel]
at each of its 2 x 10 rows, every step runs the time network again, masks of ones are multiplied in, queries, keys and
values are three products, activations are torch's own modules' kernels, weight norm is computed at every call, and
signals keep the [B, C, T] layout with a transpose around each transformer. Attention in the estimator goes through
torch's fused kernel, as it does in the release (diffusers' default processor); the encoder's has an explicit softmax.

It takes the state dicts of a vocoder folder and knows nothing of the fast modules, so that a test can hold one against
the other. `full_size_vocoder` builds random weights of the public sizes, and
`FullSize.run_fast` and `.run_plain` run the two on them, for timing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from services.vocoder.config import FlowConfig, HiftConfig, VocoderConfig, parse_text
from services.vocoder.flow import Flow, finish_flow
from services.vocoder.flow.model import euler_grid
from services.vocoder.hift import HiFT, finish_hift
from services.vocoder.voice import VoiceFeatures

State = Mapping[str, Tensor]

FULL_SIZE_YAML = """
sample_rate: 22050
flow: !new:flow
    input_size: 512
    output_size: 80
    spk_embed_dim: 192
    vocab_size: 5120
    input_frame_rate: 41.6667
    encoder: !new:encoder
        {output_size: 512, attention_heads: 8, linear_units: 2048, num_blocks: 6}
    length_regulator: !new:regulator
        {channels: 80, sampling_ratios: [1, 1, 1, 1]}
    decoder: !new:cfm
        cfm_params: !new:params
            {solver: euler, t_scheduler: cosine, inference_cfg_rate: 0.7}
        estimator: !new:estimator
            {channels: [256, 256], n_blocks: 4, num_mid_blocks: 12, num_heads: 8, attention_head_dim: 64}
hift: !new:hift
    sampling_rate: !ref <sample_rate>
    base_channels: 512
    istft_params: {n_fft: 16, hop_len: 4}
    f0_predictor: !new:f0
        {cond_channels: 512}
"""
"""The sizes of the public CosyVoice-300M-25Hz folder; what is absent are the release's class defaults."""


@dataclass(frozen=True, slots=True, eq=False)
class FullSize:
    """The two implementations on the same random weights, and an utterance with its noises for them."""

    flow: Flow
    hift: HiFT
    plain: "PlainVocoder"
    tokens: Tensor
    voice: VoiceFeatures
    noise: Tensor
    phase: Tensor
    source_noise: Tensor

    def run_fast(self) -> Tensor:
        """Tokens to wave, [1, N], by the modules of the vocoder room."""
        mel = self.flow.mel(self.tokens, self.voice, noise=self.noise)
        return self.hift.wave(mel, phase=self.phase, noise=self.source_noise)

    def run_plain(self) -> Tensor:
        """Tokens to wave, [1, N], in the released order of work."""
        mel = self.plain.mel(self.tokens, self.voice, self.noise)
        return self.plain.wave(mel, self.phase, self.source_noise)


def full_size_config() -> VocoderConfig:
    """The public sizes."""
    return parse_text(FULL_SIZE_YAML, Path("full-size"))


def full_size_vocoder(
    *, audio_s: float = 10.0, prompt_s: float = 3.0, dtype: torch.dtype = torch.float32, seed: int = 0
) -> FullSize:
    """Random full-size weights, an utterance and its prompt.

    Args:
        audio_s: length of the utterance.
        prompt_s: of the prompt.
        dtype: of the fast flow; the plain one stays float32.
        seed: of the weights.
    """
    config = full_size_config()
    generator = torch.Generator().manual_seed(seed)
    flow, hift = Flow(config.flow), HiFT(config.hift)
    for module in (flow, hift):
        module.requires_grad_(False)
        for name, value in module.named_parameters():
            if value.dim() > 1 and not name.endswith("weight_g"):
                value.normal_(0, value[0].numel() ** -0.5, generator=generator)
    plain = PlainVocoder(config, _copy(flow), _copy(hift))
    rate, mel_rate = config.flow.token_rate_hz, config.sample_rate_hz / config.hift.hop_samples
    prompt_tokens, prompt_frames = round(prompt_s * rate), round(prompt_s * mel_rate)
    ids = torch.randint(0, config.flow.vocab_size, (prompt_tokens + round(audio_s * rate),), generator=generator)
    voice = VoiceFeatures(
        ids[:prompt_tokens],
        torch.randn(1, prompt_frames, 80, generator=generator) - 5,
        torch.randn(1, config.flow.speaker_size, generator=generator),
    )
    tokens = ids[prompt_tokens:]
    frames = flow.frame_count(len(tokens))
    return FullSize(
        flow=finish_flow(flow, dtype=dtype),
        hift=finish_hift(hift),
        plain=plain,
        tokens=tokens,
        voice=voice,
        noise=torch.randn(1, 80, prompt_frames + frames, generator=generator),
        phase=torch.zeros(1, config.hift.harmonics, 1),
        source_noise=torch.randn(1, config.hift.harmonics, frames * config.hift.hop_samples, generator=generator),
    )


class PlainVocoder:
    """Tokens to mel and mel to wave in the released order of work."""

    def __init__(self, config: VocoderConfig, flow_state: State, hift_state: State) -> None:
        self._config = config
        self._flow = {name: value.float() for name, value in flow_state.items()}
        self._hift = {name: value.float() for name, value in hift_state.items()}

    @torch.inference_mode()
    def mel(self, tokens: Tensor, voice: VoiceFeatures, noise: Tensor) -> Tensor:
        """[N], voice, [1, 80, M1 + M] -> [1, 80, M]."""
        s, flow = self._flow, self._config.flow
        prompt_tokens, prompt_mel, embedding = voice.as_tensors(
            noise.device, speaker_size=flow.speaker_size, mel_channels=80
        )
        speaker = _linear(s, "spk_embed_affine_layer", F.normalize(embedding, dim=1))
        ids = torch.cat([prompt_tokens, tokens.reshape(-1)]).clamp(min=0)
        rows = _linear(s, "encoder_proj", _encode(s, flow, F.embedding(ids, s["input_embedding.weight"])[None]))
        head, border = prompt_mel.shape[1], len(prompt_tokens)
        parts = [
            F.interpolate(part.transpose(1, 2), size=size, mode="linear")
            for part, size in ((rows[:, :border], head), (rows[:, border:], noise.shape[2] - head))
            if size
        ]
        mu = _regulate(s, torch.cat(parts, dim=2), flow.regulator_layers)
        condition = torch.zeros_like(mu)
        condition[:, :, :head] = prompt_mel.transpose(1, 2)
        return _solve(s, flow, noise, (mu, speaker, condition))[:, :, head:]

    @torch.inference_mode()
    def wave(self, mel: Tensor, phase: Tensor, noise: Tensor) -> Tensor:
        """[1, 80, M], [1, H, 1], [1, H, N] -> [1, N]."""
        s, hift = self._hift, self._config.hift
        source = _source(s, hift, _f0(s, mel), phase, noise)
        return _decode(s, hift, mel, source)


def _copy(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _linear(s: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, s[f"{name}.weight"], s.get(f"{name}.bias"))


def _norm(s: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"], 1e-5)


def _conv(s: State, name: str, x: Tensor, **options: int) -> Tensor:
    return F.conv1d(x, s[f"{name}.weight"], s[f"{name}.bias"], **options)


# --- flow -------------------------------------------------------------------------------------------------------------


def _encode(s: State, flow: FlowConfig, embedded: Tensor) -> Tensor:
    size, heads = flow.encoder.output_size, flow.encoder.attention_heads
    x = _norm(s, "encoder.embed.out.1", _linear(s, "encoder.embed.out.0", embedded)) * math.sqrt(size)
    length = x.shape[1]
    distance = torch.arange(length - 1, -length, -1.0)[:, None]
    angle = distance * torch.exp(torch.arange(0, size, 2.0) * -(math.log(10000.0) / size))
    table = torch.zeros(1, 2 * length - 1, size)
    table[0, :, 0::2], table[0, :, 1::2] = torch.sin(angle), torch.cos(angle)
    for block in range(flow.encoder.num_blocks):
        name = f"encoder.encoders.{block}"
        x = x + _relative_attention(s, f"{name}.self_attn", _norm(s, f"{name}.norm_mha", x), table, heads)
        hidden = F.silu(_linear(s, f"{name}.feed_forward.w_1", _norm(s, f"{name}.norm_ff", x)))
        x = x + _linear(s, f"{name}.feed_forward.w_2", hidden)
    return _norm(s, "encoder.after_norm", x)


def _relative_attention(s: State, name: str, x: Tensor, table: Tensor, heads: int) -> Tensor:
    q, k, v, p = (
        _linear(s, f"{name}.linear_{part}", rows).unflatten(2, (heads, -1)).transpose(1, 2)
        for part, rows in (("q", x), ("k", x), ("v", x), ("pos", table))
    )
    by_content = (q + s[f"{name}.pos_bias_u"][:, None]) @ k.transpose(2, 3)
    by_distance = (q + s[f"{name}.pos_bias_v"][:, None]) @ p.transpose(2, 3)
    length = x.shape[1]
    index = torch.arange(length)
    shifted = by_distance.gather(3, (length - 1 - index[:, None] + index).expand(1, heads, -1, -1))
    weights = torch.softmax((by_content + shifted) / math.sqrt(q.shape[-1]), dim=-1)
    return _linear(s, f"{name}.linear_out", (weights @ v).transpose(1, 2).flatten(2))


def _regulate(s: State, x: Tensor, layers: int) -> Tensor:
    for layer in range(layers):
        x = _conv(s, f"length_regulator.model.{3 * layer}", x, padding=1)
        name = f"length_regulator.model.{3 * layer + 1}"
        x = F.mish(F.group_norm(x, 1, s[f"{name}.weight"], s[f"{name}.bias"]))
    return _conv(s, f"length_regulator.model.{3 * layers}", x)


def _solve(s: State, flow: FlowConfig, state: Tensor, given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    mask = torch.ones(2, 1, state.shape[2])
    mu, speaker, condition = (torch.cat([part, torch.zeros_like(part)]) for part in given)
    times, lengths = euler_grid(flow.time_schedule)
    for time, length in zip(times, lengths, strict=True):
        both = _estimate(s, flow, torch.cat([state, state]), mask, (mu, speaker, condition), time=time.expand(2))
        state = state + length * ((1 + flow.guidance) * both[:1] - flow.guidance * both[1:])
    return state


def _estimate(
    s: State, flow: FlowConfig, x: Tensor, mask: Tensor, given: tuple[Tensor, Tensor, Tensor], *, time: Tensor
) -> Tensor:
    root = "decoder.estimator"
    mu, speaker, condition = given
    rate = torch.exp(torch.arange(160.0) * -(math.log(10000.0) / 159))
    angle = 1000 * time[:, None] * rate
    clock = _linear(s, f"{root}.time_mlp.linear_1", torch.cat([angle.sin(), angle.cos()], dim=1))
    clock = _linear(s, f"{root}.time_mlp.linear_2", F.silu(clock))
    x = torch.cat([x, mu, speaker[:, :, None].expand(-1, -1, x.shape[2]), condition], dim=1)
    small = mask[:, :, ::2]
    x = first = _level(s, flow, f"{root}.down_blocks.0", (x, mask, clock))
    x = _conv(s, f"{root}.down_blocks.0.2.conv", x * mask, stride=2, padding=1)
    x = second = _level(s, flow, f"{root}.down_blocks.1", (x, small, clock))
    x = _conv(s, f"{root}.down_blocks.1.2", x * small, padding=1)
    for index in range(flow.estimator.mid_levels):
        x = _level(s, flow, f"{root}.mid_blocks.{index}", (x, small, clock))
    x = _level(s, flow, f"{root}.up_blocks.0", (torch.cat([x, second], dim=1), small, clock))
    up = f"{root}.up_blocks.0.2.conv"
    x = F.conv_transpose1d(x * small, s[f"{up}.weight"], s[f"{up}.bias"], stride=2, padding=1)
    x = _level(s, flow, f"{root}.up_blocks.1", (torch.cat([x[:, :, : first.shape[2]], first], dim=1), mask, clock))
    x = _conv(s, f"{root}.up_blocks.1.2", x * mask, padding=1)
    return _conv(s, f"{root}.final_proj", _conv_block(s, f"{root}.final_block", x, mask) * mask) * mask


def _level(s: State, flow: FlowConfig, name: str, given: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    x, mask, clock = given
    hidden = _conv_block(s, f"{name}.0.block1", x, mask) + _linear(s, f"{name}.0.mlp.1", F.mish(clock))[:, :, None]
    hidden = _conv_block(s, f"{name}.0.block2", hidden, mask)
    rows = (hidden + _conv(s, f"{name}.0.res_conv", x * mask)).transpose(1, 2).contiguous()
    for index in range(flow.estimator.blocks_per_level):
        rows = _transformer(s, f"{name}.1.{index}", rows, flow.estimator.heads)
    return rows.transpose(1, 2).contiguous()


def _conv_block(s: State, name: str, x: Tensor, mask: Tensor) -> Tensor:
    hidden = _conv(s, f"{name}.block.0", x * mask, padding=1)
    hidden = F.group_norm(hidden, 8, s[f"{name}.block.1.weight"], s[f"{name}.block.1.bias"])
    return F.mish(hidden) * mask


def _transformer(s: State, name: str, rows: Tensor, heads: int) -> Tensor:
    normed = _norm(s, f"{name}.norm1", rows)
    q, k, v = (
        _linear(s, f"{name}.attn1.to_{part}", normed).unflatten(2, (heads, -1)).transpose(1, 2) for part in "qkv"
    )
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    rows = _linear(s, f"{name}.attn1.to_out.0", mixed) + rows
    hidden = F.gelu(_linear(s, f"{name}.ff.net.0.proj", _norm(s, f"{name}.norm3", rows)))
    return _linear(s, f"{name}.ff.net.2", hidden) + rows


# --- HiFT -------------------------------------------------------------------------------------------------------------


def _weight(s: State, name: str) -> Tensor:
    direction = s[f"{name}.weight_v"]
    length: Tensor = direction.norm(dim=(1, 2), keepdim=True)
    return direction * (s[f"{name}.weight_g"] / length)


def _normed(s: State, name: str, x: Tensor, dilation: int = 1) -> Tensor:
    weight = _weight(s, name)
    return F.conv1d(x, weight, s[f"{name}.bias"], padding=dilation * (weight.shape[2] - 1) // 2, dilation=dilation)


def _f0(s: State, mel: Tensor) -> Tensor:
    for index in range(5):
        mel = F.elu(_normed(s, f"f0_predictor.condnet.{2 * index}", mel))
    return _linear(s, "f0_predictor.classifier", mel.transpose(1, 2)).squeeze(2).abs()


def _source(s: State, hift: HiftConfig, f0: Tensor, phase: Tensor, noise: Tensor) -> Tensor:
    pitch = f0[:, None].repeat_interleave(hift.hop_samples, dim=2)  # [1, 1, N]
    harmonics = pitch * torch.arange(1.0, hift.harmonics + 1)[:, None] / hift.sample_rate_hz
    start = phase.clone()
    start[:, 0] = 0
    sines = hift.sine_amplitude * torch.sin(2 * math.pi * (harmonics.cumsum(2) % 1) + start)
    voiced = (pitch > hift.voiced_threshold_hz).float()
    loudness = voiced * hift.noise_amplitude + (1 - voiced) * hift.sine_amplitude / 3
    waves = sines * voiced + loudness * noise
    return torch.tanh(_linear(s, "m_source.l_linear", waves.transpose(1, 2))).transpose(1, 2)


def _resblock(s: State, name: str, x: Tensor, dilations: tuple[int, ...]) -> Tensor:
    for index, dilation in enumerate(dilations):
        hidden = _snake(x, s[f"{name}.activations1.{index}.alpha"])
        hidden = _normed(s, f"{name}.convs1.{index}", hidden, dilation)
        hidden = _normed(s, f"{name}.convs2.{index}", _snake(hidden, s[f"{name}.activations2.{index}.alpha"]))
        x = hidden + x
    return x


def _snake(x: Tensor, alpha: Tensor) -> Tensor:
    return x + (1.0 / (alpha[:, None] + 1e-9)) * torch.pow(torch.sin(x * alpha[:, None]), 2)


def _decode(s: State, hift: HiftConfig, mel: Tensor, source: Tensor) -> Tensor:
    window = torch.hann_window(hift.fft_size)
    spectrum = torch.stft(source[:, 0], hift.fft_size, hift.fft_hop, window=window, return_complex=True)
    spectrum = torch.cat([spectrum.real, spectrum.imag], dim=1)
    x = _normed(s, "conv_pre", mel)
    stages, blocks = len(hift.upsample_rates), len(hift.resblock_kernels)
    for stage in range(stages):
        rate, kernel = hift.upsample_rates[stage], hift.upsample_kernels[stage]
        up, padding = f"ups.{stage}", (kernel - rate) // 2
        x = F.leaky_relu(x, hift.leaky_slope)
        x = F.conv_transpose1d(x, _weight(s, up), s[f"{up}.bias"], stride=rate, padding=padding)
        if stage == stages - 1:
            x = F.pad(x, (1, 0), mode="reflect")
        cover = math.prod(hift.upsample_rates[stage + 1 :])
        branch = _conv(s, f"source_downs.{stage}", spectrum, stride=cover, padding=cover // 2)
        x = x + _resblock(s, f"source_resblocks.{stage}", branch, hift.source_dilations[stage])
        outputs = [
            _resblock(s, f"resblocks.{stage * blocks + block}", x, hift.resblock_dilations[block])
            for block in range(blocks)
        ]
        x = torch.stack(outputs).sum(dim=0) / blocks
    x = _normed(s, "conv_post", F.leaky_relu(x))
    bins = hift.fft_size // 2 + 1
    magnitude, phase = x[:, :bins].exp().clamp(max=1e2), x[:, bins:].sin()
    wave = torch.istft(torch.polar(magnitude, phase), hift.fft_size, hift.fft_hop, window=window)
    limited: Tensor = wave.clamp(-hift.audio_limit, hift.audio_limit)
    return limited
