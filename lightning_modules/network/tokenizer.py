"""A tokenizer from the bytes of its tokenizer.json, and the special ids that it knows.

This file is shipped inside the registered model: it imports tokenizers and nothing of this
repository.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tokenizers import Tokenizer

PAD_NAMES = ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<PAD>", "<|endoftext|>")
EOS_NAMES = (
    "[EOS]",
    "</s>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<eos>",
    "<|eos|>",
    "<EOS>",
    "<|im_end|>",
    "<|eot_id|>",
)
UNKNOWN_NAMES = ("[UNK]", "<unk>", "<|unk|>", "<UNK>", "<|endoftext|>")
# Far above what is in use (Gemma's has 34 MB), far below what would fill a machine.
MAX_TOKENIZER = 1 << 27
MAX_ADDED_TOKENS = 200_000
# Texts that tokenizers are known to change: what is folded (case, width, composition), dropped
# (controls, joiners, marks) or put in place of something (white space, line ends, unknown letters).
HARD_TEXTS = (
    " two  spaces before, three   within and one after ",
    "\tindented\n\n\n  twice\r\nand ended\r\n",
    "don't STOP , he said ; it 's an I O U .",
    "cafe\u0301 or caf\u00e9, \uff21\uff22\uff23, \ufb01ne, x\u00b2, \u212b",
    "\u6c49\u5b57 \u548c\u6807\u70b9\uff0c\u4e0d\u7528\u7a7a\u683c\u3002"
    "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001d518 \U00020000",
    "\u00a0\u2009\u2028\u3000\ufeff\u00ad\x01\x7f",
    "[EOS] [PAD] [UNK] [CLS] </s> <s> <|endoftext|> <0x41> ##ing \u2581 \u0120",
)


class BundleError(ValueError):
    """A bundle, or a part of one, that this version cannot read, or whose bytes have changed."""


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Whatever tokenizers raises as a BundleError: bare Exceptions, and panics of its Rust code,
    which are none.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise BundleError(f"{what}: {str(error) or type(error).__name__}") from None


def load_tokenizer(tokenizer_json: bytes) -> Tokenizer:
    """A tokenizer that neither cuts nor pads, whatever its file says: windows are ours.

    Raises:
        BundleError: it is none, or too large to be one.
    """
    added = tokenizer_json.count(b'"single_word"')
    if len(tokenizer_json) > MAX_TOKENIZER or added > MAX_ADDED_TOKENS:
        raise BundleError(
            f"The tokenizer.json has more than {MAX_TOKENIZER:,} bytes or "
            f"{MAX_ADDED_TOKENS:,} added tokens."
        )
    with readable("The tokenizer.json cannot be read"):
        tokenizer = Tokenizer.from_buffer(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def load_lossless(tokenizer_json: bytes) -> Tokenizer:
    """The same, and a special token that stands in a text is text: `[EOS]` of a page on tokenizers
    ends nothing.

    Raises:
        BundleError: it is none, or too large to be one.
    """
    tokenizer = load_tokenizer(tokenizer_json)
    tokenizer.encode_special_tokens = True
    return tokenizer


def is_lossless(tokenizer: Tokenizer) -> bool:
    """Whether texts that are hard to keep come back from it as they were.

    Args:
        tokenizer: as `load_lossless` gives it.
    """
    return all(_comes_back(tokenizer, text) for text in HARD_TEXTS)


def _comes_back(tokenizer: Tokenizer, text: str) -> bool:
    with readable("The tokenizer cannot encode a text"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        return tokenizer.decode(ids, skip_special_tokens=False) == text


def eos_id(tokenizer: Tokenizer) -> int | None:
    """Id of the token that ends a text, by the names in common use; None where there is none."""
    return _id_of(tokenizer, EOS_NAMES)


def special_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """Ids of the padding and the unknown token, by the names in common use; 0 where there is none.

    Padding is never read, and a tokenizer without an unknown token (byte-level BPE) knows every
    text.
    """
    return _id_of(tokenizer, PAD_NAMES) or 0, unknown_id(tokenizer) or 0


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Id of the unknown token: the model's own, or by the names in common use."""
    own = getattr(tokenizer.model, "unk_token", None)
    return _id_of(tokenizer, (own, *UNKNOWN_NAMES) if own else UNKNOWN_NAMES)


def _id_of(tokenizer: Tokenizer, names: Sequence[str]) -> int | None:
    ids = (tokenizer.token_to_id(name) for name in names)
    return next((value for value in ids if value is not None), None)


def surrounding_ids(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that the tokenizer's own post-processor puts before and after a text
    ([CLS] ... [SEP]).

    Raises:
        BundleError: it cannot encode a text with unknown words.
    """
    with readable("The tokenizer cannot encode a text"):
        encoding = tokenizer.encode("a 1 。", add_special_tokens=True)
    added = encoding.special_tokens_mask
    content = [index for index, special in enumerate(added) if not special]
    if not content:
        raise BundleError("The tokenizer finds no token in a plain text.")
    return tuple(encoding.ids[: content[0]]), tuple(encoding.ids[content[-1] + 1 :])
