"""Folders of numbers of the published system (config.json and npz files): where they lie, reading and making them.

The folders are those of ACCOMP_LMDM_FIXTURES (joined as in PATH), shared/fixtures/lmdm in or beside the repository, and
a small one that comes along: masks, timesteps, steps and adversary of it are other people's numbers, the rest was
made by `write_networks`, whose arithmetic had agreed with theirs to 5e-7.
"""

from __future__ import annotations

import json
import os
import re
from functools import cached_property
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from accomp.core.diffusion.convnext_head import ConvNextHead, Stage
from accomp.core.diffusion.denoising import levels
from accomp.core.diffusion.process import noised, velocity
from accomp.core.diffusion.published import NetworkConditions, PublishedNetwork, Sizes
from accomp.core.diffusion.published_playing import Geometry, Player
from accomp.core.diffusion.rollout import roll_out
from accomp.core.types import TokenSpace
from accomp.plugins.samplers.dpmpp import Dpmpp
from accomp.plugins.samplers.euler import Euler
from accomp.plugins.samplers.ping_pong import PingPong

SMALL = Path(__file__).with_name("lmdm_small")
SPACE = TokenSpace(32000, 640, 0, 0, 8)
SAMPLERS = {"euler": Euler, "ping_pong": PingPong, "dpmpp": Dpmpp}
_ROOT = Path(__file__).parents[2]
_PATHS = os.environ.get("ACCOMP_LMDM_FIXTURES", "").split(os.pathsep)
FOLDERS = [SMALL, *filter(None, _PATHS), *(p / "shared/fixtures/lmdm" for p in (_ROOT, _ROOT.parent))]


def folders() -> list[pytest.param]:
    """Each folder, once, skipped with a reason where it is missing."""
    seen = {str(Path(folder)): Path(folder) for folder in FOLDERS}
    there = [folder for folder in seen.values() if (folder / "config.json").is_file()]
    named = [Path(folder) for folder in filter(None, _PATHS)]
    missing = [folder for folder in named if folder not in there]
    if len(there) == 1 and not missing:
        missing = [Path("shared/fixtures/lmdm")]
    reason = "no such folder of fixtures; name some in ACCOMP_LMDM_FIXTURES"
    skipped = [pytest.param(None, marks=pytest.mark.skip(f"{reason} @ {folder}"), id=str(folder)) for folder in missing]
    return [*(pytest.param(folder, id=folder.name) for folder in there), *skipped]


