"""The one training loop of the recipe: steps, a schedule, checkpoints, judgements, and stopping at any moment.

Decides: when a checkpoint is written, which weights are kept, and when training ends. What a step draws depends on the
seed and on its number alone, so a run that was stopped and went on equals one that never was.
Refuses to know: what is trained. A task gives a loss for a step and, now and then, figures by which it is judged.

    <folder>/checkpoint.pt   the run under way: weights, optimizer, average, step, CPU time
    <folder>/weights.pt      the weights of the best judgement so far; what later stages read
    <folder>/log.jsonl       one line a report: step, figures, CPU seconds
    <folder>/done.json       the schedule that is finished, with its last figures
"""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from services.shared.errors import MissingFileError
from services.shared.nn.checkpoint import load_strictly, read_torch_state

SCORE: Final = "score"
"""The figure of a judgement that decides; higher is better."""
WEIGHTS_FILE: Final = "weights.pt"
_CHECKPOINT_FILE: Final = "checkpoint.pt"
_LOG_FILE: Final = "log.jsonl"
_DONE_FILE: Final = "done.json"
_PAUSE_POLL_S: Final = 2.0
_HELPERS: Final = 1
_BETAS: Final = (0.9, 0.98)

_log = logging.getLogger(__name__)

Figures = Mapping[str, float]


class Task(Protocol):
    """Something to train.

    Attributes:
        network: what is kept and used afterwards.
        helpers: heads that serve training only; trained, kept in the checkpoint, not in the weights.
    """

    @property
    def network(self) -> nn.Module:
        """See the class."""
        ...

    @property
    def helpers(self) -> nn.Module:
        """See the class."""
        ...

    def loss(self, rng: np.random.Generator) -> tuple[Tensor, Figures]:
        """Loss of one batch drawn with `rng`, and its parts."""
        ...

    def judge(self) -> Figures:
        """Figures on what was held out, `SCORE` among them."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn: linear warm-up, then a cosine to a twentieth of the rate.

    Attributes:
        steps: of the whole schedule.
        learning_rate: at its highest.
        warm_up_steps: to reach it.
        weight_decay: on matrices.
        clip: largest norm of the gradient.
        average: decay of the running average of the weights that is judged and kept; 0 for none.
        judge_every: steps between judgements.
        patience: judgements without a better score before training stops early; 0 for never.
        seed: of every draw.
    """

    steps: int
    learning_rate: float
    warm_up_steps: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    average: float = 0.0
    judge_every: int = 500
    patience: int = 0
    seed: int = 20_261

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(self.warm_up_steps, 1))
        return self.learning_rate * warm * (0.525 + 0.475 * math.cos(math.pi * min(step / self.steps, 1.0)))


@dataclass(frozen=True, slots=True)
class Budget:
    """What one call may spend, and when it waits.

    Attributes:
        minutes: wall time after which the call stops behind a checkpoint; None for no limit.
        steps: steps this call makes at most; None for the schedule's.
        pause_file: nothing is computed while this file exists.
        checkpoint_every_s: wall time between checkpoints.
        report_every: steps between lines of the log.
    """

    minutes: float | None = None
    steps: int | None = None
    pause_file: Path | None = None
    checkpoint_every_s: float = 120.0
    report_every: int = 50


@dataclass(slots=True)
class _Run:
    """Where a training stands."""

    step: int = 0
    cpu_s: float = 0.0
    best: float = -math.inf
    judgements_since_best: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0


def train(task: Task, folder: Path, schedule: Schedule, budget: Budget) -> bool:
    """Train until the schedule, the judges or the budget end it.

    Returns:
        whether the schedule is finished; a later call goes on where this one stopped.
    """
    if is_done(folder, schedule):
        return True
    folder.mkdir(parents=True, exist_ok=True)
    loop = _Loop(task, folder, schedule, budget)
    loop.resume()
    return loop.run()


def is_done(folder: Path, schedule: Schedule) -> bool:
    """Whether this very schedule was finished here."""
    path = folder / _DONE_FILE
    return path.exists() and json.loads(path.read_text())["schedule"] == asdict(schedule)


def has_begun(folder: Path) -> bool:
    """Whether any step was made here."""
    return (folder / _CHECKPOINT_FILE).exists()


def has_finished(folder: Path) -> bool:
    """Whether any schedule was finished here."""
    return (folder / _DONE_FILE).exists()


def load_weights(module: nn.Module, folder: Path) -> None:
    """Fill a module with the weights that a training has kept.

    Raises:
        MissingFileError: that stage has not run.
        ShapeMismatchError: it trained another module.
    """
    path = folder / WEIGHTS_FILE
    if not path.exists():
        raise MissingFileError(f"{path} does not exist; run the stage that trains {folder.name} first")
    load_strictly(module, read_torch_state(path), path)


def read_helpers(folder: Path) -> dict[str, Tensor]:
    """The newest state of what served a training besides its network; not averaged.

    Raises:
        MissingFileError: that stage has not run.
    """
    path = folder / _CHECKPOINT_FILE
    if not path.exists():
        raise MissingFileError(f"{path} does not exist; run the stage that trains {folder.name} first")
    prefix = f"{_HELPERS}."
    trained = torch.load(path, weights_only=True)["trained"]
    return {name.removeprefix(prefix): value for name, value in trained.items() if name.startswith(prefix)}


