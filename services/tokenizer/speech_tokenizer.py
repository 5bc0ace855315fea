"""The joint tokenizer: both codebooks of one signal, as the 2:3 stream of codec values.

Offline, `tokenize` takes audio as it comes: it mixes to one channel, resamples to 16 kHz, normalises the peak and trims
if asked. Streaming, `push` takes the 16 kHz signal as it is (the peak of an utterance is unknown before its end), and
gives the tokens that became final; `peek` tells what all tokens would be if the utterance ended now. The two meet:
pushing a prepared signal in any pieces gives the tokens of the offline run.

    linguistic codes   a b c d e f                 final as 240 ms are complete
    semantic codes     u v w x y z                 final as the mode says: `whole` or `segmented`
    interleaved        a b u v w   c d x y z       a group is out once its five codes are final

Decides what is final. Differences from the release, all deliberate: rates below 16 kHz are accepted, dither is off, the
code count of the semantic network is an error of the checkpoint and no assertion.
Source: tokenizer.py and utils.py of the release.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from services.shared.audio.pcm import Samples, as_mono
from services.shared.audio.speech_input import HEARD_RATE_HZ, prepare
from services.shared.codec.codebooks import GROUP_LINGUISTIC, GROUP_SEMANTIC
from services.shared.codec.interleave import interleave
from services.shared.errors import InvalidOptionError
from services.shared.graphs.opening import GraphSettings
from services.tokenizer.onnx_networks import with_graph
from services.tokenizer.paraformer.linguistic import LinguisticEncoder, LinguisticState, load_linguistic_encoder
from services.tokenizer.semantic.encoder import SemanticEncoder, load_semantic_encoder
from services.tokenizer.semantic.streaming import (
    SegmentedStream,
    SegmentPlan,
    SemanticState,
    SemanticStream,
    WholeStream,
)

SAMPLE_RATE_HZ: Final = HEARD_RATE_HZ

Codes = NDArray[np.int64]
Mode = Literal["whole", "segmented"]


@dataclass(frozen=True, slots=True)
class SpeechTokens:
    """The tokens of one utterance.

    Attributes:
        linguistic: [L] codes 0..1023 at 16.67 Hz.
        semantic: [S] codes 0..4095 at 25 Hz.
        interleaved: [5 * min(L // 2, S // 3)] codec values 0..5119.
    """

    linguistic: Codes
    semantic: Codes
    interleaved: Codes


@dataclass(frozen=True, slots=True)
class TokenizerState:
    """Where an utterance stands.

    Attributes:
        mode: how semantic codes become final.
        linguistic: state of the linguistic encoder.
        semantic: state of the semantic stream.
        linguistic_codes: [l] final codes so far.
        semantic_codes: [s] final codes so far.
        groups: whole 2:3 groups handed out so far.
    """

    mode: Mode
    linguistic: LinguisticState
    semantic: SemanticState
    linguistic_codes: Codes
    semantic_codes: Codes
    groups: int


class SpeechTokenizer:
    """Both encoders of one checkpoint; every state lives with the caller.

    Args:
        linguistic: the linguistic encoder.
        semantic: the semantic encoder.
        plan: durations of the `segmented` mode.
    """

    def __init__(
        self, linguistic: LinguisticEncoder, semantic: SemanticEncoder, *, plan: SegmentPlan | None = None
    ) -> None:
        self.linguistic = linguistic
        self.semantic = semantic
        self._streams: dict[str, SemanticStream] = {
            "whole": WholeStream(semantic),
            "segmented": SegmentedStream(semantic, plan or SegmentPlan()),
        }

    def tokenize(self, samples: ArrayLike, sample_rate_hz: int, *, trim: bool = False) -> SpeechTokens:
        """Tokenize a whole recording.

        Args:
            samples: [N] or [C, N], see `as_mono`.
            sample_rate_hz: any positive rate.
            trim: cut silence at both ends (the release does for voice prompts, not for chat).

        Returns:
            the tokens; empty arrays for audio too short to hold one.

        Raises:
            EmptyAudioError, NonFiniteAudioError, AudioError: as `as_mono`.
            InvalidOptionError: the rate is not positive.
        """
        prepared = prepare(samples, sample_rate_hz, trim=trim)
        rows, _ = self.linguistic.encode(prepared, self.linguistic.initial_state(), final=True)
        linguistic = _as_codes(self.linguistic.quantize(rows))
        semantic = self.semantic.encode(prepared)
        return SpeechTokens(linguistic, semantic, interleave(linguistic, semantic))

    def initial_state(self, *, mode: Mode = "whole") -> TokenizerState:
        """The state before the first sample of an utterance.

        Raises:
            InvalidOptionError: no such mode.
        """
        if mode not in self._streams:
            raise InvalidOptionError(f"the tokenizer's mode is one of {', '.join(self._streams)}, not {mode!r}")
        none = np.zeros(0, np.int64)
        return TokenizerState(
            mode, self.linguistic.initial_state(), self._streams[mode].initial_state(), none, none, groups=0
        )

    def push(self, samples_16k: ArrayLike, state: TokenizerState, *, final: bool) -> tuple[Codes, TokenizerState]:
        """Take more samples and return the tokens that became final.

        Args:
            samples_16k: [N] float32 at 16 kHz, N >= 0.
            state: from `initial_state` or the push before; it is not changed.
            final: the utterance ends with these samples.

        Returns:
            (whole groups of codec values [5 * g], the state after them; after `final` the initial state).

        Raises:
            NonFiniteAudioError, AudioError: as `as_mono`.
        """
        advanced = self._advance(samples_16k, state, final=final)
        new = interleave(
            advanced.linguistic_codes[GROUP_LINGUISTIC * state.groups :],
            advanced.semantic_codes[GROUP_SEMANTIC * state.groups :],
        )
        return new, self.initial_state(mode=state.mode) if final else advanced

    def peek(self, state: TokenizerState) -> Codes:
        """All tokens of the utterance if it ended now, [5 * g] codec values; the state stays usable.

        In `whole` mode this runs the semantic network on what it has not finished: at most 30 s.
        """
        ended = self._advance(np.zeros(0, np.float32), state, final=True)
        return interleave(ended.linguistic_codes, ended.semantic_codes)

    def _advance(self, samples_16k: ArrayLike, state: TokenizerState, *, final: bool) -> TokenizerState:
        """Both encoders over the new samples; the state holds all final codes, also after the end."""
        array = np.asarray(samples_16k)
        samples: Samples = as_mono(array) if array.size else np.zeros(0, np.float32)
        rows, linguistic = self.linguistic.encode(samples, state.linguistic, final=final)
        codes, semantic = self._streams[state.mode].push(samples, state.semantic, final=final)
        linguistic_codes = np.concatenate([state.linguistic_codes, _as_codes(self.linguistic.quantize(rows))])
        semantic_codes = np.concatenate([state.semantic_codes, codes])
        groups = min(len(linguistic_codes) // GROUP_LINGUISTIC, len(semantic_codes) // GROUP_SEMANTIC)
        return TokenizerState(state.mode, linguistic, semantic, linguistic_codes, semantic_codes, groups)


def load_speech_tokenizer(
    folder: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    plan: SegmentPlan | None = None,
    dither: float | None = None,
    released_quirks: bool = False,
    onnx_threads: int = 1,
    graphs: GraphSettings | None = None,
) -> SpeechTokenizer:
    """Load a Step-Audio-Tokenizer folder.

    Args:
        folder: the public layout, see `services.shared.paths`.
        device: where the linguistic encoder runs; the semantic one runs on the CPU.
        dtype: type of the linguistic encoder's weights.
        plan: durations of the `segmented` mode.
        dither: noise on the linguistic features, see `OnlineFrontEnd`; what the folder asks for, or none, if left out.
        released_quirks: see `OnlineFrontEnd`.
        onnx_threads: threads of the semantic network.
        graphs: run the linguistic encoder as an exported graph, which is float32; by torch if left out.

    Raises:
        CheckpointError: a file is missing, damaged, or does not fit the others, or the graph was not exported.
        InvalidOptionError: a graph in another dtype, or on a device that is not there.
    """
    linguistic = load_linguistic_encoder(
        folder, device=device, dtype=dtype, dither=dither, released_quirks=released_quirks
    )
    if graphs:
        if dtype != torch.float32:
            raise InvalidOptionError(f"exported graphs run in float32, not {dtype}; choose one of both")
        linguistic = with_graph(linguistic, folder, graphs)
    return SpeechTokenizer(linguistic, load_semantic_encoder(folder, threads=onnx_threads), plan=plan)


def _as_codes(codes: torch.Tensor) -> Codes:
    array: Codes = codes.cpu().numpy()
    return array
