"""Carries out a plan: trains what is missing, scores what is not scored, and tells observers."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.blame import call, using
from harness.closed_form import ask, fit_head
from harness.contracts import FitRows
from harness.encodings import identity, load_encodings
from harness.events import CellFinished, EpochFinished, StageFinished, StageStarted
from harness.ledger import stage_ledger, test_rows
from harness.manifest import environment, peak_memory_mb, threads_wanted, use_threads
from harness.modules import build_backbone, build_head
from harness.prediction import embed, predict, resolve_device
from harness.progress import EpochReport, FitResult
from harness.scores import SUBSETS, score_run, score_stored
from harness.training import Alongside, StackData, TaskData, fit

if TYPE_CHECKING:
    import torch
    from torch import nn

    from harness.contracts import Floats, Pool
    from harness.dataset import Dataset
    from harness.plan import MemberRows, Model, Plan, Scoring, StageNode
    from harness.registry import Registry
    from harness.store import Store

CHECKPOINT_SECONDS = 30.0
"""Shortest time between two checkpoints of a stage: what a kill costs at most, and an epoch."""


def execute(plan: Plan, store: Store, registry: Registry) -> None:
    """Runs every stage and scoring of a plan that is not on disk yet.

    May be called by several processes at once: each stage is taken by one of them.

    Raises:
        HarnessError: weights that fail their verification, no write permission, ….
    """
    _Engine(plan, store, registry).execute()


def pending_stages(plan: Plan, store: Store) -> list[StageNode]:
    """Returns the stages with an unscored cell, and those that they start from, in order."""
    scored = store.scored()
    runs = set(range(1, plan.benchmark.runs + 1))
    needed: set[str] = set()
    for scoring in plan.scorings:
        if not runs <= scored.get(scoring.key, set()):
            needed |= {stage.key for stage in scoring.stage.chain}
    return [stage for stage in plan.stages if stage.key in needed]


def complete_metrics(plan: Plan, store: Store, registry: Registry) -> None:
    """Scores stored rows by metrics that the benchmark has gained since they were predicted."""
    metrics = {name: registry.metrics[name] for name in plan.benchmark.metrics}
    keys = {scoring.key for scoring in plan.scorings}
    mended = {}
    for line in store.read_results():
        if line["key"] in keys and not metrics.keys() <= line["scores"]["all"].keys():
            scores = score_stored(metrics, store.read_predictions(line["key"]), line["run"])
            mended[line["key"], line["run"]] = {**line, "scores": _jsonable(scores)}
    if mended:
        store.replace_results(mended)


class _Engine:
    def __init__(self, plan: Plan, store: Store, registry: Registry) -> None:
        self.plan = plan
        self.store = store
        self.registry = registry
        self.device = resolve_device(plan.benchmark.device)
        use_threads(threads_wanted())
        self.metrics = {name: registry.metrics[name] for name in plan.benchmark.metrics}
        self._pools: dict[tuple[str, str], Pool] = {}
        self._work_done = 0
        self._work_total = 0

    def execute(self) -> None:
        pending = pending_stages(self.plan, self.store)
        total = len(pending)
        self._work_total = sum(node.work for node in pending)
        while pending:
            node = self._take_one(pending, total)
            if node is None:
                time.sleep(0.2)  # other processes hold all stages that could be trained now
            else:
                pending.remove(node)
                self._work_done += node.work

    def _take_one(self, pending: list[StageNode], total: int) -> StageNode | None:
        done = total - len(pending)
        for node in pending:
            if node.parent and not self.store.has_stage(node.parent.key):
                continue
            with self.store.try_stage(node.key) as mine:
                if mine:
                    if not self.store.has_stage(node.key):
                        self._train(node, done, total)
                    self._score(node)
                    return node
        return None

    # --- training -----------------------------------------------------------------------------

    def _train(self, node: StageNode, done: int, total: int) -> None:
        started = time.perf_counter()
        self._tell(
            "stage_started",
            StageStarted(node.key, node.title, len(node.members), _epochs(node), done, total),
        )
        model = self._modules(node)
        transferred = self._start_weights(node, model)
        result = None if node.closed_form else self._fit(node, model)
        seconds = time.perf_counter() - started
        if result is not None:
            seconds = result.seconds  # of earlier sessions too, where the fit was resumed
        record = self._record(node, result, transferred, seconds)
        self.store.write_stage(node.key, _tensors(model), record, stage_ledger(node))
        self._tell("stage_finished", StageFinished(node.key, node.title, seconds, done + 1, total))

    def _fit(self, node: StageNode, model: nn.ModuleDict) -> FitResult:
        epochs = node.training.epochs

        def tell(epoch: EpochReport) -> None:
            event = EpochFinished(
                node.key,
                node.title,
                epoch.epoch,
                epochs,
                node.protocol.rules.selection,
                epoch.score,
                epoch.skipped,
                (self._work_done + node.work * epoch.epoch / epochs) / self._work_total,
            )
            self._tell("epoch_finished", event)

        return fit(
            model["backbone"],
            model["head"],
            self._stack_data(node),
            node.training,
            freeze=node.freeze,
            groups=node.groups,
            alongside=self._alongside(node, model),
            selection=self.registry.metrics[node.protocol.rules.selection],
            device=self.device,
            checkpoint=self.store.checkpoint_path(node.key),
            checkpoint_seconds=CHECKPOINT_SECONDS,
            identity=node.key,
            on_epoch=tell,
        )

    def _modules(self, node: StageNode) -> nn.ModuleDict:
        """Makes the stacked backbone and, unless it is fitted in closed form, the heads."""
        import torch
        from torch import nn

        generators = [torch.Generator().manual_seed(m.init_seed) for m in node.members]
        parts = {"backbone": build_backbone(node.model, generators)}
        if node.model.head.make is not None:
            heads = [build_head(node.model, generators) for _ in node.datasets]
            parts["head"] = heads[0]
            if node.alongside:
                parts["alongside"] = nn.ModuleList(heads[1:])
        return nn.ModuleDict(parts).to(self.device)

    def _start_weights(self, node: StageNode, model: nn.ModuleDict) -> Mapping[str, Any]:
        """Puts the starting weights in place; returns what the record says of them."""
        if node.parent is not None:
            tensors, _ = self.store.read_stage(node.parent.key)
            for part in ("backbone", "head"):  # heads of other datasets do not go on
                own = {k: t for k, t in tensors.items() if k.startswith(f"{part}.")}
                model[part].load_state_dict({k.removeprefix(f"{part}."): own[k] for k in own})
            return {"tensors": sum(not key.startswith("alongside.") for key in tensors)}
        if node.weights is not None:
            function = node.model.backbone.load_pretrained
            action = f"loading the weights {node.weights.name!r}"
            record: Mapping[str, Any] = call(
                function, model["backbone"], node.weights, action=action, returns=Mapping
            )
            return record
        return {"tensors": 0}

    def _stack_data(self, node: StageNode) -> StackData:
        return StackData(
            **self._task(node.dataset, node.model, node.members),
            validation=[member.validation for member in node.members],
        )

    def _alongside(self, node: StageNode, model: nn.ModuleDict) -> list[Alongside]:
        heads = model["alongside"].children() if node.alongside else iter(())
        tasks = []
        for head, other in zip(heads, node.alongside, strict=True):
            data = TaskData(**self._task(other.dataset, node.model, other.members))
            tasks.append(Alongside(head, data, other.weight))
        return tasks

    def _task(
        self, dataset: Dataset, model: Model, members: Sequence[MemberRows]
    ) -> dict[str, Any]:
        """What `TaskData` wants to know of a dataset."""
        return {
            "pool": self._pool(dataset, model),
            "train": [member.train for member in members],
            "labels": np.stack([member.labels for member in members]),
            "scalers": [member.scaler for member in members],
            "seeds": [member.shuffle_seed for member in members],
        }

    def _pool(self, dataset: Dataset, model: Model) -> Pool:
        key = (dataset.digest, f"{identity(model.backbone)} {model.backbone_code}")
        if key not in self._pools:
            # Encodings of other code, of this plugin or of another that also says `v1`, lie apart.
            folder = self.plan.locations.cache / "encodings" / model.backbone_code
            encodings = load_encodings(model.backbone, dataset.crystals, folder)
            with using(model.backbone.pool, f"packing the crystals of {dataset.name!r}"):
                self._pools[key] = model.backbone.pool(encodings, self.device)
        return self._pools[key]

    def _record(
        self,
        node: StageNode,
        result: FitResult | None,
        transferred: Mapping[str, Any],
        seconds: float,
    ) -> dict[str, Any]:
        return {
            **node.facts(),
            "transferred": dict(transferred),
            "best_epoch": list(result.best_epoch) if result else None,
            "skipped_updates": list(result.skipped) if result else None,
            "history": _jsonable(result.history) if result else None,
            "member_epochs": result.member_epochs if result else 0,
            "seconds": seconds,
            "peak_memory_mb": peak_memory_mb(),
            "environment": environment(self.device),
        }

    # --- scoring ------------------------------------------------------------------------------

    def _score(self, node: StageNode) -> None:
        scored = self.store.scored()
        runs = {member.run for member in node.members}
        todo = [
            scoring
            for scoring in self.plan.scorings
            if scoring.stage is node and not runs <= scored.get(scoring.key, set())
        ]
        if not todo:
            return
        model = self._modules(node)
        tensors, record = self.store.read_stage(node.key)
        model.load_state_dict(tensors)
        for scoring in todo:
            predictions, spreads = self._predict(node, model, scoring)
            rows = test_rows(scoring).assign(prediction=np.concatenate(predictions))
            if spreads:
                rows["std_log"] = np.concatenate(spreads)
            self.store.write_predictions(scoring.key, rows)
            self.store.append_results(self._result_lines(scoring, predictions, record))
            self._tell("cell_finished", CellFinished(**vars(scoring.cell), runs=len(runs)))

    def _predict(
        self, node: StageNode, model: nn.ModuleDict, scoring: Scoring
    ) -> tuple[list[Floats], list[Floats]]:
        """Returns κ (W/(m·K)) of every run's test rows, and std of log10 κ if the head gives it."""
        pool = self._pool(scoring.dataset, node.model)
        if node.model.head.fit is None:
            scalers = [member.scaler for member in node.members]
            parts = model["backbone"], model["head"]
            return predict(*parts, pool, scoring.rows, scalers, device=self.device), []
        own = self._pool(node.dataset, node.model)
        rows = [member.train for member in node.members]
        trained = embed(model["backbone"], own, rows, device=self.device)
        tested = embed(model["backbone"], pool, scoring.rows, device=self.device)
        predictions, spreads = [], []
        for member, known, asked in zip(node.members, trained, tested, strict=True):
            labels = member.labels[member.train]
            fit_rows = FitRows(known, labels, member.scaler, member.init_seed)
            kappa, std_log = ask(node.model, fit_head(node.model, fit_rows), asked)
            predictions.append(kappa)
            if std_log is not None:
                spreads.append(std_log)
        return predictions, spreads

    def _result_lines(
        self, scoring: Scoring, predictions: list[Floats], record: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        stage = scoring.stage
        lines = []
        for index, member in enumerate(stage.members):
            scores = score_run(
                self.metrics, scoring.labels[index], predictions[index], scoring.overlap[index]
            )
            lines.append(
                {
                    "key": scoring.key,
                    **vars(scoring.cell),
                    "run": member.run,
                    "scores": _jsonable({subset: scores[subset] for subset in SUBSETS}),
                    "stage": stage.key,
                    "train_rows": len(member.train),
                    "best_epoch": record["best_epoch"] and record["best_epoch"][index],
                    "epochs": _epochs(stage),
                    "skipped_updates": record["skipped_updates"]
                    and record["skipped_updates"][index],
                    "datasets": {
                        data.name: {"digest": data.digest, "rows": len(data)}
                        for node in stage.chain
                        for data in (*node.datasets, scoring.dataset)
                    },
                }
            )
        return lines

    def _tell(self, hook: str, event: object) -> None:
        """Tells every observer; one that raises is reported and costs nothing."""
        for implementation in getattr(self.registry.manager.hook, hook).get_hookimpls():
            try:
                implementation.function(event)
            except Exception as problem:  # an observer is somebody else's code
                warnings.warn(
                    f"The observer {implementation.plugin_name!r} failed in {hook}: "
                    f"{type(problem).__name__}: {problem}",
                    stacklevel=2,
                )


def _epochs(node: StageNode) -> int:
    return 0 if node.closed_form else node.training.epochs


def _tensors(model: nn.ModuleDict) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    return {key: tensor.detach().cpu().clone().contiguous() for key, tensor in state.items()}


def _jsonable(value: Any) -> Any:
    """Numbers that JSON does not have (NaN, ±inf) become null; arrays become lists."""
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_jsonable(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
