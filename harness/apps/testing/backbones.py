"""Cases of backbones: crystal → arrays → stacked embedding."""

from __future__ import annotations

import pickle
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.apps.testing.crystals import (
    element_crystal,
    moved,
    reordered,
    sample_crystals,
    supercell,
)
from harness.apps.testing.promises import broken, promise, skip
from harness.apps.testing.randomness import global_seed
from harness.apps.testing.stacked import (
    EIGHT_KAPPA,
    RMSE_LOG,
    SEEDS,
    Specimen,
    StackCases,
    eight,
    with_parameters,
)
from harness.errors import BenchmarkError, CannotEncode, WeightsError
from harness.nn.encodings import STORABLE, encode_together, load_encodings
from harness.planning.component_ref import ComponentRef
from harness.planning.configurations import named_weights, resolve_backbone
from harness.planning.trainable import lies_under
from harness.plugin.backbone import Backbone, BackboneSpec, PretrainedWeights
from harness.plugin.crystal import SYMBOLS, Crystal
from harness.plugin.transfer import Adapter

if TYPE_CHECKING:
    from torch import nn

    from harness.plugin.backbone import Invariance

_WRITTEN_OTHERWISE: dict[Invariance, tuple[Callable[[Crystal], Crystal], ...]] = {
    "permutation": (reordered,),
    "supercell": (
        lambda crystal: supercell(crystal, (2, 1, 1)),
        lambda crystal: supercell(crystal, (1, 2, 2)),
    ),
    "motion": (moved,),
}


class BackboneSpecimen(Specimen):
    """A backbone with sample crystals."""

    def __init__(self, backbone: Backbone, crystals: Sequence[Crystal]) -> None:
        from harness.apps.testing.modules import CPU

        self.backbone = backbone
        self.samples = len(crystals)
        self.tail = (backbone.width,)
        self.pool = backbone.pool([backbone.encode(crystal) for crystal in crystals], CPU)

    def build(self, seeds: Sequence[int]) -> nn.Module:
        """Makes a stack."""
        from harness.apps.testing.modules import generators

        return self.backbone.build(generators(seeds))

    def whole(self, module: nn.Module, seeds: Sequence[int]) -> tuple[nn.Module, nn.Module]:
        """Puts a small head after the backbone."""
        from harness.apps.testing.modules import SmallHead

        return module, SmallHead(self.backbone.width, seeds)


