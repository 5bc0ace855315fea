"""HiFT: log-mel -> wave at the vocoder's rate, through F0, a harmonic source and the trunk.

Everything random is an argument, so that equal arguments give equal waves; what is not given is drawn from torch's
generator, as the release draws it.

Source: HiFTGenerator in cosyvoice/hifigan/generator.py of the release.
"""

import math

import torch
from torch import Tensor

from services.shared.errors import InvalidInputError
from services.vocoder.config import MEL_CHANNELS, HiftConfig
from services.vocoder.hift.source import Excitation, F0Predictor, HarmonicSource
from services.vocoder.hift.trunk import Trunk
from services.vocoder.voice import ArrayLike


class HiFT(Trunk):
    """Mel to wave. Build it with `load_hift`."""

    def __init__(self, config: HiftConfig) -> None:
        super().__init__(config)
        self.config = config
        self.m_source = HarmonicSource(config)
        self.f0_predictor = F0Predictor(config.f0_channels)

    @torch.inference_mode()
    def wave(
        self,
        mel: ArrayLike,
        *,
        phase: ArrayLike | None = None,
        noise: ArrayLike | None = None,
        source: ArrayLike | None = None,
    ) -> Tensor:
        """Synthesise a whole utterance.

        Args:
            mel: [1, 80, M] log-mel.
            phase: [1, H, 1] start phases of the harmonics in radians, the first of which counts as 0.
            noise: [1, H, N] normal noise, N = 256 M.
            source: [1, 1, N] a ready source; then F0, phase and noise are not used.

        Returns:
            [1, N] float32.

        Raises:
            InvalidInputError: a shape does not fit.
        """
        frames = self.checked_mel(mel)
        if source is None:
            f0 = self.predict_f0(frames)
            merged = self.m_source(f0, self._excitation(frames.shape[2], phase, noise))
        else:
            merged = self._shaped("source", source, (1, 1, frames.shape[2] * self.config.hop_samples))
        return self.render(frames, merged)

    @torch.inference_mode()
    def f0(self, mel: ArrayLike) -> Tensor:
        """F0 of every frame in Hz; [1, 80, M] -> [1, M]."""
        return self.predict_f0(self.checked_mel(mel))

    def predict_f0(self, mel: Tensor) -> Tensor:
        """The F0 network alone; [1, 80, M] -> [1, M] Hz."""
        f0: Tensor = self.f0_predictor(mel)
        return f0

    def render(self, mel: Tensor, source: Tensor) -> Tensor:
        """The trunk alone; [1, 80, M], [1, 1, N] -> [1, N]."""
        wave: Tensor = self(mel, source)
        return wave

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.m_source.l_linear.weight.device

    def checked_mel(self, mel: ArrayLike) -> Tensor:
        """The mel as float32 on this network's device; raises InvalidInputError unless it is [1, 80, M > 0]."""
        frames = torch.as_tensor(mel).to(device=self.device, dtype=torch.float32)
        if frames.dim() != 3 or frames.shape[0] != 1 or frames.shape[1] != MEL_CHANNELS or frames.shape[2] == 0:
            raise InvalidInputError(f"the mel is {list(frames.shape)}, not [1, {MEL_CHANNELS}, frames]")
        return frames

    def _excitation(self, frames: int, phase: ArrayLike | None, noise: ArrayLike | None) -> Excitation:
        harmonics, samples = self.config.harmonics, frames * self.config.hop_samples
        device = self.device
        return Excitation(
            (torch.rand(1, harmonics, 1, device=device) * 2 - 1) * math.pi
            if phase is None
            else self._shaped("phase", phase, (1, harmonics, 1)),
            torch.randn(1, harmonics, samples, device=device)
            if noise is None
            else self._shaped("noise", noise, (1, harmonics, samples)),
        )

    def _shaped(self, name: str, value: ArrayLike, shape: tuple[int, ...]) -> Tensor:
        tensor = torch.as_tensor(value).to(device=self.device, dtype=torch.float32)
        if tensor.shape != shape:
            raise InvalidInputError(f"the {name} is {list(tensor.shape)}, not {list(shape)}")
        return tensor
