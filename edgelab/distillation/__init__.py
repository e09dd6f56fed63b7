"""Distillation: a student learns from what a teacher answers, and not from labels alone.

    history = distill(student, teacher, train, epochs=20, augment=shift)

`distill` is `edgelab.train.fit` with a teacher beside it. What the student has to match is a loss: of the logits
(`losses`), or of the features inside (`features`).
"""

from edgelab.distillation.features import (
    attention_loss,
    attention_map,
    distill_features,
    hint_loss,
    relational_loss,
    tapped,
)
from edgelab.distillation.losses import decoupled_loss, distillation_loss, soft_targets
from edgelab.distillation.training import Ensemble, distill

__all__ = [
    "Ensemble",
    "attention_loss",
    "attention_map",
    "decoupled_loss",
    "distill",
    "distill_features",
    "distillation_loss",
    "hint_loss",
    "relational_loss",
    "soft_targets",
    "tapped",
]
