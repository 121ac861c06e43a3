"""Stacks: many copies of one model, its members, trained side by side in one module.

Every parameter has a leading members axis, and no member depends on another: the gradient of a
summed loss is block-diagonal. Two kinds of rows are known. *Dense* rows are `members × rows ×
width`. *Ragged* rows are `rows × width`: those of member 0, then those of member 1, …, as many as
`sizes` says. Nothing is padded there, which matters where the longest member has twice the rows of
the mean one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from harness.errors import PluginError
from harness.plugin.arrays import Arrays
from harness.plugin.backbone import Backbone, Invariance, Layers, Pool
from harness.plugin.seeds import derive_seed
from harness.registry.plugin_calls import using

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.plugin.arrays import Indices
    from harness.plugin.crystal import Crystal

Generators = Sequence[torch.Generator]
Sizes = Sequence[int]


class StackedLinear(nn.Module):
    """One linear layer per member.

    `weight` is `members × n_in × n_out`, `bias` is `members × 1 × n_out`.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        generators: Generators,
        n_in: int,
        n_out: int,
        bias: bool = True,
        bound: float | None = None,
    ) -> None:
        """Draws each member's values from its own generator.

        Args:
            generators: one per member.
            n_in: width of the input.
            n_out: width of the output.
            bias: whether there is a bias.
            bound: values are uniform in ±bound; by default 1/√n_in, which is what
                `torch.nn.Linear` does (`kaiming_uniform_` with a = √5).
        """
        super().__init__()
        half_width = n_in**-0.5 if bound is None else bound

        def draw(*shape: int) -> nn.Parameter:
            members = [torch.rand(shape, generator=g) for g in generators]
            return nn.Parameter((2 * torch.stack(members) - 1) * half_width)

        self.weight = draw(n_in, n_out)
        self.bias = draw(1, n_out) if bias else None

    def forward(self, rows: Tensor, sizes: Sizes | None = None) -> Tensor:
        """Applies each member's layer to its rows.

        Args:
            rows: dense, `members × rows × n_in`; or ragged, `rows × n_in`.
            sizes: of ragged rows: how many each member has.
        """
        if sizes is not None:
            return ragged_linear(rows, self.weight, self.bias, sizes)
        if self.bias is None:
            return torch.bmm(rows, self.weight)
        return torch.baddbmm(self.bias, rows, self.weight)


class StackedEmbedding(nn.Module):
    """One table of vectors per member; `weight` is `members × n × width`, standard normal."""

    def __init__(self, generators: Generators, n: int, width: int) -> None:
        """Draws each member's table from its own generator."""
        super().__init__()
        tables = [torch.randn((n, width), generator=g) for g in generators]
        self.weight = nn.Parameter(torch.stack(tables))

    def forward(self, index: Tensor) -> Tensor:
        """Looks up `members × rows` indices; returns `members × rows × width`."""
        members, n, width = self.weight.shape
        first = torch.arange(0, members * n, n, device=index.device).unsqueeze(1)
        return nn.functional.embedding(index + first, self.weight.reshape(-1, width))


class StackedDropout(nn.Module):
    """Dropout that keeps members apart: a mask depends on its member and the epoch alone.

    What `torch.nn.Dropout` draws depends on how many members there are, and on all that was drawn
    before, so that a fit which goes on from a checkpoint would end elsewhere.
    """

    def __init__(self, generators: Generators, p: float) -> None:
        """Draws each member's seed from its own generator.

        Args:
            generators: one per member.
            p: share of the values that become 0; the others are divided by 1 − p.
        """
        super().__init__()
        self._p = p
        self._seeds = [int(torch.randint(2**31, (), generator=g)) for g in generators]
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Starts each member's masks of an epoch; the trainer calls it."""
        self._generators = [
            torch.Generator().manual_seed(derive_seed(seed, "dropout", epoch))
            for seed in self._seeds
        ]

    def forward(self, rows: Tensor) -> Tensor:
        """Takes dense rows, `members × rows × width`, to the same; in training, with zeros."""
        if not self.training:
            return rows
        shape = rows.shape[1:]
        draws = torch.stack([torch.rand(shape, generator=g) for g in self._generators])
        kept = (draws >= self._p).to(rows.device, rows.dtype)
        return rows * kept / (1.0 - self._p)


def ragged_linear(rows: Tensor, weight: Tensor, bias: Tensor | None, sizes: Sizes) -> Tensor:
    """Applies a linear layer per member to ragged rows, without padding.

    Args:
        rows: `rows × n_in`, ordered by member.
        weight: `members × n_in × n_out`.
        bias: `members × 1 × n_out`, or none.
        sizes: rows of each member.

    Returns:
        `rows × n_out`.
    """
    result: Tensor = _RaggedLinear.apply(rows, weight, bias, list(sizes))  # type: ignore[no-untyped-call]
    return result


