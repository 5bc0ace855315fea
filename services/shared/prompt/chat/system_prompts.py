"""System prompts of the released system, to the letter: the model was trained on the first two."""

from typing import Final

CHAT_SYSTEM_PROMPT: Final = "适配用户的语言，用简短口语化的文字回答"
"""Short spoken answers in the user's language. Source: app.py of the release."""

ASR_SYSTEM_PROMPT: Final = "请记录下你所听到的语音内容。"
"""Write down what is heard. Source: the technical report."""

STYLE_TAG_RULE: Final = (
    "当你需要唱歌时，请以（哼唱）开头。当你需要rap或说唱时，请以（RAP）开头。"
    "当你需要快速说话时，请以（快速）开头。当你需要慢速说话时，请以（慢速）开头。"
)
"""The part of the next prompt that asks for the tags."""

STYLE_TAG_SYSTEM_PROMPT: Final = (
    "你是一个为对话而设计的人工智能模型，目前无法连接到互联网。\n"
    f"{STYLE_TAG_RULE}\n"
    "现在，你需要倾听用户的语音内容，并以礼貌、简洁、口语化的文本进行回复。你需要尽量以用户的语种进行回复。"
)
"""Replies that begin with a style tag for the speech model. Source: the maintainers, in the release's issue 128."""

SUMMARY_SYSTEM_PROMPT: Final = (
    "请用几句话概括下面这段对话，保留人名、数字、时间、约定和用户的要求，使用对话本身的语言，不要添加新的内容。"
)
"""A few sentences for what leaves the context. Our own: the release drops nothing and has no such prompt."""

SUMMARY_HEADING: Final = "此前对话的摘要："
"""In front of such a summary, in the context. Our own."""


def with_style_tags(prompt: str) -> str:
    """A system prompt under which replies may begin with a style tag.

    The model's own prompts give way to the maintainers' one; a caller's role keeps its words and gets the rule.
    """
    return STYLE_TAG_SYSTEM_PROMPT if prompt in ("", CHAT_SYSTEM_PROMPT) else f"{prompt}\n{STYLE_TAG_RULE}"
