"""How much of each prompt of a long conversation an engine's cache can hold from the one before.

    python -m benchmarks.context_window [--quick] [--json FILE]

One conversation of short turns is led to its end at several budgets, and each prompt compared, id by id of the nano
checkpoint's tokenizer, with the one before. "One turn at a time" drops what does not fit and nothing more; "in blocks"
is the orchestrator's window. Counts of tokens are exact, so nothing here depends on the machine.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.report import table, write_json
from services.orchestrator.conversation.options import ContextOptions, GenerationOptions, Options, Tool
from services.orchestrator.conversation.record import Role
from services.orchestrator.pipeline.limits import PipelineLimits
from services.orchestrator.pipeline.window import ContextWindow
from services.orchestrator.ports.rooms import ChatMessage
from services.shared.paths import CHAT_FOLDER
from services.shared.prompt.chat import CHAT_SYSTEM_PROMPT, Message, build_chat_prompt
from services.shared.text import TextTokenizer, load_text_tokenizer
from tests.fakes.rooms import FakeChatModel

NANO: Final = Path(__file__).resolve().parents[1] / "model_repository" / "checkpoints" / "nano"
BUDGETS: Final = (400, 1000, 2000)
ANSWER: Final = "It rains in Lisbon today, and the sun comes back tomorrow. " * 2
_SYSTEM: Final = ChatMessage(Role.SYSTEM, CHAT_SYSTEM_PROMPT)

Read = Callable[[Sequence[ChatMessage]], Sequence[ChatMessage]]


@dataclass(frozen=True, slots=True)
class Figures:
    """One policy at one budget, once the conversation has filled it.

    Attributes:
        budget: tokens that a prompt may have.
        policy: what is dropped.
        found_share: of all prompt tokens, those with which the prompt before began as well.
        mean_tokens: length of a prompt.
    """

    budget: int
    policy: str
    found_share: float
    mean_tokens: float


class Counting(FakeChatModel):
    """A chat model that counts with a real tokenizer."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        super().__init__(context_tokens=1_000_000)
        self._tokenizer = tokenizer

    def ids(self, messages: Sequence[ChatMessage]) -> list[int]:
        """The prompt of messages in writing."""
        return build_chat_prompt(self._tokenizer, [Message(part.role.value, str(part.content)) for part in messages])

    def prompt_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        """See the port."""
        return len(self.ids(messages))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    chat = Counting(load_text_tokenizer(NANO / CHAT_FOLDER))
    figures = []
    for budget in BUDGETS[:2] if arguments.quick else BUDGETS:
        for policy, read in (
            ("one turn at a time", _one_by_one(chat, budget)),
            ("in blocks", _in_blocks(chat, budget)),
        ):
            figures.append(measured(chat, budget, policy, read))
    rows = [
        (f.budget, f.policy, f"{100 * f.found_share:.1f} %", f"{f.mean_tokens:.0f}", f"{_unread(f):.0f}")
        for f in figures
    ]
    print(table(("budget", "dropped", "found in the prompt before", "tokens of a prompt", "of them read anew"), rows))
    write_json(arguments.json, [asdict(f) for f in figures])


def measured(chat: Counting, budget: int, policy: str, read: Read) -> Figures:
    """Lead the conversation until it has filled the budget four times, and count from the first time on."""
    said: list[ChatMessage] = []
    before: list[int] = []
    found = asked = prompts = 0
    while chat.prompt_tokens(said or [_SYSTEM]) < 4 * budget:
        now = [*said, ChatMessage(Role.USER, f"And how is the weather in town {len(said) // 2}?")]
        ids = chat.ids(read(now))
        if chat.prompt_tokens(now) > budget:
            shared = next((n for n, (a, b) in enumerate(zip(before, ids, strict=False)) if a != b), len(before))
            found, asked, prompts = found + shared, asked + len(ids), prompts + 1
        before = ids
        said = [*now, ChatMessage(Role.ASSISTANT, ANSWER)]
    return Figures(budget, policy, found / asked, asked / prompts)


def _in_blocks(chat: Counting, budget: int) -> Read:
    options = Options(context=ContextOptions(max_context_tokens=budget), generation=GenerationOptions())
    window = ContextWindow(chat, PipelineLimits(), default_prompt=CHAT_SYSTEM_PROMPT, spawn=lambda summary: None)
    return lambda said: window.fit(said, options)


def _one_by_one(chat: Counting, budget: int) -> Read:
    def read(said: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
        kept = list(said)
        while chat.prompt_tokens([_SYSTEM, *kept]) > budget:
            del kept[:2]
        return [_SYSTEM, *kept]

    return read


def _unread(figures: Figures) -> float:
    return (1 - figures.found_share) * figures.mean_tokens


if __name__ == "__main__":
    main()
