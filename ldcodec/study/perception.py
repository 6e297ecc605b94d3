"""How far the distribution of decoded pictures is from that of real pictures, estimated from samples of both.

All distances are between features of a small classifier that the study trains on the same data set. Less is better.
Each distance has a floor, its value between two sets of real pictures, which is above zero for few pictures.
"""

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ldcodec.bitstream.atomic import replaced
from ldcodec.entropy.weights import read_tensors
from ldcodec.errors import ModelError
from ldcodec.study.datasets import Dataset

FEATURES = 64
STEPS, BATCH, RATE = 600, 64, 2e-3  # of the classifier's training
JUDGED = 1000  # coded and as many reference pictures, on which the accuracy is measured
CRITIC_STEPS, CRITIC_WIDTH, CRITIC_RATE, CRITIC_DECAY = 100, 32, 1e-2, 1e-2
LOGIT_LIMIT = 5.0  # of the logarithm of the density ratio, so that one misjudged picture cannot decide the mean


class Classifier(nn.Module):
    """Pictures [B, C, n, n] in 0..1 → scores [B, classes]; `features` gives the [B, 64] before the last layer."""

    def __init__(self, colours: int, side: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(colours, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.third = nn.Conv2d(64, 64, 3, stride=2, padding=1)
        self.hidden = nn.Linear(64 * (side // 4) ** 2, FEATURES)
        self.scores = nn.Linear(FEATURES, classes)
        self.register_buffer("deviation", torch.ones(FEATURES))

    def features(self, pictures: Tensor) -> Tensor:
        """[B, C, n, n] in 0..1 → [B, 64] ≥ 0, in units of their standard deviation over the training pictures."""
        features: Tensor = self._hidden(pictures) / self.deviation  # type: ignore[operator]
        return features

    def _hidden(self, pictures: Tensor) -> Tensor:
        x = F.relu(self.first(2 * pictures - 1))
        x = F.relu(self.third(F.relu(self.second(x))))
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.scores(self._hidden(pictures))
        return scores

    @torch.no_grad()
    def set_units(self, pictures: Tensor) -> None:
        """Set each feature's unit to its deviation over these pictures, at least a tenth of the mean deviation."""
        deviation = self._hidden(pictures).std(0)
        self.deviation.copy_(deviation.clamp(min=0.1 * float(deviation.mean()) + 1e-6))  # type: ignore[operator]


def classifier(data: Dataset, folder: Path, steps: int = STEPS) -> Classifier:
    """The classifier of a data set, read from `folder`, or trained and written there if there is none yet.

    The file's name contains a checksum of the pictures, so that results in one folder share a classifier for each data
    set and can be compared. Raises ModelError for a file that does not fit.
    """
    checksum = zlib.crc32(data.train.pixels.numpy().tobytes())
    path = folder / f"classifier-{checksum:08x}-{steps}.safetensors"
    network = Classifier(data.colours, data.side, data.classes)
    if path.exists():
        try:
            network.load_state_dict(read_tensors(path)[0])
        except (ModelError, RuntimeError) as error:
            raise ModelError(f"{path}: not a classifier of these pictures; remove it to train a new one") from error
        return network.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Classifier(data.colours, data.side, data.classes)
        _train_classifier(network, data, steps)
    with replaced(path) as temporary:
        save_file(network.state_dict(), temporary)
    return network.eval()


def _train_classifier(network: Classifier, data: Dataset, steps: int) -> None:
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=max(2, steps))
    for _ in range(steps):
        part = data.train.part(torch.randint(len(data.train), (BATCH,)))
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(network(part.floats()), part.labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    network.set_units(data.train.part(slice(0, 2000)).floats())


@torch.no_grad()
def accuracy(network: Classifier, data: Dataset) -> float:
    """The share 0..1 that the classifier gets right of the first JUDGED coded and reference pictures."""
    parts = [part.part(slice(0, JUDGED)) for part in (data.coded, data.reference)]
    right = [(network(part.floats()).argmax(1) == part.labels).float() for part in parts]
    return float(torch.cat(right).mean())


def frechet(first: Tensor, second: Tensor) -> float:
    """Fréchet distance of Gaussians fitted to features [n, d] and [m, d] (Heusel et al. 2017, equation 6), ≥ 0.

    ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2·tr (Σ₁^½·Σ₂·Σ₁^½)^½: in this form the matrix is symmetric and its roots are real.
    """
    first, second = first.double(), second.double()
    shift = (first.mean(0) - second.mean(0)).square().sum()
    one, two = torch.cov(first.T), torch.cov(second.T)
    values, vectors = torch.linalg.eigh(one)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    between = torch.linalg.eigvalsh(root @ two @ root).clamp(min=0).sqrt().sum()
    return max(0.0, float(shift + one.trace() + two.trace() - 2 * between))


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """KID: the unbiased squared MMD with the kernel (x·y/d + 1)³ (Bińkowski et al. 2018, section 4).

    The estimate may be negative where the distributions are nearly the same.
    """
    first, second = first.double(), second.double()
    n, m = len(first), len(second)
    one, two, cross = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((first, first), (second, second), (first, second)))
    inside = (one.sum() - one.trace()) / (n * (n - 1)) + (two.sum() - two.trace()) / (m * (m - 1))
    return float(inside - 2 * cross.mean())


def density_ratio_divergence(real: Tensor, decoded: Tensor, seed: int) -> float:
    """A lower bound of KL(p ‖ q) in nats from features of samples of p [n, d] and q [m, d].

    A critic learns on a third of the samples to tell them apart; its logit T estimates log p/q. A second third chooses
    the step at which to stop, perhaps before the first. On the last third E_p[T] − E_q[e^T] + 1 is a lower bound,
    whatever the critic is (Nguyen, Wainwright and Jordan 2010, equation 9; the KL of f-GAN, Nowozin et al. 2016). It is
    about 0 where the critic finds no difference.
    """
    centre, scale = real.mean(0), real.std(0).clamp(min=0.1)
    sides = [((x - centre) / scale)[_shuffled(len(x), seed)].chunk(3) for x in (real, decoded)]
    learned, stopping, held = zip(*sides, strict=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = nn.Sequential(nn.Linear(real.shape[1], CRITIC_WIDTH), nn.ReLU(), nn.Linear(CRITIC_WIDTH, 1))
    optimiser = torch.optim.AdamW(critic.parameters(), CRITIC_RATE, weight_decay=CRITIC_DECAY)
    best, found = 0.0, 0.0  # the bound of T = 0
    for step in range(CRITIC_STEPS):
        optimiser.zero_grad(set_to_none=True)
        loss = F.softplus(-critic(learned[0])).mean() + F.softplus(critic(learned[1])).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 5 == 4 and (value := _bound(critic, *stopping)) > best:
            best, found = value, _bound(critic, *held)
    return found


@torch.no_grad()
def _bound(critic: nn.Module, real: Tensor, decoded: Tensor) -> float:
    on_real, on_decoded = (critic(x)[:, 0].clamp(-LOGIT_LIMIT, LOGIT_LIMIT) for x in (real, decoded))
    return float(on_real.mean() - on_decoded.exp().mean() + 1)


def _shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Distances:
    """Fréchet and kernel distance, and the density-ratio bound of KL(reference ‖ decoded) in nats."""

    frechet: float
    kernel: float
    divergence: float


@torch.no_grad()
def distances(network: Classifier, reference: Tensor, decoded: Tensor, seed: int) -> Distances:
    """The distances between pictures [n, C, s, s] and [m, C, s, s] in 0..1; the seed is the critic's."""
    real, other = network.features(reference), network.features(decoded)
    with torch.enable_grad():
        divergence = density_ratio_divergence(real, other, seed)
    return Distances(frechet(real, other), kernel_distance(real, other), divergence)


# Two-sided 95 % points of Student's t for 1 … 15 degrees of freedom; the last is used for more.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and half the width of its 95 % confidence interval."""

    mean: float
    half_width: float


def estimate(values: list[float]) -> Estimate:
    """The mean of at least two independent values and its interval, by Student's t."""
    count = len(values)
    mean = sum(values) / count
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    return Estimate(mean, STUDENT[min(count - 1, len(STUDENT)) - 1] * deviation / math.sqrt(count))
