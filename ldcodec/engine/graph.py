"""Networks for ncnn, made in memory from arrays: a text that lists the layers, and their weights one after the other.

ncnn computes 3×3 convolutions by Winograd's minimal filtering (Lavin and Gray 2016, arXiv 1509.09308), at an error of
5·10⁻⁶ of the output's range. F(4×4, 3×3) needs a quarter of the multiplications, but to transform the weights takes as
long as a picture of half a megapixel, and they take four times their memory. So small pictures get F(2×2, 3×3), with
less than half of the multiplications. Parameters of layers are numbered, see "operators.md" in ncnn's documentation.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ncnn  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from ldcodec.entropy.config import SLOPE
from ldcodec.errors import LdcodecError

MAGIC = 7767517  # the first line of ncnn's layer lists
ADD, MULTIPLY, FROM = 0, 2, 7  # binary operations; the last is number − x
LARGEST = 4  # of the reductions
AS_IT_IS = 1  # with its channels in the order in which layers hand them on
STEEP = 1e30  # times the least difference of two floats at any bound, it is far beyond 1

LARGE = 4096  # positions of the largest input, beyond which F(4×4, 3×3) pays
SINGLE, HALF = (0).to_bytes(4, "little"), (0x01306B47).to_bytes(4, "little")  # what precedes weights of each type

_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

Floats = NDArray[np.float32]


class Graph:
    """A network under construction. Methods add layers that read values by name, and return the name of the result.

    In ncnn a value has one reader. `twice` gives two names to a value.
    """

    def __init__(self) -> None:
        self._layers: list[str] = []
        self._count = 0
        self.weights: list[NDArray[Any]] = []  # what ncnn reads, one piece after the other
        self.resized: list[str] = []  # values after which all have another size

    def input(self, name: str) -> str:
        """An input: planes [C, h, w], or a factor for each channel [C, 1, 1]."""
        self._count += 1
        self._layers.append(f"Input {name} 0 1 {name}")
        return name

    def convolution(
        self,
        x: str,
        weight: NDArray[np.floating[Any]],
        bias: Floats,
        *,
        stride: int = 1,
        padding: int | None = None,
        activated: bool = False,
    ) -> str:
        """Convolve with a weight [n, m, k, k] of 16 or 32 bits and a bias [n].

        By default, the padding keeps the size at stride 1.

        activated: whether a LeakyReLU follows, which then costs nothing.
        """
        n, _, _, k = weight.shape
        given = {0: n, 1: k, 3: stride, 4: k // 2 if padding is None else padding, 5: 1, 6: weight.size}
        options = [f"{key}={value}" for key, value in given.items()]
        options += ["9=2", f"-23310=1,{SLOPE}"] if activated else []
        half = weight.dtype == np.float16  # as in the files of releases
        listed = weight.reshape(-1)
        if half and listed.size % 2:
            listed = np.append(listed, np.float16(0))  # to whole words
        self.weights += [np.frombuffer(HALF if half else SINGLE, np.uint8), listed, bias]
        return self._add("Convolution", [x], *options)

    def activated(self, x: str) -> str:
        """LeakyReLU."""
        return self._add("ReLU", [x], f"0={SLOPE}")

    def sum(self, x: str, y: str, share: float) -> str:
        """x + share · y."""
        return self._add("Eltwise", [x, y], "0=1", f"-23301=2,1.0,{share}")

    def product(self, x: str, y: str) -> str:
        """x · y, where y may be one plane or a factor for each channel."""
        return self._add("BinaryOp", [x, y], f"0={MULTIPLY}")

    def twice(self, x: str) -> tuple[str, str]:
        one = self._add("Split", [x], results=2)
        return one, f"{one}'"

    def shuffled(self, x: str, r: int) -> str:
        """Pixel shuffle: [r²·C, h, w] → [C, r·h, r·w]."""
        self.resized.append(self._add("PixelShuffle", [x], f"0={r}"))
        return self.resized[-1]

    def repeated(self, x: str, r: int) -> str:
        """Repeat every value r times in both directions: [C, h, w] → [C, r·h, r·w]."""
        return self._add("Interp", [x], "0=1", f"1={r}", f"2={r}")

    def within(self, x: str, bound: float) -> str:
        """1 at positions where no channel's magnitude exceeds the bound, else 0: [C, h, w] → [1, h, w]."""
        largest = self._add("Reduction", [self._add("AbsVal", [x])], f"0={LARGEST}", "1=0", "-23303=1,0", "4=1", "5=1")
        room = self._add("BinaryOp", [largest], f"0={FROM}", "1=1", f"2={bound}")
        for operation, number in ((MULTIPLY, STEEP), (ADD, 1.0)):
            room = self._add("BinaryOp", [room], f"0={operation}", "1=1", f"2={number}")
        return self._add("Clip", [room], "0=0.0", "1=1.0")

    def _add(self, kind: str, inputs: Sequence[str], *options: str, results: int = 1) -> str:
        name = f"v{len(self._layers)}"
        outputs = [name + "'" * k for k in range(results)]
        self._count += results
        words = [kind, name, str(len(inputs)), str(results), *inputs, *outputs, *options]
        self._layers.append(" ".join(words))
        return name

    def text(self) -> str:
        return "\n".join([str(MAGIC), f"{len(self._layers)} {self._count}", *self._layers, ""])


