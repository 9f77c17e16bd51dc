"""Agreement with numbers of the published system, or of its definitions: tests/core/lmdm.py says where they come from.

Folders of other sizes and seeds can be named in ACCOMP_LMDM_FIXTURES.
"""

import math
import re

import pytest
import torch
from lmdm import Fixture, folders, forwards, sampler

from accomp.core.diffusion.adversary_losses import adversary_loss, contrastive_loss, generator_loss
from accomp.core.diffusion.denoising import levels
from accomp.core.diffusion.process import noised, velocity
from accomp.core.diffusion.regimes import stream_sees, window_sees
from accomp.core.diffusion.timesteps import (
    log_snr_normal,
    log_snr_uniform,
    logit_normal,
    shifted,
    trunc_logit_normal,
)
from accomp.core.interfaces import Velocities

TOLERANCE = 2e-6


@pytest.fixture(params=folders(), scope="module")
def fixture(request) -> Fixture:
    return Fixture(request.param)


def close(got, wanted, what: str = "") -> None:
    got = torch.as_tensor(got, dtype=torch.float64)
    scale = max(1.0, float(wanted.abs().max()))
    assert got.shape == wanted.shape, what
    off = float((got - wanted).abs().max().detach())
    assert off < TOLERANCE * scale, f"{what}: off by {off:.2g}"


def test_who_sees_whom(fixture):
    for name, wanted in fixture.read("masks").items():
        if name == "stream_blocks":
            assert torch.equal(stream_sees(len(wanted), fixture_window(wanted)), wanted), name
            continue
        regime, _, sizes = re.fullmatch(r"(enc_dec|block_causal)(_(o\d+_n\d+))?", name).groups()
        rows = len(wanted)
        o, n = map(int, re.findall(r"\d+", sizes)) if sizes else geometry_of(fixture, rows)
        assert torch.equal(window_sees(regime, o, n, token=True), wanted), name
        assert torch.equal(window_sees(regime, o, n), wanted[:-1, :-1]), name


def fixture_window(sees) -> int:
    """How many blocks the last one sees."""
    return int(sees[-1].sum())


def geometry_of(fixture, rows: int) -> tuple[int, int]:
    """That of the folder, unless its masks are copied from a folder of another."""
    return (fixture.o, fixture.n) if (fixture.n + 1) * fixture.o + 1 == rows else (6, 4)


def test_noise_levels(fixture):
    numbers = fixture.read("timesteps")
    for name, wanted in numbers.items():
        if found := re.fullmatch(r"logsnr(?:_from_([\d.]+))?_steps_(\d+)", name):
            close(levels(int(found[2]), start=float(found[1] or 1)), wanted, name)
        elif found := re.fullmatch(r"shift_len_(\d+)", name):
            close(shifted(numbers["shift_t"], int(found[1])), wanted, name)
    close(logit_normal(numbers["normals"]), numbers["logit_normal"])
    close(log_snr_normal(numbers["normals"]), numbers["log_snr_normal"])
    close(log_snr_uniform(numbers["uniforms"]), numbers["log_snr_uniform"])
    close(trunc_logit_normal(numbers["normals"]), numbers["trunc_logit_normal"])


def test_step_rules(fixture):
    numbers = fixture.read("steps")
    names = [name for name in numbers if name.split("_")[0] in ("euler", "ping", "dpmpp")]
    assert names
    for name in names:
        kind, steps, plus, scale = re.fullmatch(r"(euler|ping_pong|dpmpp)_(\d+)(?:_cfg(pp)?([\d.]+))?", name).groups()
        push = torch.einsum("ij,bjk->bik", numbers["B"], numbers["cond"])

        def predict(x, t, w=float(scale or 1), push=push):
            v = torch.tanh(torch.einsum("ij,bjk->bik", numbers["A"], x) + push + t * numbers["d"][:, None]) + t * x
            u = torch.tanh(torch.einsum("ij,bjk->bik", numbers["A"], x) + t * numbers["d"][:, None]) + t * x
            return Velocities(u + w * (v - u), u)

        noise = numbers[f"noise_{steps}"]
        chosen = sampler(kind, int(steps), plus=bool(plus))
        close(chosen.levels, numbers[f"t_{steps}"], name)
        path = torch.stack([noise[0], *chosen.path(predict, lambda i, noise=noise: noise[i])])
        close(path, numbers[name], name)