class _RaggedLinear(torch.autograd.Function):
    """One matrix product per member, written side by side: one node of the autograd graph."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, sizes: list[int]
    ) -> Tensor:
        out = rows.new_empty(rows.shape[0], weight.shape[2])
        parts = zip(rows.split(sizes), weight.unbind(), out.split(sizes), strict=True)
        if bias is None:
            for x, w, y in parts:
                torch.mm(x, w, out=y)
        else:
            for (x, w, y), b in zip(parts, bias.unbind(), strict=True):
                torch.addmm(b, x, w, out=y)
        ctx.save_for_backward(rows, weight)
        ctx.sizes = sizes
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        need_rows, need_weight, need_bias, _ = ctx.needs_input_grad
        grads = grad.split(ctx.sizes)
        d_rows = d_weight = d_bias = None
        if need_rows:
            d_rows = torch.empty_like(rows)
            for g, w, d in zip(grads, weight.unbind(), d_rows.split(ctx.sizes), strict=True):
                torch.mm(g, w.t(), out=d)
        if need_weight:
            d_weight = weight.new_empty(weight.shape)
            for g, x, d in zip(grads, rows.split(ctx.sizes), d_weight.unbind(), strict=True):
                torch.mm(x.t(), g, out=d)
        if need_bias:
            # A bag per member: a third of the time of one sum per member.
            ends = torch.tensor([0, *accumulate(ctx.sizes)], device=grad.device)
            everyone = torch.arange(len(grad), device=grad.device)
            d_bias = embedding_bag(
                everyone, grad.contiguous(), ends, mode="sum", include_last_offset=True
            ).unsqueeze(1)
        return d_rows, d_weight, d_bias, None


class Stacked(Backbone):
    """Makes a backbone out of an ordinary PyTorch model that knows nothing of stacks.

    The members run one after another, so it is not fast, but it is a backbone like any other. The
    model's `forward(batch)` takes what `collate` made of one member's crystals and returns
    embeddings, `batch × width`:

        class Composition(nn.Module):
            def __init__(self):
                super().__init__()
                self.elements = nn.EmbeddingBag(119, 16, mode="mean")

            def forward(self, batch):
                return self.elements(batch["numbers"], batch["starts"])

        Stacked(
            Composition,
            encode=lambda crystal: {"numbers": np.array([...])},
            collate=lambda encodings: {"numbers": torch.cat(...), "starts": torch.tensor(...)},
            width=16,
            elements=SYMBOLS,
            encoding="composition-1",
        )

    Dropout draws from torch's global generator: with it, a member's training depends on the size
    of its stack; `StackedDropout`, for modules that are stacks themselves, does not. Buffers must
    be constants: running statistics (of batch normalisation, say) would mix members, and are
    refused.
    """

    def __init__(
        self,
        factory: Callable[[], nn.Module],
        *,
        encode: Callable[[Crystal], dict[str, NDArray[Any]]],
        collate: Callable[[Sequence[Arrays]], Any],
        width: int,
        elements: Sequence[str] | frozenset[str],
        encoding: str,
        layers: Layers = (),
        invariances: Iterable[Invariance] = Backbone.invariances,
    ) -> None:
        """Takes what the harness cannot know of the model.

        Args:
            factory: makes one model with fresh weights, drawn from torch's global generator.
            encode: turns one crystal into arrays; they are cached on disk.
            collate: turns the encodings of one member's crystals, never none, into the batch that
                the model takes: a tensor, anything else with `to(device)` (graphs have it), or a
                dict, list or tuple of such.
            width: length of the embedding.
            elements: element symbols the model knows.
            encoding: names everything that determines what `encode` gives.
            layers: prefixes of the names of the model's parameters, layer by layer; see `Backbone`.
            invariances: what leaves an embedding as it is; see `Backbone`.
        """
        self._factory = factory
        self._encode = encode
        self._collate = collate
        self.width = width
        self.elements = frozenset(elements)
        self.encoding = encoding
        self.layers = tuple(tuple(f"model.{name}" for name in layer) for layer in layers)
        self.invariances = frozenset(invariances)

    def encode(self, crystal: Crystal) -> dict[str, NDArray[Any]]:
        """Turns one crystal into arrays."""
        with using(self._encode, f"encoding the crystal {crystal.formula!r}"):
            return self._encode(crystal)

    def pool(self, encodings: Sequence[Arrays], device: torch.device) -> Pool:
        """Keeps the encodings as they are; batches are collated when they are asked for."""
        return _CollatingPool(encodings, self._collate, device)

    def build(self, generators: Generators) -> nn.Module:
        """Makes one model per generator and stacks their parameters.

        Raises:
            PluginError: the models differ in their buffers or in the shape of a parameter.
        """
        models = []
        for generator in generators:
            seed = torch.randint(2**63 - 1, (), generator=generator)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(seed))
                with using(self._factory, "making a model"):
                    models.append(self._factory())
        return _StackedModule(models, self.width)


class _CollatingPool(Pool):
    """Batches of a model that takes its own collated batch: one per member, with their places."""

    def __init__(
        self,
        encodings: Sequence[Arrays],
        collate: Callable[[Sequence[Arrays]], Any],
        device: torch.device,
    ) -> None:
        self._encodings = encodings
        self._collate = collate
        self._device = device

    def __len__(self) -> int:
        return len(self._encodings)

    def batch(self, rows: Indices) -> list[tuple[Any, NDArray[np.bool_]]]:
        """Collates each member's crystals; the mask says which places are taken."""
        return [
            (
                _to_device(self._collated(own[own >= 0]), self._device)
                if (own >= 0).any()
                else None,
                own >= 0,
            )
            for own in rows
        ]

    def _collated(self, rows: Indices) -> Any:
        with using(self._collate, "collating a batch"):
            return self._collate([self._encodings[i] for i in rows])


