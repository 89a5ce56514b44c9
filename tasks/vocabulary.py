"""Tokenizers: trained on the texts of a corpus, or given as a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as HFTokenizer

from data_contracts.contract.text import CLUSTERS, UNSPACED
from data_contracts.errors import NoisefoldError, RecipeError
from data_contracts.recipe.files import read_tokenizer
from data_contracts.recipe.tokenizer import (
    BpeTokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    FileTokenizer,
    OwnTokenizer,
    TrainedTokenizer,
    WindowConfig,
    WordPieceTokenizer,
    WordTokenizer,
)
from lightning_modules.network.tokenizer import (
    EOS_NAMES,
    BundleError,
    eos_id,
    is_lossless,
    load_lossless,
    load_tokenizer,
    surrounding_ids,
)
from lightning_modules.network.words import words_of

Texts = Callable[[], Iterator[list[str]]]
SPECIAL_TOKENS = ["[PAD]", "[UNK]"]  # ids 0 and 1
LOSSLESS_TOKENS = [*SPECIAL_TOKENS, "[EOS]"]  # a text that comes back whole can also be ended: id 2
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]  # what byte_fallback and its decoder call them
# Characters without white space, or of nothing else, that byte-level BPE takes for one word: the
# trainer goes through a word once for each token that it adds.
_LONGEST_RUN = 200
_LONGEST_WORD = 100  # characters; WordPiece takes a longer one for unknown as a whole


def train_tokenizer(config: OwnTokenizer, texts: Texts) -> HFTokenizer:
    """A vocabulary of these texts, and of no others.

    Args:
        texts: goes once through the texts, in lists; called once or twice, or not at all.
    Raises:
        NoisefoldError: there is no token among them.
    """
    if isinstance(config, ByteTokenizer):
        return spelling_tokenizer([])
    if isinstance(config, CharacterTokenizer):
        return spelling_tokenizer(_characters(config, texts))
    tokenizer, trainer = blank_tokenizer(config)
    if isinstance(config, WordPieceTokenizer):
        _train_wordpiece(tokenizer, config, texts)
    elif isinstance(config, WordTokenizer):
        _train_words(tokenizer, config, texts)
    else:
        tokenizer.train_from_iterator(texts(), trainer)
    if tokenizer.get_vocab_size() <= len(SPECIAL_TOKENS):
        raise NoisefoldError(
            f"The {config.kind} tokenizer found no token that occurs {config.min_frequency} times "
            f"in the train split.",
            "Lower tokenizer.min_frequency or give more rows.",
        )
    return tokenizer


def _train_words(tokenizer: HFTokenizer, config: WordTokenizer, texts: Texts) -> None:
    """As `WordLevelTrainer` has it: the commonest first, those equally common by code point."""
    counts: Counter[str] = Counter()
    for some in texts():
        counts.update(chain.from_iterable(words_of(tokenizer, some, config.lowercase)))
    often = [one for one in counts.items() if one[1] >= config.min_frequency]
    often.sort(key=lambda one: (-one[1], one[0]))
    names = [*SPECIAL_TOKENS, *(word for word, _ in often)][: config.vocab_size]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer.model = models.WordLevel(vocabulary, unk_token="[UNK]")
    tokenizer.add_special_tokens(SPECIAL_TOKENS)


def _characters(config: CharacterTokenizer, texts: Texts) -> list[str]:
    """Those that are frequent enough, by code point."""
    counts: Counter[str] = Counter()
    for some in texts():
        for text in some:
            counts.update(text)
    return sorted(one for one, times in counts.items() if times >= config.min_frequency)


def spelling_tokenizer(characters: Sequence[str]) -> HFTokenizer:
    """Each of these characters is a token, any other one the tokens of its UTF-8 bytes.

    It is BPE that never merges, since that model of Hugging Face's tokenizers falls back to bytes.
    """
    names = [*LOSSLESS_TOKENS, *_BYTES, *characters]
    vocab = {name: number for number, name in enumerate(names)}
    tokenizer = HFTokenizer(models.BPE(vocab, [], unk_token="[UNK]", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(LOSSLESS_TOKENS)
    return tokenizer


def _train_wordpiece(tokenizer: HFTokenizer, config: WordPieceTokenizer, texts: Texts) -> None:
    """The same vocabulary from the same texts, which its trainer by itself does not give.

    It numbers characters within a word (##a) as a hash map with a random seed yields its words, and
    breaks ties by those numbers. Special tokens it numbers first and in order, so these are such to
    it, and to the tokenizer no more.
    """
    inner: set[str] = set()
    for some in texts():
        for text in some:
            pieces = tokenizer.pre_tokenizer.pre_tokenize_str(
                tokenizer.normalizer.normalize_str(text)
            )
            inner.update(*(piece[1:] for piece, _ in pieces))
    numbered = [*SPECIAL_TOKENS, *(f"##{character}" for character in sorted(inner))]
    trained, _ = blank_tokenizer(config)
    trained.train_from_iterator(
        texts(), trainers.WordPieceTrainer(**{**_trained_by(config), "special_tokens": numbered})
    )
    tokenizer.model = models.WordPiece(
        trained.get_vocab(with_added_tokens=False), unk_token="[UNK]"
    )
    tokenizer.add_special_tokens(SPECIAL_TOKENS)


def _trained_by(config: TrainedTokenizer) -> dict[str, Any]:
    """What every trainer is told."""
    return {
        "vocab_size": config.vocab_size,
        "min_frequency": config.min_frequency,
        "special_tokens": SPECIAL_TOKENS,
        "show_progress": False,
    }


def blank_tokenizer(config: TrainedTokenizer) -> tuple[HFTokenizer, trainers.Trainer]:
    lower = [normalizers.Lowercase()] if config.lowercase else []
    common = _trained_by(config)
    if isinstance(config, BpeTokenizer) and config.lossless:
        return _blank_lossless(common)
    if isinstance(config, BpeTokenizer):
        tokenizer = HFTokenizer(models.BPE(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *lower])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer, trainers.BpeTrainer(
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **common
        )
    cleaned = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=config.lowercase
    )
    if isinstance(config, WordPieceTokenizer):
        tokenizer = HFTokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), cleaned])
        # Kana stays whole, as in BERT: what is within a run of it, WordPiece finds.
        by_cluster = pre_tokenizers.Split(Regex(CLUSTERS), "isolated")
        in_reach = pre_tokenizers.Split(Regex(rf"\S{{{_LONGEST_WORD}}}"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [by_cluster, pre_tokenizers.BertPreTokenizer(), in_reach]
        )
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer, trainers.WordPieceTrainer(**common)
    tokenizer = HFTokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), cleaned])
    unspaced = pre_tokenizers.Split(Regex(UNSPACED), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([unspaced, pre_tokenizers.BertPreTokenizer()])
    return tokenizer, trainers.WordLevelTrainer(**common)


def _blank_lossless(common: dict[str, Any]) -> tuple[HFTokenizer, trainers.Trainer]:
    """Byte-level BPE of texts as they are written."""
    tokenizer = HFTokenizer(models.BPE(unk_token="[UNK]"))
    in_reach = Regex(rf"\S{{{_LONGEST_RUN}}}|\s{{{_LONGEST_RUN}}}")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(in_reach, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, trainers.BpeTrainer(
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        **{**common, "special_tokens": LOSSLESS_TOKENS},
    )


def load_given(
    config: FileTokenizer, window: WindowConfig, *, lossless: bool = False
) -> HFTokenizer:
    """A given tokenizer.json, once it is clear that a window has room for text.

    Args:
        lossless: it has to give every text back as it was, and to know a token that ends one;
            special tokens that stand in a text are then text.
    Raises:
        RecipeError: it cannot be read or used.
    """
    data = read_tokenizer(config.path)
    try:
        tokenizer = load_lossless(data) if lossless else load_tokenizer(data)
        prefix, suffix = surrounding_ids(tokenizer)
    except BundleError as error:
        raise RecipeError(
            f"tokenizer.path {config.path}: {error}.",
            "Give a tokenizer.json of Hugging Face tokenizers.",
        ) from None
    if lossless:
        _check_lossless(tokenizer, config.path)
    special = window.special_tokens * (len(prefix) + len(suffix))
    least = window.overlap + special + 1
    if window.max_length < least:
        raise RecipeError(
            f"window.max_length is {window.max_length}: {special} special tokens and an overlap of "
            f"{window.overlap} leave no room for a window.",
            f"Set window.max_length to {least} or more, or lower window.overlap.",
        )
    return tokenizer


def _check_lossless(tokenizer: HFTokenizer, path: str) -> None:
    """Refuse a given tokenizer that changes texts, or cannot end one."""
    if not is_lossless(tokenizer):
        raise RecipeError(
            f"tokenizer.path {path}: it changes texts, so that what it decodes is not what was "
            "encoded, and bits per byte count every character.",
            "Give a byte-level one (GPT-2's, Llama's), or have one trained: tokenizer.kind "
            "character, byte, or bpe with lossless: true.",
        )
    if eos_id(tokenizer) is None:
        raise RecipeError(
            f"tokenizer.path {path}: it has no token that ends a text (looked for "
            f"{', '.join(EOS_NAMES)}).",
            "Add one of these to the tokenizer.json, or have one trained: tokenizer.kind "
            "character, byte, or bpe with lossless: true.",
        )
