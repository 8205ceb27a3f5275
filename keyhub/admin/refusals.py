"""What triggers and operations refuse in English sentences, in the operator's language."""

import re

from django.utils.translation import gettext

_sentences: dict[str, re.Pattern] = {}


def register_refusals(*sentences: str) -> None:
    """Sentences of an app, each marked by gettext_noop, with {} where an id or a name stands."""
    for sentence in sentences:
        parts = map(re.escape, sentence.split("{}"))
        _sentences[sentence] = re.compile("(.*)".join(parts), re.DOTALL)


def is_registered(text: str) -> bool:
    return any(pattern.fullmatch(text) for pattern in _sentences.values())


def in_words(refusal: object) -> str:
    """An error's or a trigger's sentence in the language that is active; as it is where no app has registered it."""
    text = str(refusal)
    for sentence, pattern in _sentences.items():
        if found := pattern.fullmatch(text):
            return gettext(sentence).format(*found.groups())
    return text
