"""Agreement with the public code of the streaming paper, by tiny models that it ran: same weights, same numbers.

Its decoder is this one with its dimensions in another order: query head h shares key head h % kv_heads, rotated pairs
are neighbours, and the scale of the scores is 10 for unit vectors.
"""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from reference_fixtures import fixture, fixture_path
from torch import Tensor

from accomp.core.model import Model
from accomp.core.spec import Conditions, LabelCondition
from accomp.core.streaming.clock import Clock
from accomp.core.streaming.session import TokenSession
from accomp.core.types import TokenSpace
from accomp.plugins.backbones.llama import Llama
from accomp.plugins.fusers.gated_add import GatedAdd
from accomp.plugins.samplers.top_k import TopK

STREAMING = ["dec_online_tf-2", "dec_online_tf+0"]
CHUNKED = "prefix_dec_online_k4_tf+0"
WIDTH, DEPTH, HEADS, KV_HEADS, HEAD_DIM, ROPE_DIM, CODES = 64, 2, 4, 2, 64, 32, 32
FIRST_CODE = 19


def arrays(name: str) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in fixture(f"{name}.npz").items() if value.ndim}


def model_like(name: str, cls: type[Model] = Model, *, codes: int = CODES, classes: int = 18) -> Model:
    """The fixture's model, its ids split into PAD, classes and codes as asked."""
    clock = Clock(
        json.loads(fixture_path(f"{name}.hparams.json").read_text())["future_visibility"], 4 if "k4" in name else 1
    )
    space = TokenSpace(32000, 640, codebooks=4, codebook_size=codes, latent_dim=24)
    fuser = GatedAdd(GatedAdd.Config(norm="reference"), space, WIDTH)
    config = Llama.Config(DEPTH, HEADS, KV_HEADS, HEAD_DIM, feedforward="silu", rope_dim=ROPE_DIM)
    conditions = Conditions(labels={"instrument": LabelCondition(classes)} if classes else {})
    model = cls(fuser, Llama(config, space, WIDTH), space, clock, conditions, WIDTH)
    state = torch.load(fixture_path(f"{name}.ckpt"), weights_only=True)["state_dict"]
    model.load_state_dict(translated({key.removeprefix("model."): value for key, value in state.items()}))
    return model.eval()


