"""Broken plugins: causal sampler."""

from accomp.plugins.samplers.top_k import TopK
from broken_plugins.register import breaks


@breaks("sampler", 'is built by cls(config, space) and states decoding, "causal" or "masked"')
class NoDecoding(TopK):
    decoding = None


@breaks("sampler", "pick: logits [B, K, C] -> codes [B, K] int64 in [0, C): codes is torch.int32")
class Int32(TopK):
    def pick(self, logits, rng):
        return super().pick(logits, rng).int()


@breaks("sampler", "pick: logits [B, K, C] -> codes [B, K] int64 in [0, C): codes leave [0, 20)")
class OffByOne(TopK):
    def pick(self, logits, rng):
        return super().pick(logits, rng) + 1


@breaks("sampler", "the same noise gives the same codes")
class Counts(TopK):
    calls = 0

    def pick(self, logits, rng):
        self.calls += 1
        return (super().pick(logits, rng) + self.calls) % logits.shape[-1]


@breaks("sampler", "a row does not depend on the others of its batch")
class Normalises(TopK):
    def pick(self, logits, rng):
        return super().pick((logits - logits.mean(0)) / 0.1, rng)


@breaks("sampler", "does not change its logits")
class InPlace(TopK):
    def pick(self, logits, rng):
        return super().pick(logits.mul_(2.0), rng)


@breaks("sampler", "a code that is certain is picked")
class Uniform(TopK):
    def pick(self, logits, rng):
        return rng.gumbel(logits.shape[-1]).argmax(-1)


@breaks("sampler", "runs inside a compiled step: one graph, no break")
class Branches(TopK):
    def pick(self, logits, rng):
        return logits.argmax(-1) if logits.max().item() < 0 else super().pick(logits, rng)
