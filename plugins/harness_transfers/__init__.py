"""Transfer strategies: those of the published study, and common ways to fine-tune."""

from __future__ import annotations

from collections.abc import Iterable

from harness.plugin import Range, Settings, TransferSpec, hookimpl
from harness_transfers import strategies as s


@hookimpl
def register_transfers() -> Iterable[TransferSpec]:
    """Offers the published steps I, II and III, seven more strategies, and `fixed`."""
    yield TransferSpec(
        "fixed",
        "a backbone that is never trained, and the head; is chosen by itself",
        stages=s.fixed,
    )
    yield TransferSpec("scratch", "random weights, then the target (step I)", Settings, s.scratch)
    yield TransferSpec(
        "pretrained", "pretrained backbone, then the target (step II)", Settings, s.pretrained
    )
    yield TransferSpec(
        "two-stage",
        "one source dataset or more, then the target (step III)",
        s.TwoStage,
        s.two_stage,
    )
    yield TransferSpec(
        "frozen",
        "only the head is trained, and the last layers of the backbone if asked for",
        s.Frozen,
        s.frozen,
        {"layers": Range(1, 8)},
    )
    yield TransferSpec(
        "gradual-unfreeze",
        "the head first, then one more layer at a time",
        s.GradualUnfreeze,
        s.gradual_unfreeze,
        {"until": Range(0.1, 0.9)},
    )
    yield TransferSpec(
        "layerwise-lr",
        "lower layers learn more slowly",
        s.LayerwiseLr,
        s.layerwise_lr,
        {"decay": Range(0.3, 1.0)},
    )
    yield TransferSpec(
        "l2-sp",
        "a penalty towards the starting weights",
        s.L2Sp,
        s.l2_sp,
        {"strength": Range(1e-4, 1.0, log=True)},
    )
    yield TransferSpec(
        "bitfit",
        "the head and the backbone's biases",
        s.BitFit,
        s.bitfit,
        {"lr_factor": Range(0.3, 10.0, log=True)},
    )
    yield TransferSpec(
        "lora",
        "the head and low-rank updates of the backbone's linear layers",
        s.Lora,
        s.lora,
        {"rank": Range(1, 16, log=True), "alpha": Range(1.0, 64.0, log=True)},
    )
    yield TransferSpec(
        "joint",
        "sources and target at the same time, one head each",
        s.Joint,
        s.joint,
        {"source_weight": Range(0.03, 3.0, log=True)},
    )