class BackboneCases(StackCases):
    """What a backbone promises.

    Attributes:
        crystals: to try it on, at least eight of different formulas; samples unless given.
    """

    spec_type = BackboneSpec
    crystals: Sequence[Crystal] = ()

    def specimen(self, spec: BackboneSpec) -> BackboneSpecimen:
        """Makes the backbone, and encodes the crystals."""
        backbone = self._backbone(spec)
        return BackboneSpecimen(backbone, self._crystals(backbone))

    def test_backbone_says_what_it_is(self, spec: BackboneSpec) -> None:
        """Width, elements, encoding and invariances are declared."""
        backbone = self._backbone(spec)
        promise(
            isinstance(backbone.width, int) and backbone.width > 0,
            "`width` is a positive whole number",
            repr(backbone.width),
            "set it to the length of the embedding",
        )
        promise(
            isinstance(backbone.encoding, str) and backbone.encoding.strip() != "",
            "`encoding` names everything that decides what `encode` gives",
            repr(backbone.encoding),
            "name it, with a version and the settings that matter, as 'my-graph-1 cutoff=4.0'",
        )
        widths = [width for _, width in backbone.blocks]
        promise(
            not widths or (min(widths) > 0 and sum(widths) == backbone.width),
            "the widths of `blocks`, where there are any, sum to `width`",
            f"{widths} and {backbone.width}",
            "give name and width of every part of the embedding, or leave `blocks` out",
        )
        strange = sorted(set(backbone.invariances) - set(_WRITTEN_OTHERWISE))
        promise(
            not strange,
            f"`invariances` are among {', '.join(_WRITTEN_OTHERWISE)}",
            ", ".join(strange),
            "declare those that hold",
        )

    def test_declared_elements_work(self, spec: BackboneSpec) -> None:
        """Every element that the backbone claims to know has a finite embedding."""
        backbone = self._backbone(spec)
        strange = sorted(set(backbone.elements) - set(SYMBOLS))
        promise(
            bool(backbone.elements) and not strange,
            "`elements` are symbols of the periodic table, at least one",
            ", ".join(strange) or "none",
            "take them from harness.plugin.SYMBOLS",
        )
        known = sorted(backbone.elements, key=SYMBOLS.index)
        crystals = {}
        for symbol in known:
            try:
                backbone.encode(element_crystal(symbol))
                crystals[symbol] = element_crystal(symbol)
            except CannotEncode:  # it knows the element, and takes this for no crystal of it
                continue
            except Exception as problem:
                broken(
                    "`encode` takes every element in `elements`",
                    f"{symbol} raised {type(problem).__name__}: {problem}",
                    "take the element out of `elements`, so that its rows are left out with a "
                    "reason, or teach the backbone",
                )
        if not crystals:
            skip("it refuses every element as face-centred cubic, 4.2 Å")
        thing = BackboneSpecimen(backbone, list(crystals.values()))
        finite = thing.output(thing.build(SEEDS[:1]), thing.all_rows(1))[0].isfinite().all(-1)
        bad = [s for s, good in zip(crystals, finite.tolist(), strict=True) if not good]
        promise(
            not bad,
            "every element in `elements` has a finite embedding",
            f"not so for {', '.join(bad[:5])}",
            "take the elements out of `elements`, or see what is missing for them",
        )

    def test_encodings_are_arrays_of_numbers(self, spec: BackboneSpec) -> None:
        """`encode` gives numpy arrays that a file can hold, and leaves the crystal alone."""
        backbone = self._backbone(spec)
        for crystal in self._crystals(backbone):
            before = _copy(crystal)
            encoding = backbone.encode(crystal)
            promise(
                isinstance(encoding, dict) and bool(encoding),
                "`encode` returns a dict of arrays",
                repr(encoding)[:80],
                "return {name: numpy array, …}",
            )
            for name, array in encoding.items():
                storable = isinstance(array, np.ndarray) and array.dtype.name in STORABLE
                promise(
                    isinstance(name, str) and storable,
                    "arrays of numbers, by name",
                    f"{name!r} is {getattr(array, 'dtype', type(array).__name__)}",
                    "use numpy arrays of integers or floats",
                )
            promise(
                _copy(crystal).digest == before.digest,
                "`encode` leaves the crystal as it is",
                f"{crystal.formula} was changed",
                "work on copies",
            )

    def test_encoding_depends_on_the_crystal_alone(self, spec: BackboneSpec) -> None:
        """Equal crystals have equal encodings, from another backbone of these settings too."""
        first, second = self._backbone(spec), self._backbone(spec)
        for crystal in self._crystals(first):
            with global_seed(1):
                one = first.encode(crystal)
            with global_seed(2):
                other = second.encode(_copy(crystal))
            _same_arrays(
                one, other, crystal, "draw no random numbers, keep no state, sort what comes out"
            )
        promise(
            first.encoding == second.encoding,
            "`encoding` is the same for the same settings",
            f"{first.encoding!r}, then {second.encoding!r}",
            "build it from the settings alone",
        )

    def test_crystals_encoded_together_are_as_one_by_one(self, spec: BackboneSpec) -> None:
        """`encode_all` gives what `encode` gives, whichever crystals stand beside."""
        backbone = self._backbone(spec)
        crystals = self._crystals(backbone)
        for some in (crystals, crystals[:1], crystals[::-1]):
            for crystal, together in zip(some, encode_together(backbone, some), strict=True):
                _same_arrays(
                    backbone.encode(crystal),
                    together,
                    crystal,
                    "keep crystals apart in `encode_all`",
                )

    def test_encodings_survive_the_cache(self, spec: BackboneSpec) -> None:
        """Encodings read from the cache on disk are what was written."""
        backbone = self._backbone(spec)
        crystals = self._crystals(backbone)
        with tempfile.TemporaryDirectory(prefix="harness-") as folder, warnings.catch_warnings():
            warnings.simplefilter("error")  # a cache that cannot be written only warns
            written = load_encodings(backbone, crystals, Path(folder), workers=1)
            read = load_encodings(backbone, crystals, Path(folder), workers=1)
        for crystal, one, other in zip(crystals, written, read, strict=True):
            _same_arrays(one, other, crystal, "use plain arrays of numbers, at least one per name")

    def test_backbone_can_work_in_other_processes(self, spec: BackboneSpec) -> None:
        """The backbone can be pickled, so that several processes share the encoding (optional)."""
        backbone = self._backbone(spec)
        try:
            again = pickle.loads(pickle.dumps(backbone))  # noqa: S301
        except Exception as problem:
            skip(f"optional, and not so: crystals are encoded in one process only ({problem})")
        crystal = self._crystals(backbone)[0]
        _same_arrays(
            backbone.encode(crystal),
            again.encode(crystal),
            crystal,
            "pickle all that is used",
        )

    def test_pool_holds_every_crystal(self, spec: BackboneSpec) -> None:
        """The pool has as many crystals as it was given, and leaves the asked rows alone."""
        thing = self.specimen(spec)
        promise(
            len(thing.pool) == thing.samples,
            f"the pool holds {thing.samples} crystals",
            f"its length is {len(thing.pool)}",
            "return the number of encodings from `__len__`",
        )
        rows = thing.rows(2)
        rows[0, -1] = -1
        before = rows.copy()
        thing.pool.batch(rows)
        promise(
            np.array_equal(rows, before),
            "`batch` leaves the array of rows as it is",
            "the rows were changed",
            "work on a copy",
        )

    def test_empty_places_do_no_harm(self, spec: BackboneSpec) -> None:
        """Empty places (−1) give finite embeddings and gradients, and change no neighbour."""
        import torch

        from harness.apps.testing.modules import trainable

        thing = self.specimen(spec)
        module = thing.build(SEEDS)
        full = thing.rows(len(SEEDS))
        rows = full.copy()
        rows[0, 1] = rows[0, 3] = -1
        rows[2] = -1  # a member whose rows have run out
        output = thing.graph(module, rows)
        promise(
            bool(output.isfinite().all()),
            "finite embeddings in empty places",
            "NaN or infinity",
            "put zeros there (a mean over no atoms divides by zero)",
        )
        taken = torch.as_tensor(rows >= 0)
        self._same(
            output.detach()[taken],
            thing.output(module, full)[taken],
            "empty places change no other embedding",
            "the places that are taken",
            "leave empty places out of every sum and mean",
        )
        if named := trainable(module):
            gradients = torch.autograd.grad(
                output[taken].sum(), list(named.values()), materialize_grads=True
            )
            bad = [n for n, g in zip(named, gradients, strict=True) if not g.isfinite().all()]
            promise(
                not bad,
                "finite gradients beside empty places",
                f"not so for {', '.join(bad[:3])}",
                "NaN times zero is NaN: mask before dividing, not after",
            )

    def test_order_of_sites_does_not_matter(self, spec: BackboneSpec) -> None:
        """If declared: the same crystal with its sites in another order has the same embedding."""
        self._check_invariance(spec, "permutation")

    def test_choice_of_cell_does_not_matter(self, spec: BackboneSpec) -> None:
        """If declared: several cells written as one have the same embedding."""
        self._check_invariance(spec, "supercell")

    def test_rotation_and_origin_do_not_matter(self, spec: BackboneSpec) -> None:
        """If declared: a rotated and shifted crystal has the same embedding."""
        self._check_invariance(spec, "motion")

    def test_every_parameter_is_in_one_layer(self, spec: BackboneSpec) -> None:
        """Where layers are declared, each trainable parameter is in exactly one."""
        from harness.apps.testing.modules import trainable

        backbone = self._backbone(spec)
        if not backbone.layers:
            skip("no layers declared: all of the backbone is one")
        names = list(trainable(self.specimen(spec).build(SEEDS[:1])))
        prefixes = [prefix for layer in backbone.layers for prefix in layer]
        for prefix in prefixes:
            promise(
                any(lies_under(name, [prefix]) for name in names),
                "every prefix in `layers` names trainable parameters",
                f"{prefix!r} names none",
                f"parameters: {', '.join(names[:8])}, …",
            )
        for name in names:
            number = sum(lies_under(name, [prefix]) for prefix in prefixes)
            promise(
                number == 1,
                "every trainable parameter is in exactly one layer",
                f"{name!r} is in {number}",
                "let the prefixes cover all parameters, and none twice",
            )

    def test_frozen_layers_stay(self, spec: BackboneSpec) -> None:
        """Training leaves a frozen layer as it is, bit by bit, and moves the others."""
        backbone = self._backbone(spec)
        thing = self.specimen(spec)
        with_parameters(thing.build(SEEDS[:1]))
        layers = [tuple(f"backbone.{prefix}" for prefix in layer) for layer in backbone.layers]
        for frozen in [("backbone",), *(layers if len(layers) > 1 else [])]:
            moved_names = _trained_names(thing, frozen)
            stuck = [name for name in moved_names if lies_under(name, frozen)]
            promise(
                not stuck,
                f"freeze = {frozen} keeps these parameters",
                f"{', '.join(stuck[:3])} moved",
                "change no weights or buffers in `forward`",
            )
            for other in (*(layer for layer in layers if layer != frozen), ("head",)):
                if frozen == ("backbone",) and other != ("head",):
                    continue
                promise(
                    any(lies_under(name, other) for name in moved_names),
                    f"freeze = {frozen} lets the others learn",
                    f"nothing in {other} moved",
                    "see that gradients flow around the frozen layer, with no `no_grad` or detach",
                )

    def test_linear_layers_take_adapters(self, spec: BackboneSpec) -> None:
        """Low-rank updates of linear layers begin at nothing, and move nothing else."""
        import torch
        from torch import nn

        from harness.planning.adapted_weights import find_adapted
        from harness.training.low_rank_updates import LowRankUpdates

        thing = self.specimen(spec)
        module = with_parameters(thing.build(SEEDS))
        rows, everything = thing.rows(len(SEEDS)), (Adapter(("backbone",), 1, 1.0),)
        whole = nn.ModuleDict({"backbone": module})
        try:
            adapted = find_adapted(whole, everything)
        except BenchmarkError:
            skip("there are no linear layers that could be adapted")
        before = thing.output(module, rows)
        LowRankUpdates(adapted, SEEDS).write()
        promise(
            torch.equal(thing.output(module, rows), before),
            "an update that has not been trained leaves the output as it is, bit by bit",
            "another output",
            "read weights in `forward`, and keep no copies of them elsewhere",
        )
        moved = _trained_names(thing, ("backbone",), everything)
        stray = [n for n in moved if n.startswith("backbone.") and n not in adapted]
        promise(
            not stray and not adapted.keys().isdisjoint(moved),
            "training low-rank updates moves weights of linear layers, and nothing else",
            f"{', '.join(stray[:3]) or 'nothing of the backbone'} moved",
            "see that gradients reach every weight, and change none in `forward`",
        )

    def test_a_fixed_backbone_has_nothing_to_train(self, spec: BackboneSpec) -> None:
        """If declared fixed: the module has no parameters."""
        backbone = self._backbone(spec)
        if not backbone.fixed:
            skip("the backbone is not declared fixed")
        names = [name for name, _ in self.specimen(spec).build(SEEDS[:1]).named_parameters()]
        promise(
            not names,
            "`fixed` is declared: there are no parameters",
            f"{', '.join(names[:3])}",
            "compute the embedding in `encode`, as FixedFeatures does, or do not declare it",
        )

    def test_pretrained_weights_load(self, spec: BackboneSpec) -> None:
        """Pretrained weights fill every member alike, and the record says how many tensors."""
        from harness.apps.testing.modules import copied

        backbone = self._backbone(spec)
        weights = self._weights(backbone)
        thing = self.specimen(spec)
        module = thing.build(SEEDS)
        before = copied(module)
        record = backbone.load_pretrained(module, weights)
        tensors = record.get("tensors")
        promise(
            isinstance(tensors, int) and tensors > 0,
            "`load_pretrained` returns `tensors`, how many were transferred",
            repr(tensors),
            "count them; loading with strict=False may transfer nothing and say nothing",
        )
        loaded = [
            name for name, tensor in module.state_dict().items() if not tensor.equal(before[name])
        ]
        promise(
            bool(loaded),
            "pretrained weights change the module",
            "every parameter is as before",
            "see that keys match (a prefix such as 'model.' may stand before them)",
        )
        parameters = dict(module.named_parameters())
        unequal = [
            name
            for name in loaded
            if name in parameters and not (parameters[name] == parameters[name][:1]).all()
        ]
        promise(
            not unequal,
            "every member gets the same pretrained weights",
            f"members differ in {', '.join(unequal[:3])}",
            "copy into the whole members axis, and all of each parameter",
        )

    def test_pretrained_embeddings_keep_the_invariances(self, spec: BackboneSpec) -> None:
        """The declared invariances hold with pretrained weights too."""
        backbone = self._backbone(spec)
        weights = self._weights(backbone)
        for invariance in sorted(backbone.invariances):
            self._compare(backbone, invariance, weights)

    def _backbone(self, spec: BackboneSpec) -> Backbone:
        settings = self.made_settings(spec)
        if spec.made_of:  # of others that are looked up by name, as in a benchmark
            named = ComponentRef.model_validate({"name": spec.name, **self.given(spec)})
            return resolve_backbone(named, self._registry(), self._locations()).backbone
        given = [named_weights(spec, settings, self._locations())] if spec.weights_in else []
        backbone: Any = spec.make(settings, *given)
        promise(
            isinstance(backbone, Backbone),
            "`make` returns a harness.plugin.Backbone",
            f"a {type(backbone).__name__}",
            "derive from Backbone, or wrap the model in Stacked",
        )
        made: Backbone = backbone
        return made

    def _crystals(self, backbone: Backbone) -> list[Crystal]:
        crystals = self.crystals or sample_crystals()
        known = [c for c in crystals if _can_be_encoded(c, backbone)]
        promise(
            len({crystal.formula for crystal in known}) >= len(EIGHT_KAPPA),
            f"{len(EIGHT_KAPPA)} crystals of different formulas that it can encode",
            f"{len(known)} of {len(crystals)} crystals",
            "give `crystals` to the cases, or complete `elements`",
        )
        return known

    def _weights(self, backbone: Backbone) -> PretrainedWeights:
        if not backbone.offers_weights:
            skip("the backbone offers no pretrained weights")
        if backbone.fixed:
            skip("the backbone is fixed: there is nothing to load")
        try:
            return backbone.find_pretrained(self._locations())
        except WeightsError as problem:
            skip(f"the weights are not on this machine: {problem}")

    def _check_invariance(self, spec: BackboneSpec, invariance: Invariance) -> None:
        backbone = self._backbone(spec)
        if invariance not in backbone.invariances:
            skip(f"{invariance!r} is not among the declared invariances")
        self._compare(backbone, invariance)

    def _compare(
        self, backbone: Backbone, invariance: Invariance, weights: PretrainedWeights | None = None
    ) -> None:
        crystals = self._crystals(backbone)
        thing = BackboneSpecimen(backbone, crystals)
        module = thing.build(SEEDS[:1])
        if weights is not None:
            backbone.load_pretrained(module, weights)
        originals = thing.output(module, thing.all_rows(1))[0]
        for write in _WRITTEN_OTHERWISE[invariance]:
            same = BackboneSpecimen(backbone, [write(crystal) for crystal in crystals])
            others = same.output(module, same.all_rows(1))[0]
            for crystal, one, other in zip(crystals, originals, others, strict=True):
                self._same(
                    one,
                    other,
                    f"{invariance!r} is declared: it leaves an embedding as it is",
                    crystal.formula,
                    f"mend it, or leave {invariance!r} out of `invariances`",
                )