class _Reader(ncnn.DataReader):  # type: ignore[misc]
    """Hands the pieces of a network's weights to ncnn, which asks for one after the other: so they are copied once."""

    def __init__(self, pieces: list[NDArray[Any]]) -> None:
        super().__init__()
        self._pieces = iter(pieces)

    def read(self, place: object, size: int) -> int:
        """Copy the next piece to a place, a capsule of a pointer; returns its bytes, or 0 if it has another size."""
        piece = next(self._pieces, None)
        if piece is None or piece.nbytes != size:
            return 0
        ctypes.memmove(_pointer(place, None), np.ascontiguousarray(piece).ctypes.data, size)
        return size


class Threads:
    """How many threads each run of a network takes, all of them unless several runs share them."""

    def __init__(self, count: int) -> None:
        self.count = self.each = count

    @contextmanager
    def shared(self, runs: int) -> Iterator[None]:
        """A context in which so many runs of networks go on at once."""
        self.each = max(1, self.count // runs)
        try:
            yield
        finally:
            self.each = self.count


class Net:
    """A network that runs, in several threads at once if need be."""

    def __init__(self, build: Callable[[], tuple[Graph, Sequence[str]]], threads: Threads, stride: int = 1) -> None:
        """build: makes the graph and names its outputs; called for the first run, and again for the first large one.

        stride: of the first layer, after which all others have so many times fewer rows and columns.
        """
        self._build, self._threads, self._loading, self._largest = build, threads, threading.Lock(), LARGE * stride**2
        self._net: Any = None
        self._memory = ncnn.PoolAllocator()  # instead of ncnn's own, which give nothing back between two runs
        self._memory.set_size_compare_ratio(0.5)  # or a block of any size would be taken for the smallest value
        self._large = False

    def __call__(self, **inputs: Floats) -> list[Floats]:
        """Run with inputs [C, h, w] by name, and return the outputs, new arrays of that form.

        Raises LdcodecError if there is not enough memory.
        """
        held = {name: np.ascontiguousarray(values, np.float32) for name, values in inputs.items()}
        try:
            return self._run(self._extractor(max(values[0].size for values in held.values())), held)
        finally:
            self._memory.clear()

    def _extractor(self, positions: int) -> Any:
        """What runs the network once, for inputs of so many positions."""
        large = positions > self._largest
        with self._loading:
            if self._net is not None and os.getpid() != self._process:
                # In a child of a fork, OpenMP waits for threads that do not exist.
                self._net, self._threads = None, Threads(1)
            each = self._threads.each
            if self._net is None or large > self._large or each != self._net.opt.num_threads:
                self._load(large or self._large, each)  # ncnn arranges the weights for so many threads
            return self._net.create_extractor()

    def _run(self, extractor: Any, inputs: dict[str, Floats]) -> list[Floats]:
        extractor.set_blob_allocator(self._memory)
        extractor.set_workspace_allocator(self._memory)
        for name, values in inputs.items():
            extractor.input(name, ncnn.Mat(values))
        for name in self._resized:
            extractor.extract(name, AS_IT_IS)
            self._memory.clear()  # blocks that fit none of the values that follow
        found = [extractor.extract(name) for name in self._outputs]
        if any(code for code, _ in found):
            raise LdcodecError("ncnn cannot run the networks: not enough memory, perhaps")
        return [np.array(output) for _, output in found]

    def _load(self, large: bool, threads: int) -> None:
        self._net, self._large, self._process = ncnn.Net(), large, os.getpid()
        graph, self._outputs = self._build()
        self._resized = graph.resized
        options = self._net.opt
        options.num_threads = threads
        options.use_vulkan_compute = False
        options.use_winograd43_convolution = large
        options.use_winograd23_convolution = not large
        options.use_winograd63_convolution = False  # its weights take 7 times the memory, and win nothing
        for halved in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(options, halved, False)  # on by default where the processor has them, and too coarse
        if self._net.load_param_mem(graph.text()):
            raise LdcodecError("ncnn does not know the networks' layers; another release of it may")
        if self._net.load_model(_Reader(graph.weights)):
            raise LdcodecError("ncnn cannot load the networks: not enough memory, perhaps")
