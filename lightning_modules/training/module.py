"""The training step, once: loss = mean NLL + beta * KL / N.

N is the number of terms of that mean over the training set, KL the sum over layers in nats, so the loss is the negative
ELBO per term at beta = 1, the same under gradient accumulation and on several devices.
"""

from __future__ import annotations

import math
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from data_contracts.recipe.model import Reparameterization, Sparse, WideFeatures, variational
from data_contracts.recipe.recipe import TrainingConfig
from lightning_modules.kinds.classify.objective import Classification, Validation
from lightning_modules.network.network import TextNetwork
from lightning_modules.reparameterizations import is_noise, kl, mix, redraw, set_mode
from lightning_modules.reparameterizations.seeds import seed_generators
from lightning_modules.reparameterizations.sparse import kept_share, settle
from lightning_modules.training.data import Batch


class TextModule(pl.LightningModule):
    """Trains a reparameterized TextNetwork on what its objective asks for.

    Args:
        total_steps: optimizer steps of the whole training; the schedules of learning rate and beta are shares of it.
        terms: N of KL / N.
        wide: how the network's wide table is trained, where it has one.
    """

    def __init__(
        self,
        network: TextNetwork,
        objective: Classification,
        reparameterization: Reparameterization,
        training: TrainingConfig,
        *,
        total_steps: int,
        terms: int,
        wide: WideFeatures | None = None,
    ) -> None:
        super().__init__()
        self.network, self.objective, self.config = network, objective, training
        self.noise = variational(reparameterization)
        self.total_steps, self.terms, self.wide = total_steps, terms, wide or WideFeatures()
        share = self.noise.prune_until if isinstance(self.noise, Sparse) else 0.0
        self.pruning_steps = math.ceil(share * total_steps)
        self.gradient_norm = torch.zeros(())  # of the last step, before clipping
        self.learning_rate = 0.0  # of the last step
        self.validation: dict[str, float] = {}
        self._found: Validation | None = None
        self._drawn_for: int | None = None

    @property
    def beta(self) -> float:
        """Weight of KL / N at this step: up from 0 over `kl_warmup` of the steps. From global_step, which resumes."""
        if self.noise is None or (isinstance(self.noise, Sparse) and self.settled):
            return 0.0
        rising = self.noise.kl_warmup * self.total_steps
        return self.noise.beta * (min(1.0, self.global_step / rising) if rising else 1.0)

    @property
    def settled(self) -> bool:
        """Whether the network has its final size. Of parameters and global_step alone, so it resumes."""
        if not isinstance(self.noise, Sparse) or self.global_step >= self.pruning_steps:
            return True
        return kept_share(self.network) <= self.noise.keep

    def on_train_start(self) -> None:
        set_mode(self.network, "sample")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Randomness is a function of (seed, step, rank): a resumed training needs no generator state to go on exactly.

        The noise belongs to the optimizer step, so micro-batches of one step share it; dropout is drawn per batch.
        """
        seed_generators(mix(self.config.seed, self.global_step, batch_idx, self.global_rank))
        if self._drawn_for != self.global_step:
            self._drawn_for = self.global_step
            redraw(self.network, mix(self.config.seed, self.global_step, self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        nll, own = self._losses(batch)
        if self.noise is None:
            return {"loss": own, "nll": nll.detach()}
        divergence, beta = kl(self.network), self.beta
        loss = own + (beta / self.terms) * divergence
        return {"loss": loss, "nll": nll.detach(), "kl": divergence.detach(), "beta": beta}

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """NLL of the model, and what is minimized: the same, or the sum of those of its parts, each by itself.

        With logits = (1 - s) f + s g, f and g are ELBOs of their own, as they would be in two trainings.
        """
        ids, lengths = batch["input_ids"], batch["lengths"]
        share = self.wide.share
        if share is None:
            nll = self.objective.loss(self.network(ids, lengths), batch)
            return nll, nll
        deep, wide = cast(tuple[Tensor, Tensor], self.network.parts(ids, lengths))
        own = self.objective.loss(deep / (1 - share), batch) + self.objective.loss(
            wide / share, batch
        )
        return self.objective.loss((deep + wide).detach(), batch), own

    def on_validation_start(self) -> None:
        set_mode(self.network, "mean")
        self._found = self.objective.validation(self.trainer.val_dataloaders.table.num_documents)  # pyright: ignore

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert self._found is not None
        self._found.add(self.network(batch["input_ids"], batch["lengths"]), batch)

    def on_validation_epoch_end(self) -> None:
        """`val/accuracy`, `val/macro_f1` and `val/nll` count documents, as the evaluation of the test split does, so
        that the epoch is kept which serves best; `val/loss` is the objective, a mean over windows plus its KL term."""
        assert self._found is not None
        found, self._found = self._found.metrics(), None
        if self.noise is not None:
            found["loss"] += self.beta / self.terms * float(kl(self.network))
        if self.pruning_steps:
            found["kept_weights"] = kept_share(self.network)
        self.validation = {f"val/{name}": value for name, value in found.items()}

    def on_validation_end(self) -> None:
        set_mode(self.network, "sample")

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any
    ) -> None:
        # Trainer(gradient_clip_val=...) would clip as well, but throw the norm away. Called just before the step, so
        # this is also the rate that the step takes: the scheduler has moved on when the batch ends.
        self.learning_rate = optimizer.param_groups[0]["lr"]
        if isinstance(self.noise, Sparse) and self.settled:
            settle(self.network)
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.gradient_norm = nn.utils.clip_grad_norm_(trained, self.config.gradient_clip)

    def configure_optimizers(self) -> Any:
        """AdamW on what is not frozen; decay on weight matrices only. The noise's own parameters have their own group,
        and so has the wide table where it is trained otherwise than the rest.

        The rate rises over the warm-up, then falls to 0 or stays (schedule).
        """
        rate, config = self.config.learning_rate, self.config
        apart = {"lr": self.wide.learning_rate or rate, "eps": self.wide.epsilon}
        own_table = apart != {"lr": rate, "eps": 1e-8}
        decayed, plain, noise, table = [], [], [], []
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                matrices = table if own_table and name.startswith("wide.") else decayed
                (noise if is_noise(name) else matrices if parameter.ndim > 1 else plain).append(
                    parameter
                )
        factor = self.noise.noise_lr_factor if self.noise else 1.0
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
            {"params": noise, "weight_decay": 0.0, "lr": rate * factor},
            {"params": table, "weight_decay": config.weight_decay, **apart},
        ]
        # A fused step would undo the loss scale of float16 by itself, after the clipping and not before it.
        fused = config.precision != "16-mixed"
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=rate, fused=fused
        )
        rising = round(config.warmup * self.total_steps)

        def share(step: int) -> float:
            if step < rising:
                return (step + 1) / (rising + 1)
            if config.schedule == "constant":
                return 1.0
            return max(0.0, (self.total_steps - step) / max(1, self.total_steps - rising))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = trained_state(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {**frozen_state(self), **checkpoint["state_dict"]}


def frozen_state(module: nn.Module) -> dict[str, Tensor]:
    """The part of a state dict that training leaves as it was built, a backbone's weights: no checkpoint holds it."""
    named = module.named_parameters(remove_duplicate=False)
    return {name: parameter.detach() for name, parameter in named if not parameter.requires_grad}


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """The other part, buffers included."""
    frozen = frozen_state(module)
    return {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}
