"""What the chat model reads: a conversation as token ids."""

from services.shared.prompt.chat.builder import build_asr_prompt, build_chat_prompt
from services.shared.prompt.chat.calls import (
    CallForm,
    CallReader,
    FunctionSchema,
    WrittenCall,
    call_content,
    read_call,
    result_message,
    system_with_functions,
)
from services.shared.prompt.chat.messages import CallContent, Message, SpeechContent
from services.shared.prompt.chat.system_prompts import (
    ASR_SYSTEM_PROMPT,
    CHAT_SYSTEM_PROMPT,
    STYLE_TAG_RULE,
    STYLE_TAG_SYSTEM_PROMPT,
    SUMMARY_HEADING,
    SUMMARY_SYSTEM_PROMPT,
    with_style_tags,
)

__all__ = [
    "ASR_SYSTEM_PROMPT",
    "CHAT_SYSTEM_PROMPT",
    "STYLE_TAG_RULE",
    "STYLE_TAG_SYSTEM_PROMPT",
    "SUMMARY_HEADING",
    "SUMMARY_SYSTEM_PROMPT",
    "CallContent",
    "CallForm",
    "CallReader",
    "FunctionSchema",
    "Message",
    "SpeechContent",
    "WrittenCall",
    "build_asr_prompt",
    "build_chat_prompt",
    "call_content",
    "read_call",
    "result_message",
    "system_with_functions",
    "with_style_tags",
]