class _StackedModule(nn.Module):
    """Models of one architecture with their parameters stacked; runs them one after another."""

    def __init__(self, models: Sequence[nn.Module], width: int) -> None:
        super().__init__()
        self._width = width
        self.model = models[0]
        _check_alike(models)
        stacked = {
            name: nn.Parameter(
                torch.stack([m.get_parameter(name).detach() for m in models]),
                requires_grad=parameter.requires_grad,
            )
            for name, parameter in models[0].named_parameters()
        }
        for name, parameter in stacked.items():
            owner, _, leaf = name.rpartition(".")
            setattr(self.model.get_submodule(owner), leaf, parameter)

    def forward(self, batch: Sequence[tuple[Any, NDArray[np.bool_]]]) -> Tensor:
        """Returns embeddings, `members × batch × width`; zeros in empty places."""
        names, stacked = zip(*self.model.named_parameters(), strict=True)
        members = zip(*(parameter.unbind() for parameter in stacked), strict=True)
        versions = [buffer._version for buffer in self.model.buffers()]
        embeddings = []
        for own, (inputs, taken) in zip(members, batch, strict=True):
            embedding = stacked[0].new_zeros(len(taken), self._width)
            if inputs is not None:
                output = self._run(dict(zip(names, own, strict=True)), inputs, int(taken.sum()))
                places = torch.from_numpy(taken.nonzero()[0]).to(output.device)
                embedding = embedding.index_copy(0, places, output)
            embeddings.append(embedding)
        self._refuse_changed_buffers(versions)
        return torch.stack(embeddings)

    def _run(self, parameters: Mapping[str, Tensor], inputs: Any, crystals: int) -> Tensor:
        output: Tensor = torch.func.functional_call(self.model, dict(parameters), (inputs,))
        if output.shape != (crystals, self._width):
            raise PluginError(
                f"{type(self.model).__name__}.forward returned a tensor of shape "
                f"{tuple(output.shape)}: expected {(crystals, self._width)}, one embedding of the "
                "declared width per crystal."
            )
        return output

    def _refuse_changed_buffers(self, versions: Sequence[int]) -> None:
        for (name, buffer), version in zip(self.model.named_buffers(), versions, strict=True):
            if buffer._version != version:
                raise PluginError(
                    f"{type(self.model).__name__}: forward changed the buffer {name!r}, which all "
                    "members share. Use LayerNorm or GroupNorm (BatchNorm with "
                    "track_running_stats=False would mix the rows of a batch instead)."
                )


def _check_alike(models: Sequence[nn.Module]) -> None:
    """Refuses models whose parameters or buffers cannot stand side by side."""
    kind = type(models[0]).__name__
    if not list(models[0].parameters()):
        raise PluginError(f"{kind} has no parameters: there is nothing to stack or to train.")
    if len(list(models[0].named_parameters(remove_duplicate=False))) > len(
        list(models[0].parameters())
    ):
        raise PluginError(f"{kind} uses one parameter under two names, which cannot be stacked.")
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in models]
    buffers = [dict(m.named_buffers()) for m in models]
    for shape, buffer in zip(shapes[1:], buffers[1:], strict=True):
        if shape != shapes[0]:
            raise PluginError(f"{kind}: the factory made models with different parameters.")
        for name in buffer.keys() | buffers[0].keys():
            same = name in buffer and name in buffers[0]
            if not (same and torch.equal(buffer[name], buffers[0][name])):
                raise PluginError(
                    f"{kind}: the buffer {name!r} differs between members; a buffer must be a "
                    "constant. Make it a parameter with requires_grad=False."
                )


def _to_device(batch: Any, device: torch.device) -> Any:
    """Moves every tensor in a batch of dicts, lists and tuples, and what moves like a tensor."""
    if hasattr(batch, "to"):  # a graph of DGL or PyTorch Geometric, say
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        parts: Iterator[Any] = (_to_device(value, device) for value in batch)
        return type(batch)(parts)
    return batch
