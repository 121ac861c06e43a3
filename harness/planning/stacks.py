"""Which stages of a plan are trained side by side as one stack: those that share shape."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from harness.planning.encoder import encodings_of
from harness.planning.member_training import batch_size_of
from harness.planning.plan import Plan, StageNode, digest_of

Stack = tuple[StageNode, ...]
"""Stages that are trained side by side; most often one."""

OF_STACK = "stack-"
"""What the names of checkpoints of several stages begin with."""

SIMILAR = 1.5
"""Most steps of an epoch, over fewest, of stages that share a stack: it takes as long as the
longest of them, and a member that has made its steps stands empty until then."""


def share_stacks(stages: Sequence[StageNode], most_members: int | None) -> list[Stack]:
    """Puts stages together that train the same parameters of the same model in like steps.

    They may differ in the dataset, in labels, rows and scalers, in the weights that they start
    from, in learning rates and losses. What comes of a member differs by rounding only (and by
    what `torch.nn.Dropout` draws). It depends on the plan alone which stages share a stack, so that
    the same benchmark gives the same bits.

    Args:
        stages: of the plan, each after its parent.
        most_members: of a stack; None leaves each stage alone.

    Returns:
        All stages, those of one stack together; in the order of the first of each.
    """
    if most_members is None:
        return [(stage,) for stage in stages]
    of_shape: dict[str, list[StageNode]] = {}
    for stage in stages:
        of_shape.setdefault(stage.key if stage.closed_form else _shape(stage), []).append(stage)
    places = {stage.key: place for place, stage in enumerate(stages)}
    stacks = [
        tuple(sorted(stack, key=lambda stage: places[stage.key]))
        for alike in of_shape.values()
        for stack in _filled(sorted(alike, key=_steps), most_members)
    ]
    return sorted(stacks, key=lambda stack: places[stack[0].key])


def stacks_of(plan: Plan, stages: Iterable[StageNode]) -> list[Stack]:
    """Returns stages in the stacks in which a plan has them, each less what is not among them.

    A stage that is not of the plan is alone.
    """
    left = {stage.key: stage for stage in stages}
    places = {key: place for place, key in enumerate(left)}
    shared = share_stacks(plan.stages, plan.benchmark.stack_members)
    found = [tuple(left.pop(node.key) for node in stack if node.key in left) for stack in shared]
    stacks = [*(stack for stack in found if stack), *((stage,) for stage in left.values())]
    return sorted(stacks, key=lambda stack: places[stack[0].key])


def keys_of(stack: Sequence[StageNode]) -> list[str]:
    """What the records of stages that have shared a stack say of it; nothing of one alone."""
    return [stage.key for stage in stack] if len(stack) > 1 else []


def checkpoint_key(stack: Sequence[StageNode]) -> str:
    """Names the checkpoint of a stack: by its stage, or by all of them."""
    keys = keys_of(stack)
    return f"{OF_STACK}{digest_of(keys)}" if keys else stack[0].key


def _filled(stages: Sequence[StageNode], most_members: int) -> list[list[StageNode]]:
    """Fills stack after stack with stages of one shape, shortest epochs first."""
    stacks: list[list[StageNode]] = []
    for stage in stages:
        last = stacks[-1] if stacks else []
        members = sum(len(one.members) for one in (*last, stage))
        if last and members <= most_members and _steps(stage) <= SIMILAR * _steps(last[0]):
            last.append(stage)
        else:
            stacks.append([stage])
    return stacks


def _steps(stage: StageNode) -> int:
    """Steps of an epoch of the member with most rows."""
    size = batch_size_of(stage.member_trainings)
    return max(-(-len(member.train) // size) for member in stage.members)


def _shape(stage: StageNode) -> str:
    """What stages have in common that may share a stack.

    With the length of the chain, so that none shares one with a stage that it goes on from.
    """
    return json.dumps(
        [
            len(stage.chain),
            stage.model.settings,
            encodings_of(stage.model),
            stage.epochs,
            batch_size_of(stage.member_trainings),
            stage.selection.name,
            [data.property.name for data in stage.datasets],
            stage.freeze,
            [group.prefixes for group in stage.member_trainings[0].groups],
            [asdict(adapter) for adapter in stage.adapters],
        ]
    )
