"""How soon each piece of a reply's speech is needed, and what is done without where the rooms have fallen behind.

    heard │ sent, not heard │ made, not sent │ spoken, not voiced │
          ├──── slack of a push of the vocoder ───┤
          ├──── slack of a clause of the speech model ────────────┤

What is due first goes first in the rooms. A reply that is prepared ahead can wait longer: its listener still thinks.
What the governor gives up holds from the next push on, and the turn's metrics say so. A caller who chose a seed was
promised that the same seed sounds the same: there no step of the flow is left out.
"""

from collections.abc import Callable
from typing import Final

from services.orchestrator.conversation.record import Degradation
from services.orchestrator.pipeline.gate import Gate
from services.orchestrator.pipeline.limits import ReplyLimits
from services.orchestrator.pipeline.meter import Meter
from services.orchestrator.pipeline.rations import Rations
from services.orchestrator.ports.rooms import Haste

_BEGINNING_MS: Final = 1000.0
"""Of a reply's audio: with so much made, rooms that keep up have a margin that the governor calls calm."""


class Pacing:
    """The pace of one reply.

    Args:
        limits: of replies.
        rations: what is given up; None gives up nothing and tells nobody.
        ahead_ms: audio that was made and that a listener in real time has not heard.
        gate: whether the reply is only prepared.
        meter: told what was done without.
        has_seed: the caller chose the seed of the voice.
    """

    def __init__(
        self,
        limits: ReplyLimits,
        rations: Rations | None,
        *,
        ahead_ms: Callable[[], float],
        gate: Gate,
        meter: Meter,
        has_seed: bool,
    ) -> None:
        self._limits = limits
        self._rations = rations
        self._ahead_ms = ahead_ms
        self._gate = gate
        self._meter = meter
        self._has_seed = has_seed
        self._made_ms = 0.0

    def slack_ms(self, spoken_ms: float = 0.0) -> int:
        """How long the listener can wait for what follows; `spoken_ms`: of speech that will be voiced before it."""
        prepared_ms = 0 if self._gate.is_open else self._limits.prepared_slack_ms
        return int(self._ahead_ms() + spoken_ms) + prepared_ms

    def first_chunk_ms(self) -> int:
        """Speech that the vocoder waits for."""
        if self._rations is not None and self._is_smaller():
            return min(self._rations.limits.smaller_chunk_ms, self._limits.first_chunk_ms)
        return self._limits.first_chunk_ms

    def haste(self) -> Haste:
        """Of the next push."""
        flow_steps = first_hop_ms = 0
        if self._rations is not None and self._is_smaller():
            first_hop_ms = self._rations.limits.smaller_hop_ms
            self._meter.degraded(Degradation.SMALLER_FIRST_CHUNK)
        if self._rations is not None and self._leaves_out_steps():
            flow_steps = self._rations.limits.fewer_flow_steps
            self._meter.degraded(Degradation.FEWER_FLOW_STEPS)
        return Haste(self.slack_ms(), flow_steps, first_hop_ms)

    def came(self, length_ms: float) -> None:
        """Samples came, of this length; what their listener had left tells how the rooms keep up.

        The first ones of a reply have nobody who runs dry. A reply that has just begun cannot be far ahead, however
        fast the rooms are: there only a listener who had nothing left says something.
        """
        if self._made_ms and self._rations is not None and self._gate.is_open:
            margin_ms = self._ahead_ms()
            if self._made_ms >= _BEGINNING_MS or margin_ms <= 0:
                self._rations.margin(margin_ms)
        self._made_ms += length_ms

    def _is_smaller(self) -> bool:
        return not self._made_ms and Degradation.SMALLER_FIRST_CHUNK in self._given_up

    def _leaves_out_steps(self) -> bool:
        return not self._has_seed and Degradation.FEWER_FLOW_STEPS in self._given_up

    @property
    def _given_up(self) -> frozenset[Degradation]:
        return frozenset() if self._rations is None else self._rations.given_up
