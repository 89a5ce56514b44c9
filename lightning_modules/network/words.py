"""Token ids by a regular expression and a dictionary, where the tokenizer is this house's own kind
`word`: the same ids as Hugging Face's tokenizers give, several times faster.

A text goes this way only if it holds nothing but characters that both ways are known to treat
alike, each by itself (`KNOWN`). One with anything else (controls, marks, scripts cut by cluster,
what is unassigned) goes to the tokenizer, so that none comes out otherwise.
This file is shipped inside the registered model: it imports tokenizers and, of this repository,
what ships with it.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer, models

from lightning_modules.network.tokenizer import readable

# Han and kana, each a token by itself. All that stands here was in Unicode before 7.0.
_UNSPACED = (
    "\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fd-\u30ff\u3400-\u4db5\u4e00-\u9fa5"
)
# To stand within [ ]. No soft hyphen, which is dropped; no capital sigma, whose lower case depends
# on what follows; no mark or jamo, which join what stands before them.
KNOWN = (
    "\t\n\r -~\xa0-\xac\xae-\u02ff"
    "\u0370-\u0377\u037a-\u037e\u0384-\u038a\u038c\u038e-\u03a1\u03a4-\u03f8\u03fa-\u03ff"
    "\u0400-\u0481\u048a-\u0527\u1e00-\u1eff"
    "\u2000-\u200a\u2010-\u2027\u202f-\u205f\u20a0-\u20ba\u2100-\u2189\u2190-\u23f3\u2460-\u27bf"
    f"\u3000-\u3020\u30fb\u30fc{_UNSPACED}"
    "\uac00-\ud7a3\uff01-\uff5e\uffe0-\uffe6"
    "\U0001f300-\U0001f320\U0001f400-\U0001f43e\U0001f600-\U0001f640"
)
_foreign = re.compile(f"[^{KNOWN}]").search
_ASCII_SIGNS = re.escape(string.punctuation)
_SIGNS = _ASCII_SIGNS + "".join(
    sign
    for sign in map(chr, range(0x80, 0x3100))
    if unicodedata.category(sign).startswith("P") and not _foreign(sign)
)
_cut_ascii = re.compile(rf"[^\s{_ASCII_SIGNS}]+|[{_ASCII_SIGNS}]").findall
_cut = re.compile(rf"[^\s{_SIGNS}{_UNSPACED}]+|[{_SIGNS}{_UNSPACED}]").findall

_SPECIAL = ("[PAD]", "[UNK]")
# SHA-256 of a tokenizer.json of the kind, but for the words, and whether it folds case.
_OWN = {
    "d6ab3ab6ea4a974768571d98b0fc60a760344c44f39466682d12046c308bbb9b": True,
    "7d5fc42092175df53f2d99d6937276506fa8eb9dc28d6a6d87b07baa76e706e7": False,
}


def cut_words(text: str, lowercase: bool) -> list[str] | None:
    """The tokens of a text, known or not; None where the tokenizer has to be asked."""
    if _foreign(text):
        return None
    if text.isascii():
        return _cut_ascii(text.lower() if lowercase else text)
    text = unicodedata.normalize("NFKC", text)
    return _cut(text.lower() if lowercase else text)


def words_of(tokenizer: Tokenizer, texts: Iterable[str], lowercase: bool) -> Iterator[list[str]]:
    """The tokens of each text, known or not.

    Args:
        tokenizer: one of the kind `word`, which may have no vocabulary yet.
    """
    for text in texts:
        words = cut_words(text, lowercase)
        if words is None:
            normal = tokenizer.normalizer.normalize_str(text)
            words = [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
        yield words


def ids_of(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text, without special tokens round it.

    Raises:
        BundleError: the tokenizer fails at one of the texts.
    """
    if tokenizer not in _lookups:
        _lookups[tokenizer] = _lookup_of(tokenizer)
    lookup = _lookups[tokenizer]
    found = [None if lookup is None else lookup(text) for text in texts]
    some = [text for text, ids in zip(texts, found, strict=True) if ids is None]
    with readable("The tokenizer cannot encode a text"):
        asked = iter(tokenizer.encode_batch(some, add_special_tokens=False))
    return [next(asked).ids if ids is None else ids for ids in found]


# By the tokenizer itself; None: it is of another kind.
_lookups: WeakKeyDictionary[Tokenizer, Callable[[str], list[int] | None] | None]
_lookups = WeakKeyDictionary()


def _lookup_of(tokenizer: Tokenizer) -> Callable[[str], list[int] | None] | None:
    """What gives the ids of a text, or None where the tokenizer has to; None for a tokenizer that
    is not, to the letter, one of the kind `word`.
    """
    # Before anything is written out: other kinds may have some megabytes.
    if not isinstance(tokenizer.model, models.WordLevel):
        return None
    lowercase = _OWN.get(form(tokenizer))
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    if lowercase is None or not all(name in vocabulary for name in _SPECIAL):
        return None
    get, unknown = vocabulary.get, repeat(vocabulary["[UNK]"])

    def lookup(text: str) -> list[int] | None:
        words = cut_words(text, lowercase)
        # Its special tokens are found in a text as they are written.
        if words is None or ("[" in text and any(name in text for name in _SPECIAL)):
            return None
        return list(map(get, words, unknown))

    return lookup


def form(tokenizer: Tokenizer) -> str:
    """SHA-256 of all that a tokenizer.json says beside its vocabulary."""
    stated = json.loads(tokenizer.to_str())
    stated["model"].pop("vocab", None)
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()