def test_forward_and_hidden_rows(fixture):
    numbers = fixture.read("forward")
    close(noised(numbers["clean"], numbers["eps"], numbers["t"][:, None, None]), numbers["x_t"])
    close(velocity(numbers["clean"], numbers["eps"]), numbers["target"])
    with torch.no_grad():
        for name, value in forwards(fixture, numbers).items():
            close(value, numbers[name], name)


def test_context_rows_know_neither_noise_nor_its_level(fixture):
    numbers = fixture.read("forward")
    c = fixture.context
    other = {**numbers, "t": numbers["t"] / 2, "x_t": numbers["x_t"] + 1}
    for regime in ("enc_dec", "block_causal"):
        sees = window_sees(regime, fixture.o, fixture.n, token=True)
        with torch.no_grad():
            a, b = (
                fixture.network(*fixture.window(one, fixture.first_cut), fixture.network.window(c + fixture.o), sees)
                for one in (numbers, other)
            )
        for first, second in zip(a, b, strict=True):
            assert torch.equal(first[:, :c], second[:, :c])
            assert not torch.equal(first[:, c:], second[:, c:])


def test_block_after_block(fixture):
    numbers = fixture.read("block_ar")
    names = [name for name in numbers if re.match("enc_dec|block_causal", name)]
    assert names
    for name in names:
        player, chosen = fixture.playing(name, numbers)
        with torch.no_grad():
            close(
                player.play(numbers["context"], fixture.config["blocks"], chosen, numbers["noise"]), numbers[name], name
            )


def test_rollouts_and_their_gradients(fixture):
    numbers = fixture.read("rollout")
    rolled = fixture.rolled(numbers)
    close(rolled, numbers["rollout"])
    fixture.network.zero_grad()
    (rolled * numbers["weight_of_loss"]).mean().backward()
    for got, wanted in (
        (fixture.network.transformer["project_out"].weight.grad, numbers["grad_project_out"]),
        (fixture.network.to_input_add_embed.weight.grad, numbers["grad_input_add"]),
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=float(wanted.abs().max()) * 1e-5)


def test_the_adversarys_losses_and_its_head(fixture):
    numbers = fixture.read("adversary")
    close(adversary_loss(numbers["real"], numbers["fake"]), numbers["loss_d"])
    close(generator_loss(numbers["real"], numbers["fake"]), numbers["loss_g"])
    close(contrastive_loss(numbers["real"], numbers["rolled"]), numbers["loss_contrastive"])
    with torch.no_grad():
        close(fixture.head(numbers)(numbers["head_in"]), numbers["head_out"])


def test_the_first_block_of_a_stream_is_that_of_a_window(fixture):
    """Later ones are not: in a window the oldest block has no past."""
    numbers = fixture.read("block_ar")
    name = next(name for name in numbers if name.startswith("block_causal_stream_euler"))
    streamed, chosen = fixture.playing(name, numbers)
    windowed, _ = fixture.playing(name.replace("stream", "window"), numbers)
    with torch.no_grad():
        a, b = (p.play(numbers["context"], 2, chosen, numbers["noise"]) for p in (streamed, windowed))
    close(a[:, :, : fixture.o], b[:, :, : fixture.o])
    assert (a - b).abs().max() > 1e-4


def test_levels_by_hand():
    wanted = [1, *(1 / (1 + math.exp(r)) for r in (-6 + 8 / 3, -6 + 16 / 3)), 0]
    assert levels(3) == pytest.approx(wanted)
    assert levels(4, "linear") == [1, 0.75, 0.5, 0.25, 0]
