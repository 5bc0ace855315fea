"""`cosyvoice.yaml` of a vocoder folder, read as data into typed sizes.

The file is written for HyperPyYAML: `!new:` and `!name:` tags name Python classes to build, `!ref` names another key.
Here a tag is only a mark on a mapping: nothing is imported or called, and the class that a tag names decides nothing
beyond a check that the mapping describes the network this room implements. Keys that change no arithmetic at inference
(dropout rates, training switches, rooms of the file that this room does not use) are ignored.

It decides which key holds which size and what is refused; it does not know what the sizes are for.

Source: the released `cosyvoice.yaml` layout; values that the release leaves to class defaults are defaults here too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from services.shared.errors import CheckpointError, CorruptFileError
from services.shared.files import read_yaml

CONFIG_FILE: Final = "cosyvoice.yaml"
FLOW_FILE: Final = "flow.pt"
HIFT_FILE: Final = "hift.pt"
SPEAKER_FILE: Final = "campplus.onnx"
MEL_CHANNELS: Final = 80
"""The release's conditioning (mu, speaker and prompt mel beside the state) is wired for 80 mel bins."""
SAMPLE_RATE_HZ: Final = 22_050
HOP_SAMPLES: Final = 256
"""Rate and hop of the prompt's mel, which the whole folder is made for."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of the conformer that reads speech tokens."""

    input_size: int
    output_size: int
    attention_heads: int
    linear_units: int
    num_blocks: int


@dataclass(frozen=True, slots=True)
class EstimatorConfig:
    """Sizes of the UNet that estimates the velocity."""

    channels: int
    blocks_per_level: int
    mid_levels: int
    heads: int
    head_size: int


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """Everything flow.pt depends on."""

    vocab_size: int
    speaker_size: int
    token_rate_hz: float
    guidance: float
    time_schedule: str
    regulator_layers: int
    encoder: EncoderConfig
    estimator: EstimatorConfig


@dataclass(frozen=True, slots=True)
class HiftConfig:
    """Everything hift.pt depends on."""

    sample_rate_hz: int
    base_channels: int
    f0_channels: int
    harmonics: int
    sine_amplitude: float
    noise_amplitude: float
    voiced_threshold_hz: float
    upsample_rates: tuple[int, ...]
    upsample_kernels: tuple[int, ...]
    resblock_kernels: tuple[int, ...]
    resblock_dilations: tuple[tuple[int, ...], ...]
    source_kernels: tuple[int, ...]
    source_dilations: tuple[tuple[int, ...], ...]
    fft_size: int
    fft_hop: int
    leaky_slope: float
    audio_limit: float

    @property
    def hop_samples(self) -> int:
        """Audio samples of one mel frame."""
        hop = self.fft_hop
        for rate in self.upsample_rates:
            hop *= rate
        return hop


@dataclass(frozen=True, slots=True)
class VocoderConfig:
    """One vocoder folder."""

    sample_rate_hz: int
    flow: FlowConfig
    hift: HiftConfig


def load_config(folder: str | Path) -> VocoderConfig:
    """Read `cosyvoice.yaml` of a vocoder folder.

    Raises:
        MissingFileError: the file is absent.
        CorruptFileError: it is no YAML mapping, or a key is absent or of a wrong kind.
        CheckpointError: it describes a network that this room does not implement.
    """
    path = Path(folder) / CONFIG_FILE
    document = read_yaml(path, _TaggedLoader)
    if not isinstance(document, Mapping):
        raise CorruptFileError(f"{path} holds no mapping of keys; download it again")
    return parse_config(document, path)


def parse_text(text: str, source: Path) -> VocoderConfig:
    """Read the text of a `cosyvoice.yaml`; `source` names it in messages. Raises as `load_config` does."""
    document = yaml.load(text, Loader=_TaggedLoader)
    return parse_config(document, source)


def parse_config(document: Mapping[str, object], source: Path) -> VocoderConfig:
    """Turn the parsed document into sizes; `source` names it in messages. Raises as `load_config` does."""
    root = _Node(document, document, source, "")
    root.only("sample_rate", (SAMPLE_RATE_HZ,), None)
    hift = root.child("hift")
    config = VocoderConfig(SAMPLE_RATE_HZ, _flow(root.child("flow")), _hift(hift))
    if config.hift.hop_samples != HOP_SAMPLES:
        raise hift.wrong(
            "upsample_rates", f"rates that give a hop of {HOP_SAMPLES} samples", config.hift.upsample_rates
        )
    return config


