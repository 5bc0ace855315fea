"""AsyncLLM as far as the house uses it: the same arguments, the same outputs, scripted replies, no network.

As vLLM does, it counts the stop id that ended a reply among the tokens, hands over only what is new, and aborts a
request whose generator is cancelled or closed, as long as there is an engine to abort it in.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class FakeCompletion:
    """vLLM's CompletionOutput."""

    token_ids: list[int]
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    index: int = 0


@dataclass
class FakeOutput:
    """vLLM's RequestOutput."""

    request_id: str
    outputs: list[FakeCompletion]

    @property
    def finished(self) -> bool:
        return self.outputs[0].finish_reason is not None


@dataclass(frozen=True)
class Asked:
    """A call of `generate`."""

    prompt: Any
    params: Any
    request_id: str
    priority: int


Step = FakeCompletion | Exception
Script = Callable[[Any, Any], Iterable[Step]]
"""Prompt and sampling parameters to what the engine does, step by step."""


@dataclass
class FakeAsyncLLM:
    """Replies as scripted."""

    script: Script
    errored: bool = False
    asked: list[Asked] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    shut_down: bool = False

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, *, priority: int = 0
    ) -> AsyncGenerator[FakeOutput, None]:
        self.asked.append(Asked(prompt, sampling_params, request_id, priority))
        try:
            for step in self.script(prompt, sampling_params):
                await asyncio.sleep(0)
                if isinstance(step, Exception):
                    raise step
                yield FakeOutput(request_id, [step])
        except (asyncio.CancelledError, GeneratorExit):
            if not self.shut_down:
                self.aborted.append(request_id)
            raise

    def shutdown(self) -> None:
        self.shut_down = True
