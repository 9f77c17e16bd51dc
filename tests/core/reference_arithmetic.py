"""What the public code of the streaming paper computes, written down anew from its weights' names: plain arithmetic.

Nothing here knows accomp. Tests compare these functions with the arrays that the reference itself made, then accomp
with these functions, for models that the reference never ran. Ids are the reference's: 0 PAD, 1..18 instruments, then
codes (StemGen: 0 PAD, 1 mask, then codes). `w` maps names, without "model.", to tensors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]
LEVELS, INSTRUMENTS = 4, 18
WIDTH, HEADS, KV_HEADS, HEAD_DIM, PAIRS, LATENTS, CODES = 64, 4, 2, 64, 16, 24, 32


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(()))


def layer_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def turned(x: Tensor, inv_freq: Tensor) -> Tensor:
    """x [B, H, S, d]: neighbours (2i, 2i + 1) turn by position * inv_freq[i]; what has no inv_freq stays."""
    x, angle = x.clone(), torch.arange(x.shape[2])[:, None] * inv_freq
    end = 2 * len(inv_freq)
    even, odd = x[..., 0:end:2].clone(), x[..., 1:end:2].clone()
    x[..., 0:end:2] = even * angle.cos() - odd * angle.sin()
    x[..., 1:end:2] = odd * angle.cos() + even * angle.sin()
    return x


def transformer(w: Weights, root: str, h: Tensor, scale: float, *, causal: bool) -> Tensor:
    """h [B, S, D] -> [B, S, D]."""
    root = f"{root}.attn_layers"
    depth = sum(name.endswith("to_q.weight") for name in w)
    for layer in range(depth):
        h = h + attention(
            w, f"{root}.layers.{2 * layer}.1", rms(h), w[f"{root}.rotary_pos_emb.inv_freq"], scale, causal
        )
        ff = f"{root}.layers.{2 * layer + 1}.1.ff"
        inner = linear(w, f"{ff}.0.0", rms(h))
        h = h + linear(w, f"{ff}.2", inner * inner.sigmoid())
    return rms(h)


def rms(h: Tensor) -> Tensor:
    return unit(h) * math.sqrt(h.shape[-1])


def attention(w: Weights, at: str, h: Tensor, inv_freq: Tensor, scale: float, causal: bool) -> Tensor:
    def split(name: str) -> Tensor:
        return linear(w, f"{at}.to_{name}", h).unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2)

    q = turned(unit(split("q")) * w[f"{at}.qk_norm_q_scale"], inv_freq)
    k = turned(unit(split("k")) * w[f"{at}.qk_norm_k_scale"], inv_freq)
    v = split("v")
    heads = []
    for head in range(q.shape[1]):
        shared = head % k.shape[1]
        scores = scale * q[:, head] @ k[:, shared].mT
        if causal:
            scores = scores + torch.full_like(scores[0], -math.inf).triu(1)
        heads.append(scores.softmax(-1) @ v[:, shared])
    return linear(w, f"{at}.to_out", torch.cat(heads, dim=-1))


def delayed(ids: Tensor, instrument: Tensor) -> Tensor:
    """ids [B, K, T] -> [B, K, T + 1]: level q comes q + 1 steps late, behind the instrument; its tail is cut."""
    rows = instrument[:, None, None].repeat(1, ids.shape[1], ids.shape[2] + 1)
    for q in range(ids.shape[1]):
        rows[:, q, q + 1 :] = ids[:, q, : ids.shape[2] - q]
    return rows


def embedded(w: Weights, ids: Tensor) -> Tensor:
    """ids [B, K, S] -> [B, S, D]; the rows of level q are those from q * V on."""
    table = w["output_emb.emb.weight"]
    return sum(table[ids[:, q] + q * len(table) // ids.shape[1]] for q in range(ids.shape[1]))


def fused(w: Weights, x: Tensor, e: Tensor) -> Tensor:
    """x [B, S, E], e [B, S, D] -> [B, S, D]."""
    if "dec_input_emb.weight" in w:
        return linear(w, "dec_input_emb", torch.cat([x, e], dim=-1))
    x = layer_norm(w, "ln_in", x)
    x = linear(w, "proj_in_to_out", x) if "proj_in_to_out.weight" in w else x
    return layer_norm(w, "ln_fuse", x + layer_norm(w, "ln_out", e) * w["add_gate"])


def rows(w: Weights, x: Tensor, ids: Tensor, instrument: Tensor, t_f: int) -> tuple[Tensor, Tensor]:
    """x [B, T, E], ids [B, K, T] -> the inputs [B, S, E] and ids [B, K, S] that stand side by side."""
    held = delayed(ids, instrument)
    if t_f <= 0:
        x = torch.cat([w["input_padding"].expand(len(x), -1, -1), x], dim=1)
        return x[:, : x.shape[1] + t_f], held
    pad = torch.zeros(*held.shape[:2], t_f - 1, dtype=torch.int64)
    return x, torch.cat([pad, held], dim=2)[:, :, :-t_f]


def heads(w: Weights, h: Tensor, name: str = "decoder.to_logits.out_heads") -> Tensor:
    """h [B, S, D] -> logits [B, K, S, V]."""
    return torch.stack([linear(w, f"{name}.{q}", h) for q in range(LEVELS)], dim=1)


def streaming(w: Weights, x: Tensor, ids: Tensor, instrument: Tensor, t_f: int, scale: float) -> Tensor:
    """k = 1, teacher-forced -> logits [B, K, S, V] of every row; the first t_f - 1 of them predict nothing."""
    x, held = rows(w, x, ids, instrument, t_f)
    return heads(w, transformer(w, "decoder", fused(w, x, embedded(w, held)), scale, causal=True))


def chunk(
    w: Weights, x: Tensor, ids: Tensor, instrument: Tensor, t_f: int, scale: float, k: int, context: int
) -> tuple[Tensor, Tensor]:
    """The chunk after `context` steps: the rows that it is computed from [B, S, D], its logits [B, K, k, V].

    Rows up to the one that predicts its first step have an input; the k after them hold its own steps, without.
    """
    x, held = rows(w, x, ids, instrument, t_f)
    end = context + max(1, t_f)
    alone = layer_norm(w, "ln_out", embedded(w, held[:, :, end : end + k]))
    h = torch.cat([fused(w, x[:, :end], embedded(w, held[:, :, :end])), alone], dim=1)
    return h, heads(w, transformer(w, "decoder", h, scale, causal=True))[:, :, end - 1 : end - 1 + k]


def offline_prefix(w: Weights, x: Tensor, ids: Tensor, instrument: Tensor, scale: float) -> Tensor:
    """The whole input in front of the output -> logits [B, K, T + 1, V]."""
    h = torch.cat([linear(w, "input_emb_fc", x), embedded(w, delayed(ids, instrument))], dim=1)
    return heads(w, transformer(w, "decoder", h, scale, causal=True))[:, :, x.shape[1] :]


def stemgen(w: Weights, x: Tensor, tokens: Tensor, instrument: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """tokens [B, K, T], 1 where masked, instrument [B] from 0 -> fused [B, T, D], logits [B, K, T, C]."""
    codes = w["output_layer.output_fc.0.bias"].shape[0]
    e = sum(w["input_emb.target_token_emb.weight"][tokens[:, q] + q * codes] for q in range(tokens.shape[1]))
    label = w["input_emb.inst_emb.weight"][instrument][:, None]
    h = torch.cat([linear(w, "input_emb.input_fc", x) + label, e + label], dim=-1)
    return h, heads(w, transformer(w, "encoder", h, scale, causal=False), "output_layer.output_fc")


def random_weights(kind: str, *, t_f: int = 0, latents: int = LATENTS, codes: int = CODES, seed: int = 0) -> Weights:
    """Weights, none of them 0, of a tiny "add" or "concat" model (both stream), an "offline" or a "stemgen" one."""
    rng, ids = torch.Generator().manual_seed(seed), 1 + INSTRUMENTS + codes
    root = "encoder" if kind == "stemgen" else "decoder"
    w: Weights = {f"{root}.attn_layers.rotary_pos_emb.inv_freq": 10_000.0 ** (-torch.arange(PAIRS) / PAIRS)}

    def add(name: str, *shape: int, std: float | None = None, mean: float = 0.0) -> None:
        std = shape[-1] ** -0.5 if std is None else std
        w[name] = mean + std * torch.randn(shape, generator=rng)

    def add_linear(name: str, rows: int, columns: int, bias: bool = True) -> None:
        add(f"{name}.weight", rows, columns)
        if bias:
            add(f"{name}.bias", rows, std=0.1)

    for layer in (0, 2):
        at, ff = (f"{root}.attn_layers.layers.{number}.1" for number in (layer, layer + 1))
        add(f"{at}.qk_norm_q_scale", HEADS, 1, HEAD_DIM, std=0.3, mean=1.0)
        add(f"{at}.qk_norm_k_scale", KV_HEADS, 1, HEAD_DIM, std=0.3, mean=1.0)
        for name, count in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            add_linear(f"{at}.to_{name}", count * HEAD_DIM, WIDTH, bias=False)
        add_linear(f"{at}.to_out", WIDTH, HEADS * HEAD_DIM, bias=False)
        add_linear(f"{ff}.ff.0.0", 4 * WIDTH, WIDTH)
        add_linear(f"{ff}.ff.2", WIDTH, 4 * WIDTH)
    for q in range(LEVELS):
        if kind == "stemgen":
            add_linear(f"output_layer.output_fc.{q}", codes, WIDTH)
            w |= {
                f"encoder.to_logits.output_fc.{q}.{p}": w[f"output_layer.output_fc.{q}.{p}"] for p in ("weight", "bias")
            }
        else:
            add_linear(f"decoder.to_logits.out_heads.{q}", ids, WIDTH)
    if kind == "stemgen":
        add("input_emb.target_token_emb.weight", 2 + LEVELS * codes, WIDTH // 2, std=1.0)
        add("input_emb.inst_emb.weight", INSTRUMENTS, WIDTH // 2, std=1.0)
        add_linear("input_emb.input_fc", WIDTH // 2, latents)
        return w
    add("output_emb.emb.weight", LEVELS * ids, WIDTH, std=1.0)
    if kind == "offline":
        add_linear("input_emb_fc", WIDTH, latents)
        return w
    if t_f <= 0:
        add("input_padding", 1 - t_f, latents, std=1.0)
    if kind == "concat":
        add_linear("dec_input_emb", WIDTH, latents + WIDTH)
        return w
    add("add_gate", WIDTH, std=1.0)
    for name, width in (("ln_in", latents), ("ln_out", WIDTH), ("ln_fuse", WIDTH)):
        add(f"{name}.weight", width, std=0.3, mean=1.0)
        add(f"{name}.bias", width, std=0.3)
    if latents != WIDTH:
        add_linear("proj_in_to_out", WIDTH, latents)
    return w
