"""More ways to say a question, by rule: the chat model reads and hears more phrasings than were written for it.

Decides: the rules. Every new way is right for whatever the rule fits. Refuses to know: intents, replies, speech, and
which phrasings are held out.
"""

import re
from typing import Final

from services.nano.grammar import capitalized

_ASKED: Final = "Are|Can|Do|Does|How|In which|Is|What|When|Where|Which|Who|Why"
_ORDERED: Final = (
    "Ask|Buy|Call|Cancel|Close|Count|Flip|Give|Lock|Make|Name|Open|Order|Play|Read|Remind|Repeat|Send|Set|Show|"
    "Sing|Speak|Start|Stop|Switch|Tell|Turn|Wait|Wake|Write"
)
_MOST: Final = "biggest|coldest|fastest|highest|largest|longest|tallest"
_RULES: Final = tuple(
    (re.compile(pattern), ways)
    for pattern, *ways in (
        (r"What is (?!it\b)(.+)\?", "Tell me what {0} is.", "Do you know what {0} is?", "Tell me, {0} is what?"),
        (r"What is the (.+) of (.+)\?", "Tell me the {0} of {1}.", "I need the {0} of {1}."),
        (rf"What is the ({_MOST}) (\w+)\?", "Which {1} is the {0}?", "Name the {0} {1}.", "Which is the {0} {1}?"),
        (rf"Which (\w+) is the ({_MOST})\?", "What is the {1} {0}?", "Name the {1} {0}.", "Which is the {1} {0}?"),
        (r"Where is (.+)\?", "Tell me where {0} is.", "Do you know where {0} is?", "Where can I find {0}?"),
        (r"Where do (.+) live\?", "Tell me where {0} live.", "Where can I find {0}?", "What is the home of {0}?"),
        (r"Tell me where (.+) live\.", "Where do {0} live?", "Do you know where {0} live?", "Where are {0} at home?"),
        (r"(?:In which|Which) country is (\w+)(?: in)?\?", "Where is {0}?", "Tell me in which country {0} is."),
        (r"(?:What|Which) color is (.+)\?", "Tell me the color of {0}.", "What is the color of {0}?"),
        (r"Tell me what color (.+) is\.", "What color is {0}?", "Do you know the color of {0}?"),
        (r"How many (.+) does (.+) have\?", "Tell me how many {0} {1} has.", "How many {0} are there in {1}?"),
        (r"How many (.+) are in (.+)\?", "How many {0} has {1}?", "Tell me how many {0} there are in {1}."),
        (
            r"(?:What|Which) (day|month) (?:comes|is) (after|before) (.+)\?",
            *("What is the {0} {1} {2}?", "Tell me which {0} comes {1} {2}.", "What comes {1} {2}?"),
        ),
        (
            r"(?:What|Which) language do people speak in (.+)\?",
            *("What do people in {0} speak?", "How do they speak in {0}?", "Tell me the language of {0}."),
        ),
        (r"What sound does (.+) make\?", "What does {0} say?", "How does {0} sound?", "Tell me what {0} says."),
        (r"How does (.+) sound\?", "What does {0} say?", "What sound does {0} make?"),
        (r"What do (.+) eat\?", "Tell me what {0} eat.", "What do {0} like to eat?", "What is the food of {0}?"),
        (r"What is a baby (.+) called\?", "Tell me what a baby {0} is called.", "What is the name of a baby {0}?"),
        (r"What do I need (an? .+) for\?", "What is {0} for?", "Why do I need {0}?", "Tell me what {0} is for."),
        (r"What rhymes with (.+)\?", "Tell me a word like {0}.", "Do you know a rhyme for {0}?"),
        (r"(?:What|How) is the weather (?:like )?in (\w+).*\?", "Do you know the weather in {0}?"),
        (r".+ a timer for (.+ (?:minutes?|seconds?))[.?]", "I need a timer for {0}.", "A timer for {0}, please."),
        (r"(?:Turn|Switch) (on|off) the (\w+) light\.", "Turn the {1} light {0}.", "Turn {0} the light of the {1}."),
        (r"(?:How much|What) is (\w+ (?:plus|minus|times) \w+)\?", "Tell me, {0} is how much?", "Do you know {0}?"),
        (
            r"(?:Say|Repeat after me|Please say|Please repeat): (.+)",
            *("Say: {0}", "Repeat after me: {0}", "Please say: {0}", "Please repeat: {0}"),
        ),
        (r"Tell me (?!,)(.+)\.", "Can you tell me {0}?", "I want to know {0}.", "Please tell me {0}."),
        (rf"((?:{_ORDERED}) [^:]+)\.", "Please {0}.", "{0}, please.", "Can you {0}?", "I want you to {0}."),
        (rf"Please ((?:{_ORDERED.lower()}) [^:]+)\.", "{0}.", "{0}, please.", "Can you please {0}?"),
        (rf"((?:{_ASKED}) .+)\?", "Tell me, {0}?", "{0}, please?", "{0}, Nano?"),
        (r"(.+)", "Okay, {0}", "Hey, {0}"),
    )
)
_WRITTEN_LARGE: Final = re.compile(r"(?:I|Nano)\b")


def ways_to_say(question: str) -> list[str]:
    """Other ways to say a question, always the same; what is no beginning any more loses its capital."""
    inside = question if _WRITTEN_LARGE.match(question) else question[:1].lower() + question[1:]
    matches = ((rule.fullmatch(question), ways) for rule, ways in _RULES)
    said = (
        capitalized(way.format(*(inside[slice(*match.span(part + 1))] for part in range(len(match.groups())))))
        for match, ways in matches
        if match
        for way in ways
    )
    return [way for way in dict.fromkeys(said) if way != question]