def _trained_names(
    thing: BackboneSpecimen, freeze: Sequence[str], adapters: Sequence[Adapter] = ()
) -> list[str]:
    """Trains a little, and returns the names of everything that is not what it was."""
    from torch import nn

    from harness.apps.testing.modules import CPU, changed, copied
    from harness.planning.member_training import MemberTraining
    from harness.planning.training_settings import TrainingSettings
    from harness.training.stack_fit import fit

    backbone, head = thing.whole(thing.build(SEEDS[:1]), SEEDS[:1])
    model = nn.ModuleDict({"backbone": backbone, "head": head})
    before = copied(model)
    member_training = MemberTraining(TrainingSettings(epochs=1, loss="mse", schedule="constant"))
    fit(
        backbone,
        head,
        eight(thing),
        member_training,
        selection=RMSE_LOG,
        device=CPU,
        freeze=tuple(freeze),
        adapters=adapters,
    )
    return changed(before, model)


def _can_be_encoded(crystal: Crystal, backbone: Backbone) -> bool:
    if not set(crystal.species) <= set(backbone.elements):
        return False
    if backbone.refuses:
        try:
            backbone.encode(_copy(crystal))
        except CannotEncode:
            return False
    return True


def _copy(crystal: Crystal) -> Crystal:
    return Crystal(crystal.lattice.copy(), tuple(crystal.species), crystal.frac_coords.copy())


def _same_arrays(one: Any, other: Any, crystal: Crystal, remedy: str) -> None:
    differing = [
        name
        for name in one.keys() | other.keys()
        if name not in one
        or name not in other
        or one[name].dtype != other[name].dtype
        or not np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f")
    ]
    promise(
        not differing,
        "the same encoding for the same crystal",
        f"{', '.join(sorted(differing))} of {crystal.formula} differ",
        remedy,
    )
