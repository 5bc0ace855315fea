"""How long the rooms' work takes, and what a deployment is made of: values, with the source of each figure.

    PassLaw    a pass over a batch of requests: fixed + each request + each unit (s of audio, speech token)
    StepLaw    a step of continuous batching: fixed + each sequence; and the prompts that it begins

The GPU figures are the arithmetic of the chart's presets (bandwidth and published measurements), not measurements of
this project; `python -m benchmarks.capacity check` measures the laws of a real local system.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

POOLS: Final = ("tokenizer", "lm", "tts", "vocoder")


@dataclass(frozen=True, slots=True)
class PassLaw:
    """Seconds of one pass over a batch.

    Attributes:
        fixed_s: of a pass.
        request_s: of each request in it.
        unit_s: of each unit of work in it.
        first_s: more for a stream's first request; less than nothing where it makes the audio of fewer tokens.
    """

    fixed_s: float
    request_s: float
    unit_s: float
    first_s: float = 0.0

    def seconds(self, requests: int, units: float, first: int = 0) -> float:
        """Of a batch of so many requests with so many units together, `first` of which begin a stream."""
        return self.fixed_s + requests * self.request_s + units * self.unit_s + first * self.first_s


@dataclass(frozen=True, slots=True)
class StepLaw:
    """Seconds of one step of continuous batching.

    Attributes:
        fixed_s: of a step: mostly the weights' way through memory.
        sequence_s: of each sequence in it.
        prompt_s: of beginning a sequence.
        prompt_token_s: of each token of its prompt.
    """

    fixed_s: float
    sequence_s: float
    prompt_s: float
    prompt_token_s: float

    def seconds(self, sequences: int) -> float:
        """Of a step of so many sequences."""
        return self.fixed_s + sequences * self.sequence_s

    def prompt_seconds(self, tokens: int) -> float:
        """Of a prompt."""
        return self.prompt_s + tokens * self.prompt_token_s


@dataclass(frozen=True, slots=True)
class Pool:
    """One room's servers, all alike.

    Attributes:
        law: of their passes or steps.
        servers: how many.
        gpus: of each server; a share where it is a slice.
        max_batch: requests, or sequences, that are computed together.
    """

    law: PassLaw | StepLaw
    servers: int
    gpus: float
    max_batch: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything that computes.

    Attributes:
        name: for people.
        source: of its figures.
        tokenizer, lm, tts, vocoder: the rooms.
        frame_s: processor time of the orchestrator for 20 ms of a conversation, both ways.
        cores: that all servers share; None where each computes on a device of its own.
    """

    name: str
    source: str
    tokenizer: Pool
    lm: Pool
    tts: Pool
    vocoder: Pool
    frame_s: float = 0.0
    cores: int | None = None

    def pool(self, name: str) -> Pool:
        """One of the rooms."""
        pool: Pool = getattr(self, name)
        return pool

    @property
    def gpus(self) -> float:
        """All of them."""
        return sum(self.pool(name).servers * self.pool(name).gpus for name in POOLS)


# One chat step is 264 GB of weights over the GPUs' bandwidth at 0.65 of its peak, one speech step 7.1 GB likewise; a
# sequence adds its KV cache: 2000 tokens of 352 KiB, 500 of 32 KiB. Prompts are bound by arithmetic: 2 FLOP a weight
# and token at 0.4 of the dense bf16 peak. The vocoder's line goes through the published anchors of one L20, 196 ms to
# the first chunk of one stream and 531 ms of four (Triton, DiT of like size), of which an H800 is taken to need half.
H800X8: Final = Deployment(
    "h800x8",
    "helm/stepaudio/values/h800x8.yaml: bandwidth and published anchors",
    tokenizer=Pool(PassLaw(0.004, 0.002, 0.004), servers=1, gpus=1, max_batch=16),
    lm=Pool(StepLaw(0.0303, 0.00008, 0.005, 0.00016), servers=1, gpus=4, max_batch=32),
    tts=Pool(StepLaw(0.0033, 0.00001, 0.003, 0.000015), servers=1, gpus=1, max_batch=16),
    vocoder=Pool(PassLaw(0.042, 0.028, 0.0, 0.028), servers=2, gpus=1, max_batch=8),
)
MULTI_NODE: Final = Deployment(
    "multi-node",
    "helm/stepaudio/values/multi-node.yaml: bandwidth and published anchors",
    tokenizer=Pool(PassLaw(0.004, 0.002, 0.004), servers=4, gpus=1, max_batch=16),
    lm=Pool(StepLaw(0.0152, 0.00004, 0.005, 0.00004), servers=1, gpus=16, max_batch=256),
    tts=Pool(StepLaw(0.0033, 0.00001, 0.003, 0.000015), servers=10, gpus=1, max_batch=16),
    vocoder=Pool(PassLaw(0.042, 0.028, 0.0, 0.028), servers=20, gpus=1, max_batch=8),
)
DEPLOYMENTS: Final = {deployment.name: deployment for deployment in (H800X8, MULTI_NODE)}


def write_deployment(deployment: Deployment, file: Path) -> None:
    """As JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(deployment), indent=1) + "\n")


def read_deployment(file: Path) -> Deployment:
    """What `write_deployment` wrote. Raises OSError, ValueError or TypeError where it is not that."""
    found: dict[str, Any] = json.loads(file.read_text())
    steps = {field.name for field in fields(StepLaw)}
    for name in POOLS:
        law = found[name].pop("law")
        found[name] = Pool(StepLaw(**law) if set(law) == steps else PassLaw(**law), **found[name])
    return Deployment(**found)