def translated(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reference's weights under our names, in our order of heads and dimensions."""
    group = HEADS // KV_HEADS
    heads = [g * KV_HEADS + j for j in range(KV_HEADS) for g in range(group)]
    half, turned = HEAD_DIM // 2, ROPE_DIM // 2
    dims = [
        *range(0, ROPE_DIM, 2), *range(ROPE_DIM, ROPE_DIM + half - turned),
        *range(1, ROPE_DIM, 2), *range(ROPE_DIM + half - turned, HEAD_DIM),
    ]  # fmt: skip
    ours = {
        "table.weight": theirs["output_emb.emb.weight"],
        "input_padding": theirs["input_padding"],
        "fuser.gate": theirs["add_gate"],
        "backbone.norm.weight": torch.ones(WIDTH),
    }
    pairs = {"ln_in": "input_norm", "ln_out": "output_norm", "ln_fuse": "norm", "proj_in_to_out": "project"}
    pairs = {there: f"fuser.{here}" for there, here in pairs.items()}
    for i in range(DEPTH):
        here, there = f"backbone.layers.{i}.", "decoder.attn_layers.layers."
        pairs[f"{there}{2 * i + 1}.1.ff.0.0"] = f"{here}feedforward.up"
        pairs[f"{there}{2 * i + 1}.1.ff.2"] = f"{here}feedforward.out"
        attention = {key.removeprefix(f"{there}{2 * i}.1."): value for key, value in theirs.items()}
        q, k, v = (attention[f"to_{n}.weight"].unflatten(0, (-1, HEAD_DIM)) for n in "qkv")
        ours[f"{here}attention.qkv.weight"] = torch.cat([q[heads][:, dims], k[:, dims], v]).flatten(0, 1)
        out = attention["to_out.weight"].unflatten(1, (-1, HEAD_DIM))
        ours[f"{here}attention.out.weight"] = out[:, heads].flatten(1)
        q_scale = attention["qk_norm_q_scale"][heads] * 10 / math.sqrt(HEAD_DIM)
        ours[f"{here}attention.qk_scale"] = torch.cat([q_scale, attention["qk_norm_k_scale"]])[..., dims]
        ours |= {f"{here}{norm}.weight": torch.ones(WIDTH) for norm in ("attention_norm", "feedforward_norm")}
    for part in ("weight", "bias"):
        ours[f"heads.{part}"] = torch.cat([theirs[f"decoder.to_logits.out_heads.{q}.{part}"] for q in range(4)])
    for there, here in pairs.items():
        ours |= {f"{here}.{part}": theirs[f"{there}.{part}"] for part in ("weight", "bias")}
    return ours


def labels_of(data: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"instrument": data["inst_tokens"] - 1}


@pytest.mark.parametrize("name", STREAMING)
def test_layout_fusion_and_logits_agree(name):
    data, model = arrays(name), model_like(name)
    held = model.layout.clip(data["codes_lm"] - FIRST_CODE)
    x, start = model.layout.inputs(data["input_emb"], model.input_padding), model.start(labels_of(data))
    assert torch.allclose(model.fuser.fuse(x, model.embed(held, start)), data["fused_embedding"], atol=1e-5)
    logits = model(data["input_emb"], held, labels_of(data))
    assert torch.allclose(logits, data["raw_logits"], atol=1e-4)

    mask, target = data["logits_mask"], model.layout.targets(data["codes_lm"])
    aligned = torch.zeros(*mask.shape, logits.shape[-1])
    for q in range(4):
        aligned[:, q, : 17 - q] = logits[:, q, q:17][:, :16]
        assert torch.equal(target[:, q, q:16], data["codes_lm"][:, q, : 16 - q])
    assert torch.allclose(aligned[mask], data["logits"][mask], atol=1e-4)
    loss = F.cross_entropy(aligned[mask], data["codes_lm"][mask])
    assert torch.allclose(loss, torch.from_numpy(fixture(f"{name}.npz")["loss"]), atol=1e-5)


def test_rows_without_input_agree():
    data, model = arrays(CHUNKED), model_like(CHUNKED)
    held = model.layout.clip(data["codes_lm"] - FIRST_CODE)
    x, start = model.layout.inputs(data["input_emb"], model.input_padding), model.start(labels_of(data))
    e = model.embed(held, start)
    for context in (0, 4, 8, 12):
        fused = model.fuser.fuse(x[:, : context + 1], e[:, : context + 1])
        alone = model.fuser.fuse(None, e[:, context + 1 : context + 5])
        rows = torch.cat([fused, alone], dim=1)
        assert torch.allclose(rows, data[f"ctx{context}_model_input"], atol=1e-5)
        level = model.heads(model.backbone(rows))[:, context : context + 4, : FIRST_CODE + CODES]
        assert torch.allclose(level, data[f"ctx{context}_logits"][:, 0], atol=1e-4)


class _Open(Model):
    """Samples any id but PAD, as the reference does: its classes count as codes, and the start is given by id."""

    instruments: Tensor

    def start(self, labels):
        return self._look_up(self.instruments[:, None, None].expand(-1, 4, 1))[:, :, 0]


@pytest.mark.parametrize("name", ["dec_online_tf-2", CHUNKED])
def test_greedy_sessions_play_what_the_reference_plays(name):
    data = arrays(name)
    model = model_like(name, _Open, codes=CODES + 18, classes=0)
    model.instruments = data["inst_tokens"]
    sampler = TopK(TopK.Config(temperature=0.0), model.space)
    session = TokenSession(model, sampler, sessions=torch.arange(2), labels={}, window=64)
    session.push(data["input_emb"])
    ids = session.pull()[:, :, :16] + 1
    there = data["greedy_cache"] != 0  # 0 where the reference's last steps are cut
    assert there.sum() > 100
    assert torch.equal(ids[there], data["greedy_cache"][there])
