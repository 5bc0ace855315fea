"""How far a room by plans may be from the room by torch: measured after every build, kept beside the plans, and asked
again whenever they are opened. Beyond the bound nothing is kept, and nothing is served.

Speech is compared as a listener does, by the logarithm of its mel spectrum; the tokenizer by its rows, whose nearest
centroids are the codes.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from torch import Tensor

from services.shared.errors import CheckpointError, CorruptFileError
from services.shared.graphs.cache import GraphFolder, Parity
from services.shared.nn.features import mel_spectrogram_22k

GATE_FILE: Final = "gate.json"


@dataclass(frozen=True, slots=True)
class Gate:
    """What a build was held to.

    Attributes:
        measure: what was compared, in words.
        distance: mean absolute difference.
        bound: of it.
    """

    measure: str
    distance: float
    bound: float

    def check(self) -> None:
        """Raise CheckpointError beyond the bound, or where the distance is no number."""
        if not self.distance <= self.bound:
            raise CheckpointError(
                f"{self.measure} by plans is {self.distance:.3g} from torch, more than {self.bound:.3g}; they are not "
                "served: build with a higher precision"
            )

    def parity(self) -> Parity:
        """As the manifest keeps it."""
        return Parity(self.distance, self.distance, self.bound)

    def written(self) -> str:
        """As its file holds it."""
        return json.dumps(asdict(self)) + "\n"


def log_mel_distance(expected: Tensor, actual: Tensor) -> float:
    """Mean absolute difference of the log-mel of two waves [N] at 22.05 kHz; infinite where lengths differ."""
    first, second = expected.flatten().float().cpu(), actual.flatten().float().cpu()
    if first.shape != second.shape:
        return float("inf")
    return float((mel_spectrogram_22k(first) - mel_spectrogram_22k(second)).abs().mean())


def relative_distance(expected: Tensor, actual: Tensor) -> float:
    """Mean absolute difference of rows, relative to the mean absolute value; infinite where shapes differ."""
    first, second = expected.float().cpu(), actual.float().cpu()
    if first.shape != second.shape:
        return float("inf")
    return float((first - second).abs().mean() / first.abs().mean().clamp(min=1e-12))


def check_gate(plans: GraphFolder) -> Gate:
    """What plans were held to when they were made, checked again.

    Raises:
        MissingFileError, CorruptFileError: the record is absent or damaged.
        CheckpointError: they are beyond the bound.
    """
    content = plans.read(GATE_FILE)
    try:
        values: dict[str, Any] = json.loads(content)
        gate = Gate(str(values["measure"]), float(values["distance"]), float(values["bound"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{plans.path / GATE_FILE} is damaged ({error}); build the plans again") from error
    gate.check()
    return gate