@dataclass(frozen=True, slots=True)
class _Reference:
    """A `!ref <key>` before it is looked up."""

    key: str


class _TaggedLoader(yaml.SafeLoader):
    """SafeLoader that reads the released file's tags as plain data."""


def _tagged_mapping(loader: _TaggedLoader, _suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return None


def _reference(loader: _TaggedLoader, node: yaml.Node) -> object:
    text = loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else ""
    return _Reference(str(text).strip().removeprefix("<").removesuffix(">"))


for _tag in ("!new:", "!name:", "!apply:", "!module:"):
    _TaggedLoader.add_multi_constructor(_tag, _tagged_mapping)
_TaggedLoader.add_constructor("!ref", _reference)


@dataclass(frozen=True, slots=True)
class _Node:
    """One mapping of the file with the path that leads to it, for messages."""

    values: Mapping[str, object]
    root: Mapping[str, object]
    source: Path
    place: str

    def child(self, key: str) -> "_Node":
        value = self._value(key)
        if not isinstance(value, Mapping):
            raise self.wrong(key, "a mapping", value)
        return _Node(value, self.root, self.source, f"{self.place}{key}.")

    def whole(self, key: str, default: int | None = None) -> int:
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong(key, "a whole number above 0", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._value(key, default)
        # YAML 1.1 reads 1e-06 (no dot) as text, so text that spells a number counts as one.
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self.wrong(key, "a number", value)
        try:
            return float(value)
        except ValueError as error:
            raise self.wrong(key, "a number", value) from error

    def positive(self, key: str, default: float | None = None) -> float:
        value = self.number(key, default)
        if not 0 < value < float("inf"):
            raise self.wrong(key, "a number above 0", value)
        return value

    def wholes(self, key: str, default: Sequence[object] | None = None) -> tuple[int, ...]:
        value = self._value(key, default)
        if not isinstance(value, list | tuple) or not value or not all(_is_whole(item) for item in value):
            raise self.wrong(key, "a list of whole numbers", value)
        return tuple(value)

    def whole_lists(self, key: str, default: Sequence[object] | None = None) -> tuple[tuple[int, ...], ...]:
        value = self._value(key, default)
        if not isinstance(value, list | tuple) or not value:
            raise self.wrong(key, "a list of lists of whole numbers", value)
        for row in value:
            if not isinstance(row, list | tuple) or not row or not all(_is_whole(item) for item in row):
                raise self.wrong(key, "a list of lists of whole numbers", value)
        return tuple(tuple(row) for row in value)

    def only(self, key: str, allowed: Sequence[object], default: object) -> object:
        """A setting that changes the network. Raises CheckpointError for anything but the implemented values."""
        value = self._value(key, default)
        if value not in allowed:
            raise CheckpointError(
                f"{self.source}: {self.place}{key} is {value!r}, but only {' or '.join(map(repr, allowed))} "
                "is implemented; use a Step-Audio vocoder folder"
            )
        return value

    def wrong(self, key: str, wanted: str, found: object) -> CorruptFileError:
        return CorruptFileError(
            f"{self.source}: {self.place}{key} is {found!r}, not {wanted}; download the file again or correct the key"
        )

    def _value(self, key: str, default: object = None) -> object:
        value = self.values.get(key, default)
        if isinstance(value, _Reference):
            value = self.root.get(value.key)
        if value is None:
            raise CorruptFileError(
                f"{self.source}: the key {self.place}{key} is missing; download the file again or add the key"
            )
        return value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _flow(node: _Node) -> FlowConfig:
    encoder, decoder = node.child("encoder"), node.child("decoder")
    node.only("output_size", (MEL_CHANNELS,), MEL_CHANNELS)
    params = decoder.child("cfm_params")
    if "content" in params.values:
        params = params.child("content")
    params.only("solver", ("euler",), "euler")
    schedule = params.only("t_scheduler", ("cosine", "linear"), "cosine")
    regulator = node.child("length_regulator")
    regulator.only("channels", (MEL_CHANNELS,), MEL_CHANNELS)
    input_size = node.whole("input_size", 512)
    return FlowConfig(
        vocab_size=node.whole("vocab_size"),
        speaker_size=node.whole("spk_embed_dim", 192),
        token_rate_hz=node.positive("input_frame_rate"),
        guidance=params.number("inference_cfg_rate", 0.7),
        time_schedule=str(schedule),
        regulator_layers=len(regulator.wholes("sampling_ratios", (1, 1, 1, 1))),
        encoder=_encoder(encoder, input_size),
        estimator=_estimator(decoder.child("estimator")),
    )


def _encoder(node: _Node, input_size: int) -> EncoderConfig:
    node.only("input_layer", ("linear",), "linear")
    node.only("pos_enc_layer_type", ("rel_pos_espnet",), "rel_pos_espnet")
    node.only("selfattention_layer_type", ("rel_selfattn",), "rel_selfattn")
    node.only("normalize_before", (True,), True)
    node.only("use_cnn_module", (False,), False)
    node.only("macaron_style", (False,), False)
    node.only("input_size", (input_size,), input_size)
    config = EncoderConfig(
        input_size=input_size,
        output_size=node.whole("output_size", 512),
        attention_heads=node.whole("attention_heads", 8),
        linear_units=node.whole("linear_units", 2048),
        num_blocks=node.whole("num_blocks", 6),
    )
    if config.output_size % config.attention_heads or config.output_size % 2:
        raise node.wrong("attention_heads", f"a divisor of the even output_size {config.output_size}", config)
    return config


def _estimator(node: _Node) -> EstimatorConfig:
    node.only("in_channels", (4 * MEL_CHANNELS,), 4 * MEL_CHANNELS)
    node.only("out_channels", (MEL_CHANNELS,), MEL_CHANNELS)
    node.only("act_fn", ("gelu",), "gelu")
    channels = node.wholes("channels", (256, 256))
    if len(channels) != 2 or channels[0] != channels[1] or channels[0] % 8:
        raise node.wrong("channels", "two equal multiples of 8", list(channels))
    return EstimatorConfig(
        channels=channels[0],
        blocks_per_level=node.whole("n_blocks", 4),
        mid_levels=node.whole("num_mid_blocks", 12),
        heads=node.whole("num_heads", 8),
        head_size=node.whole("attention_head_dim", 64),
    )


def _hift(node: _Node) -> HiftConfig:
    istft = node.child("istft_params")
    node.only("in_channels", (MEL_CHANNELS,), MEL_CHANNELS)
    node.only("sampling_rate", (SAMPLE_RATE_HZ,), None)
    config = HiftConfig(
        sample_rate_hz=SAMPLE_RATE_HZ,
        base_channels=node.whole("base_channels", 512),
        f0_channels=node.child("f0_predictor").whole("cond_channels", 512),
        harmonics=node.whole("nb_harmonics", 8) + 1,
        sine_amplitude=node.positive("nsf_alpha", 0.1),
        noise_amplitude=node.number("nsf_sigma", 0.003),
        voiced_threshold_hz=node.number("nsf_voiced_threshold", 10),
        upsample_rates=node.wholes("upsample_rates", (8, 8)),
        upsample_kernels=node.wholes("upsample_kernel_sizes", (16, 16)),
        resblock_kernels=node.wholes("resblock_kernel_sizes", (3, 7, 11)),
        resblock_dilations=node.whole_lists("resblock_dilation_sizes", ((1, 3, 5),) * 3),
        source_kernels=node.wholes("source_resblock_kernel_sizes", (7, 11)),
        source_dilations=node.whole_lists("source_resblock_dilation_sizes", ((1, 3, 5),) * 2),
        fft_size=istft.whole("n_fft", 16),
        fft_hop=istft.whole("hop_len", 4),
        leaky_slope=node.number("lrelu_slope", 0.1),
        audio_limit=node.positive("audio_limit", 0.99),
    )
    _check_lists(node, config)
    return config


def _check_lists(node: _Node, config: HiftConfig) -> None:
    stages = len(config.upsample_rates)
    for key, length in (
        ("upsample_kernel_sizes", len(config.upsample_kernels)),
        ("source_resblock_kernel_sizes", len(config.source_kernels)),
        ("source_resblock_dilation_sizes", len(config.source_dilations)),
    ):
        if length != stages:
            raise node.wrong(key, f"a list of {stages} entries like upsample_rates", length)
    if len(config.resblock_dilations) != len(config.resblock_kernels):
        raise node.wrong("resblock_dilation_sizes", "as long as resblock_kernel_sizes", config.resblock_dilations)
    if config.fft_size % config.fft_hop:
        raise node.wrong("istft_params", "an n_fft that is a multiple of hop_len", config.fft_size)
    if config.base_channels % 2**stages:
        raise node.wrong("base_channels", f"a multiple of {2**stages}", config.base_channels)