def log_lines(folder: Path) -> list[dict[str, Any]]:  # figures by name, as they were written
    """Everything a training has reported, oldest first."""
    path = folder / _LOG_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class _Loop:
    def __init__(self, task: Task, folder: Path, schedule: Schedule, budget: Budget) -> None:
        self._task, self._folder, self._schedule, self._budget = task, folder, schedule, budget
        self._trained = nn.ModuleList([task.network, task.helpers])  # helpers have place _HELPERS
        parameters = [p for p in self._trained.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": schedule.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=_BETAS)
        self._parameters = parameters
        self._average = {name: value.clone() for name, value in task.network.state_dict().items()}
        self._state = _Run()

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        path = self._folder / _CHECKPOINT_FILE
        if not path.exists():
            return
        saved = torch.load(path, weights_only=True)
        self._trained.load_state_dict(saved["trained"])
        self._optimizer.load_state_dict(saved["optimizer"])
        self._average = saved["average"]
        self._state = _Run(**saved["run"])
        if (self._folder / WEIGHTS_FILE).exists():
            self._state.best = self._score_of_kept()
        _log.info("%s: goes on at step %d", self._folder.name, self._state.step)

    def _score_of_kept(self) -> float:
        """What the judge says today of the weights kept: more may be held out than when they were judged."""
        kept = read_torch_state(self._folder / WEIGHTS_FILE)
        with self._borrowed(kept), torch.no_grad():
            return self._task.judge()[SCORE]

    def run(self) -> bool:
        """See `train`."""
        state, schedule, budget = self._state, self._schedule, self._budget
        started = saved = time.monotonic()
        cpu_before, first = time.process_time(), state.step
        stopped_early = False
        while state.step < schedule.steps and not stopped_early:
            waited = self._wait_while_paused()
            started, saved = started + waited, saved + waited
            self._step()
            state.cpu_s += time.process_time() - cpu_before
            cpu_before = time.process_time()
            if state.step % budget.report_every == 0:
                self._report()
            if state.step % schedule.judge_every == 0 or state.step == schedule.steps:
                stopped_early = self._judge()
            now = time.monotonic()
            spent = budget.minutes is not None and now - started > 60 * budget.minutes
            if spent or (budget.steps is not None and state.step - first >= budget.steps):
                break
            if now - saved > budget.checkpoint_every_s:
                self._save()
                saved = now
        self._save()
        finished = stopped_early or state.step >= schedule.steps
        if finished:
            lines = log_lines(self._folder)
            done = {"schedule": asdict(schedule), "stopped_early": stopped_early, "last": lines[-1] if lines else {}}
            (self._folder / _DONE_FILE).write_text(json.dumps(done, indent=1))
        return finished

    def _step(self) -> None:
        state, schedule = self._state, self._schedule
        torch.manual_seed(schedule.seed * 1_000_003 + state.step)
        rate = schedule.rate(state.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss, figures = self._task.loss(np.random.default_rng([schedule.seed, state.step]))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, schedule.clip)
        if not torch.isfinite(norm):
            _log.warning("%s: step %d has no finite gradient and changes nothing", self._folder.name, state.step)
        else:
            self._optimizer.step()
            self._follow()
        state.step += 1
        state.summed += 1
        for name, value in {"loss": loss.item(), **figures}.items():
            state.sums[name] = state.sums.get(name, 0.0) + value

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the running average towards the weights; young averages move faster."""
        decay = min(self._schedule.average, (1 + self._state.step) / (10 + self._state.step))
        if not self._schedule.average:
            decay = 0.0
        for name, value in self._task.network.state_dict().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - decay)
            else:
                self._average[name].copy_(value)

    def _judge(self) -> bool:
        """Judge the average; keep it if it is the best. Returns whether patience is over."""
        state = self._state
        with self._borrowed(self._average), torch.no_grad():
            figures = self._task.judge()
        self._write({"judge": True, **figures})
        state.judgements_since_best += 1
        if figures[SCORE] > state.best:
            state.best, state.judgements_since_best = figures[SCORE], 0
            _write_atomically(self._average, self._folder / WEIGHTS_FILE)
        return bool(self._schedule.patience) and state.judgements_since_best >= self._schedule.patience

    @contextmanager
    def _borrowed(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Lend the network other weights, for judging."""
        network = self._task.network
        own = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(dict(weights))
        network.eval()
        try:
            yield
        finally:
            network.load_state_dict(own)
            network.train()

    def _report(self) -> None:
        state = self._state
        self._write({name: total / max(state.summed, 1) for name, total in state.sums.items()})
        state.sums, state.summed = {}, 0

    def _write(self, figures: Figures) -> None:
        line = {"step": self._state.step, "cpu_s": round(self._state.cpu_s, 1)}
        line |= {name: round(value, 5) for name, value in figures.items()}
        with (self._folder / _LOG_FILE).open("a") as log:
            log.write(json.dumps(line) + "\n")
        _log.info("%s: %s", self._folder.name, ", ".join(f"{name} {value}" for name, value in line.items()))

    def _save(self) -> None:
        saved = {
            "trained": self._trained.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": self._average,
            "run": asdict(self._state),
        }
        _write_atomically(saved, self._folder / _CHECKPOINT_FILE)

    def _wait_while_paused(self) -> float:
        """Returns: seconds waited."""
        pause_file, started = self._budget.pause_file, time.monotonic()
        while pause_file is not None and pause_file.exists():
            time.sleep(_PAUSE_POLL_S)
        return time.monotonic() - started


def _write_atomically(content: object, path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    partial.rename(path)