class Fixture:
    """One folder. Numbers are float64; files are read when asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = json.loads((folder / "config.json").read_text())
        self.o, self.n = self.config["block"], self.config["window_blocks"]
        self.context = self.config["context"]

    def read(self, name: str) -> dict[str, Tensor]:
        """The arrays of NAME.npz; skips the test where the folder has none."""
        path = self.folder / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"no {name}.npz @ {self.folder}")
        with np.load(path) as arrays:
            return {key: as_double(torch.from_numpy(value)) for key, value in arrays.items()}

    @cached_property
    def network(self) -> PublishedNetwork:
        """With the folder's weights, in float64."""
        weights = self.read("weights")
        sizes = {**self.config["model"], "frequencies": len(weights["timestep_features.weight"])}
        network = PublishedNetwork(Sizes(**sizes)).double()
        network.load_state_dict(weights)
        return network

    @property
    def first_cut(self) -> int:
        return self.config["cuts"][0]

    def window(self, numbers: dict[str, Tensor], cut: int) -> tuple[Tensor, NetworkConditions]:
        """The rows of forward.npz with input before `cut`, token included; and the conditions."""
        c, conditions, network = self.context, NetworkConditions(numbers["cross"], numbers["glob"]), self.network
        given = torch.arange(c + self.o) < cut
        x, u = numbers["x_t"], numbers["input"]
        rows = [
            network.rows(None, numbers["clean"][:, :, :c], u[:, :, :c], given[:c]),
            network.rows(x[:, :, c:], None, u[:, :, c:], given[c:]),
            network.token(numbers["t"], conditions),
        ]
        return torch.cat(rows, dim=1), conditions

    def as_adversary(self, numbers: dict[str, Tensor]) -> tuple[Tensor, NetworkConditions]:
        """The same with noise in every row."""
        h, conditions = self.window(numbers, self.first_cut)
        c = self.context
        h[:, :c] += self.network.latents(numbers["x_t"][:, :, :c])
        return h, conditions

    def playing(self, name: str, numbers: dict[str, Tensor]) -> tuple[Player, Euler | PingPong]:
        """What an array of block_ar.npz is called -> the player and the sampler that should give it."""
        t_f, cut = re.search(r"_tf([+-]\d+)$", name), re.search(r"_cut(\d+)$", name)
        regime = "enc_dec" if name.startswith("enc_dec") else "block_causal"
        geometry = Geometry(
            regime, self.o, self.n, kept="stream" if "_stream_" in name else "window", t_f=int(t_f[1]) if t_f else 0,
            cut=int(cut[1]) if cut else None if t_f else self.first_cut,
        )  # fmt: skip
        scale = re.search(r"_cfg(pp)?([\d.]+)$", name)
        kind = "ping_pong" if "ping_pong" in name else "euler"
        player = Player(
            self.network, geometry, NetworkConditions(numbers["cross"], numbers["glob"]), numbers["input"],
            float(scale[2]) if scale else 1.0,
        )  # fmt: skip
        return player, sampler(kind, self.config["steps"], plus=bool(scale and scale[1]))

    def rolled(self, numbers: dict[str, Tensor]) -> Tensor:
        """The rollout of rollout.npz."""
        conditions = NetworkConditions(numbers["cross"], numbers["glob"])
        player = Player(self.network, Geometry("enc_dec", self.o, self.n, self.first_cut), conditions, numbers["input"])

        def begin(_: int, past: Tensor | None):
            whole = numbers["context"] if past is None else torch.cat([numbers["context"], past], dim=2)
            return lambda x, t: player.velocity(whole, x, t)

        counts = [int(count) for count in numbers["k_list"]]
        return roll_out(begin, lambda b: lambda i: numbers["noise"][b][i], levels(len(numbers["t"]) - 1), counts)

    def head(self, numbers: dict[str, Tensor]) -> ConvNextHead:
        """The adversary's head with the weights of adversary.npz; its sizes follow from theirs."""
        weights = {
            key.removeprefix("head.")
            .replace("weight_g", "parametrizations.weight.original0")
            .replace("weight_v", "parametrizations.weight.original1"): value
            for key, value in numbers.items()
            if key.startswith("head.")
        }
        width, channels = weights["proj_in.parametrizations.weight.original1"].shape[1::-1]
        stages = []
        while (key := f"layers.{len(stages)}.downsample.parametrizations.weight.original1") in weights:
            blocks = {k.split(".")[3] for k in weights if k.startswith(f"layers.{len(stages)}.layers.")}
            size, _, taps = weights[key].shape
            stages.append(Stage(size // channels, taps // 2, len(blocks)))
        head = ConvNextHead(width, channels, tuple(stages)).double()
        head.load_state_dict(weights)
        return head


def as_double(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def sampler(kind: str, steps: int, *, plus: bool = False):
    cls = SAMPLERS[kind]
    return cls(cls.Config(steps=steps, **({"plus": True} if plus else {})), SPACE)


def write_networks(source: Path, folder: Path, seed: int = 1) -> None:
    """Make a small folder: what is of no network is copied from `source`, the rest computed here."""
    sizes = Sizes(width=16, latent=4, cond=6, heads=2, depth=3, add=10, rope_base=1e4, rotary_dims=4, head_dim=8,
                  frequencies=24)  # fmt: skip
    config = {
        "model": {k: v for k, v in attrs.asdict(sizes).items() if k != "frequencies"},
        "block": 3, "window_blocks": 3, "context": 9, "batch": 2, "blocks": 3, "cuts": [9, 7, 4],
        "t_f": [-1, 0, 2], "steps": 3, "seed": seed,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    for name in ("masks", "timesteps", "steps", "adversary"):
        with np.load(source / f"{name}.npz") as arrays:
            np.savez_compressed(folder / f"{name}.npz", **arrays)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng).double()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PublishedNetwork(sizes).double()
    for name, weight in network.named_parameters():
        weight.data = weight.data + 0.1 * normal(*weight.shape) if "norm" in name else 2 * weight.data
    save(folder, "weights", {k: w.detach() for k, w in network.state_dict().items()})
    one = Fixture(folder)
    window = one.context + one.o
    f = {"cross": normal(2, 5, 6), "glob": normal(2, 6), "clean": normal(2, 4, window), "input": normal(2, 4, window),
         "eps": normal(2, 4, window), "t": torch.tensor([0.3, 0.8]).double()}  # fmt: skip
    f["x_t"] = noised(f["clean"], f["eps"], f["t"][:, None, None])
    f["target"] = velocity(f["clean"], f["eps"])
    with torch.no_grad():
        save(folder, "forward", {**f, **forwards(one, f)})
        b = {"t": torch.tensor(levels(3)), "cross": f["cross"], "glob": f["glob"], "context": normal(2, 4, 9),
             "input": normal(2, 4, 18), "noise": normal(3, 3, 2, 4, 3)}  # fmt: skip
        names = [f"{r}_window_{k}_cut{c}" for r in ("enc_dec", "block_causal") for k in ("ping_pong", "euler") for c in
                 config["cuts"]]  # fmt: skip
        for k in ("ping_pong", "euler"):
            names += [f"enc_dec_window_{k}_shift_tf{t:+d}" for t in config["t_f"]]
            names += [f"block_causal_stream_{k}_shift_tf{t:+d}" for t in config["t_f"]]
        names += ["enc_dec_window_ping_pong_cfgpp0.7", "enc_dec_window_euler_cfg3"]
        made = {}
        for name in names:
            player, chosen = one.playing(name, b)
            made[name] = player.play(b["context"], 3, chosen, b["noise"])
        save(folder, "block_ar", {**b, **made})
    r = {**b, "t": torch.tensor(levels(6)), "k_list": torch.tensor([2, 6, 1]), "noise": normal(3, 6, 2, 4, 3)}
    r["weight_of_loss"] = normal(2, 4, 9)
    r["rollout"] = one.rolled(r)
    (r["rollout"] * r["weight_of_loss"]).mean().backward()
    r["grad_project_out"] = one.network.transformer["project_out"].weight.grad
    r["grad_input_add"] = one.network.to_input_add_embed.weight.grad
    save(folder, "rollout", {k: v.detach() for k, v in r.items()})


def forwards(one: Fixture, f: dict[str, Tensor]) -> dict[str, Tensor]:
    """All that forward.npz has beside what goes in."""
    from accomp.core.diffusion.regimes import window_sees

    network, c, positions = one.network, one.context, one.network.window(one.context + one.o)
    found = {}
    for regime in ("enc_dec", "block_causal"):
        for cut in one.config["cuts"]:
            h, conditions = one.window(f, cut)
            hidden = network(h, conditions, positions, window_sees(regime, one.o, one.n, token=True))
            v = network.velocity(hidden[-1][:, :-1])
            found[f"{regime}_cut{cut}_v"] = v
            found[f"{regime}_cut{cut}_loss"] = (v - f["target"])[:, :, c:].square().mean()
            if cut == one.first_cut:
                found[f"{regime}_hidden"] = torch.stack(hidden)
    h, conditions = one.as_adversary(f)
    hidden = network(h, conditions, positions)
    return {
        **found,
        "bidirectional_v": network.velocity(hidden[-1][:, :-1]),
        "bidirectional_hidden": torch.stack(hidden),
    }


def save(folder: Path, name: str, arrays: dict[str, Tensor]) -> None:
    np.savez_compressed(
        folder / f"{name}.npz",
        **{k: (v.float() if v.is_floating_point() else v).numpy() for k, v in arrays.items()},
    )
