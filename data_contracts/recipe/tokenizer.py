"""The sections `tokenizer` and `window` of a recipe: what a token is, and how many are read at
once.

Each tokenizer says whether it is `lossless`: decoding what it encodes gives every text back, letter
by letter. The others fold letters (case, width, white space), which a classifier likes and a model
that writes cannot use.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from data_contracts.recipe.files import tokenizer_digest
from data_contracts.section import ByContent, Section, kind_is


class TrainedTokenizer(Section):
    """What the tokenizers share that are trained on the train split."""

    kind: Any  # first in what is printed; each names its own
    vocab_size: int = Field(
        default=8_000, ge=16, le=500_000, description="Largest vocabulary, special tokens included."
    )
    min_frequency: int = Field(
        default=2, ge=1, description="A token seen less often in the train split is unknown."
    )
    lowercase: bool = Field(
        default=True, description="Lower-case the text first (no effect on Chinese)."
    )


class WordTokenizer(TrainedTokenizer):
    """Words and punctuation; by character or cluster where a script has no spaces (Chinese,
    Japanese, Thai, Khmer, Lao, Burmese and others). The readable choice for short texts."""

    lossless: ClassVar[bool] = False
    kind: Literal["word"] = "word"


class BpeTokenizer(TrainedTokenizer):
    """Byte-level BPE (Radford 2019): no unknown tokens in any language. Needs a vocabulary above
    the 256 bytes."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: int = Field(
        default=8_000,
        ge=260,
        le=500_000,
        description="Largest vocabulary, special tokens included.",
    )
    lossless: bool = Field(
        default=False,
        description="Texts as they are written: neither NFKC nor lower case, no space put before "
        "them, and a token [EOS] for their end.",
    )

    @model_validator(mode="after")
    def _nothing_is_folded(self) -> BpeTokenizer:
        if self.lossless and "lowercase" in self.stated():
            raise ValueError(
                "lossless keeps texts as they are written, so that lowercase has no effect beside "
                "it: leave one of them out"
            )
        return self


class WordPieceTokenizer(TrainedTokenizer):
    """WordPiece with BERT's pre-tokenizer, which splits Chinese by character; Thai, Khmer, Lao and
    Burmese by cluster."""

    lossless: ClassVar[bool] = False
    kind: Literal["wordpiece"] = "wordpiece"


class CharacterTokenizer(Section):
    """Characters (Unicode code points); one that the train split has too rarely is spelled by its
    UTF-8 bytes. Every text comes back as it was written."""

    lossless: ClassVar[bool] = True
    kind: Literal["character"] = "character"
    min_frequency: int = Field(
        default=2,
        ge=1,
        description="A character seen less often in the train split is spelled by its bytes.",
    )


class ByteTokenizer(Section):
    """The 256 bytes of UTF-8: the same vocabulary whatever the texts, which come back as they were
    written."""

    lossless: ClassVar[bool] = True
    kind: Literal["byte"] = "byte"


class FileTokenizer(Section):
    """A given `tokenizer.json` of Hugging Face tokenizers."""

    lossless: ClassVar[None] = None  # told by the file, when it is read
    kind: Literal["file"] = "file"
    path: Annotated[str, ByContent(tokenizer_digest)] = Field(
        description="Path or fsspec URL of a tokenizer.json, its folder, or a hub name in the "
        "cache."
    )


class ModelTokenizer(Section):
    """The tokenizer of the registered model that `training.warm_start` names: a recipe that starts
    from one has it, whether it says so or not."""

    lossless: ClassVar[None] = None  # told by the model, when it is fetched
    kind: Literal["model"] = "model"


# Those of which the vocabulary comes from the train split, or from nowhere.
OwnTokenizer = (
    WordTokenizer | BpeTokenizer | WordPieceTokenizer | CharacterTokenizer | ByteTokenizer
)
Tokenizer = Annotated[
    Annotated[OwnTokenizer | FileTokenizer | ModelTokenizer, Field(discriminator="kind")],
    kind_is(lambda value: "file" if "path" in value else "word"),
]


class WindowConfig(Section):
    """How a document's tokens are cut; cutting is not tokenizing, so it trains no tokenizer
    anew."""

    max_length: int = Field(
        default=256,
        ge=4,
        le=8192,
        description="Tokens per window; a longer document becomes several.",
    )
    overlap: int = Field(
        default=32, ge=0, description="Tokens that two neighbouring windows of one document share."
    )
    special_tokens: bool = Field(
        default=True,
        description="Put a given tokenizer's own special tokens ([CLS] … [SEP]) round each window.",
    )

    @model_validator(mode="after")
    def _overlap_fits(self) -> WindowConfig:
        if self.overlap * 2 > self.max_length:
            raise ValueError(
                f"overlap ({self.overlap}) is more than half of max_length ({self.max_length})"
            )
        return self
