"""A Hugging Face backbone as an encoder: token ids in, one vector per document out.

    z = 1/T sum_t h_t (mean), h_1 (cls), h_T (last), h the last hidden states, T the document's own
    length

It is built from its configuration alone: no file is read, and no code runs but that of
`transformers`, which is imported when such a network is built. Shapes: B batch, T positions, H
hidden size.
This file is shipped inside the registered model: it imports torch and `pooling`, nothing else of
this repository.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.network.encoders.pooling import masked_mean


class PretrainedEncoder(nn.Module):
    """AutoModel of a description {"config": the backbone's config.json, "pooling": "mean" | "cls" |
    "last"}.

    Its weights are left as the memory holds them: load a state dict, or put a loaded model in place
    of `backbone`. Its own dropout works in train(), as the config says, and not in eval(); the
    modes of the methods have no part in it.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel
        from transformers.initialization import no_init_weights

        config = dict(description["config"])
        _refuse_other_code(config)
        with no_init_weights():
            model = AutoModel.from_config(
                AutoConfig.for_model(config["model_type"]).from_dict(config)
            )
        self.backbone: nn.Module = without_pooler(model)
        self.pooling: str = description["pooling"]
        self.output_size: int = model.config.hidden_size
        self.position_size = self.output_size

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "pretrained",
            "config": describe_config(self.backbone.config),
            "pooling": self.pooling,
        }

    def states(self, input_ids_BT: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        """The last hidden state at each position (B, T, H)."""
        out = self.backbone(input_ids=input_ids_BT, attention_mask=mask_BT.long())
        return out.last_hidden_state

    def forward(self, input_ids_BT: Tensor, lengths_B: Tensor, mask_BT: Tensor) -> Tensor:
        h_BTH = self.states(input_ids_BT, lengths_B, mask_BT)
        if self.pooling == "mean":
            return masked_mean(h_BTH, lengths_B, mask_BT)
        if self.pooling == "cls":
            return h_BTH[:, 0]
        return h_BTH[torch.arange(lengths_B.shape[0], device=lengths_B.device), lengths_B - 1]

    @property
    def causal(self) -> bool:
        """Whether a position knows nothing of what stands behind it."""
        from transformers.models.auto import modeling_auto as auto

        config: Any = self.backbone.config
        kind = config.model_type
        return (
            kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
            and kind not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        )

    def read(self, input_ids_BT: Tensor, carry: Reading | None = None) -> tuple[Tensor, Reading]:
        """The state at every position (B, T, H), and what to go on from.

        Where the backbone's positions end, it begins anew with the later half of what they held.
        """
        config: Any = self.backbone.config
        limit: int | None = getattr(config, "max_position_embeddings", None)
        most = input_ids_BT.shape[1] if limit is None else max(1, limit // 2)
        states: list[Tensor] = []
        for piece in input_ids_BT.split(most, dim=1):
            state, carry = self._go_on(piece, carry, limit)
            states.append(state)
        assert carry is not None  # something is read
        return torch.cat(states, dim=1), carry

    def _go_on(
        self, ids_BT: Tensor, carry: Reading | None, limit: int | None
    ) -> tuple[Tensor, Reading]:
        """Read at most half of the positions."""
        from transformers import DynamicCache

        config: Any = self.backbone.config
        known = ids_BT[:, :0] if carry is None else carry.ids
        together = torch.cat([known, ids_BT], dim=1)
        if carry is not None and (limit is None or together.shape[1] <= limit):
            out = self.backbone(input_ids=ids_BT, past_key_values=carry.cache, use_cache=True)
            return out.last_hidden_state, Reading(together, out.past_key_values)
        # Positions are counted from 0 again.
        fitting = together.shape[1] if limit is None else min(together.shape[1], limit // 2)
        read = together[:, together.shape[1] - max(fitting, ids_BT.shape[1]) :]
        cache = DynamicCache(config=config)
        out = self.backbone(input_ids=read, past_key_values=cache, use_cache=True)
        own = out.last_hidden_state[:, read.shape[1] - ids_BT.shape[1] :]
        return own, Reading(read, out.past_key_values)


class Reading(NamedTuple):
    """What a backbone goes on from."""

    ids: Tensor  # (B, C) what its cache holds
    cache: Any  # transformers' own


def _refuse_other_code(config: dict[str, Any]) -> None:
    """Text models that transformers holds itself, with its own attention: other kinds fetch files
    or code by name.

    Raises:
        ValueError: naming what is refused.
    """
    from transformers.models.auto import modeling_auto as auto

    known = (
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys()
        | auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys()
    )
    if config.get("model_type") not in known:
        raise ValueError(f"{config.get('model_type')!r} is no text model of transformers")
    refused = [
        key
        for key in config
        if key.lstrip("_").startswith(("auto_map", "attn_implementation", "quantization"))
    ]
    if refused:
        raise ValueError(f"its config names {', '.join(refused)}, which may bring code of its own")


def without_pooler(model: nn.Module) -> nn.Module:
    """BERT's kin bring a layer for another task, which would be trained, stored and never read."""
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.register_module("pooler", None)
    return model


def describe_config(config: Any) -> dict[str, Any]:
    """The configuration as JSON, without where it came from and which version of the library wrote
    it.
    """
    known = json.loads(config.to_json_string(use_diff=True))
    return {
        key: value
        for key, value in known.items()
        if key != "transformers_version" and not key.startswith("_")
    }
