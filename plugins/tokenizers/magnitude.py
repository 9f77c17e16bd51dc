"""The `magnitude` tokenizer: codes that say magnitudes only, phases made by rule, with weights that come along."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.plugin import PluginError, Stream, TokenSpace
from accomp.plugins.tokenizers.codec.files.vocoder_files import load_vocoder
from accomp.plugins.tokenizers.codec.files.weight_files import load_network, locate, own_sizes, untrained
from accomp.plugins.tokenizers.codec.fingerprint import fingerprint_of
from accomp.plugins.tokenizers.codec.networks.magnitude_network import (
    DELAY,
    HOP,
    SAMPLE_RATE,
    STEP,
    WINDOW,
    MagnitudeNetwork,
    magnitudes_of,
)
from accomp.plugins.tokenizers.codec.networks.pitch_circles import SIZE
from accomp.plugins.tokenizers.codec.networks.vocoder import Vocoder
from accomp.plugins.tokenizers.codec.phase import phase_rule
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.codec.streams.codec import FrozenCodec
from accomp.plugins.tokenizers.codec.streams.live_path import LivePath

Phase = Literal["heap", "peaks"]
_DECODER = ("decoder_blocks", "tuner_blocks")
_OPTIONAL: dict[str, Any] = {"tuner_blocks": 0, "circles": 0}
"""Sizes that files need not state, and what they are then."""
_NOT_SIZES = ("weights", "seed", "phase", "rounds", "vocoder", "stay", "continuous")


class Magnitude(FrozenCodec):
    """32 kHz mono, hop 640 (50 Hz), causal: STFT magnitudes in the codes, phases from the magnitudes.

    Frame i depends on samples up to its own last one (lookahead 0). A sample has all its windows 1120 samples later
    (delay 1120, 35 ms). Levels are unchanged: nothing is normalised. On a CPU the order of operations is fixed, so that
    streams are bit-identical to the offline call.
    """

    network: Any

    @frozen(kw_only=True)
    class Config:
        """Which weights, the sizes they must have, and how sound is made of them.

        Attributes:
            weights: "default" (shipped), a path, "hub:owner/repo/file[@revision]", or "random" (untrained, for tests).
            codebooks: K, the first so many of the file's (the shipped one has 8).
            codebook_size: C.
            bands, latent: mel bands of a sub-frame, and the numbers that stand for them, in which codes are looked up.
            width, hidden: of the blocks.
            encoder_blocks, decoder_blocks, kernel: how many, and the frames in each one's receptive field.
            tuner_blocks: of the part of a decoder that estimates frequencies (see tuner.py) in a new decoder; 0: none.
                Weights in a file come with theirs, or without.
            circles: the level from which on a frame's pitch within a semitone is quantized, too (see pitch_circles.py),
                in SIZE more dimensions than `latent`; 0: none. As the weights have it, since the size of a latent
                follows from it.
            phase: the rule that makes phases: "peaks" (also in batches on a GPU), or "heap" (always on the CPU).
            rounds: of Griffin-Lim after the rule.
            vocoder: weights of a network that corrects what the rule makes, a path or "hub:..."; "" for none. Codes,
                and the fingerprint, are the same with it and without.
            continuous: 0 for codes; n for no codes but n whitened latents a frame, 4 to the size of what is quantized
                otherwise: its first principal components, each over its deviation, those of the magnitudes before those
                of the circles. `encode` then gives [B, n, T] float32, rounded to float16, which is what a token store
                keeps.
            stay: a level keeps the frame before's code where its squared distance is at most 1 + stay times the least:
                sustained sounds keep their codes, so that they are steadier and easier to predict.
            seed: of random weights.
        """

        weights: str = "default"
        codebooks: int = field(default=4, validator=v.gt(0))
        codebook_size: int = field(default=1024, validator=v.gt(1))
        bands: int = field(default=96, validator=v.gt(0))
        latent: int = field(default=64, validator=v.gt(0))
        width: int = field(default=192, validator=v.gt(0))
        hidden: int = field(default=576, validator=v.gt(0))
        encoder_blocks: int = field(default=3, validator=v.ge(0))
        decoder_blocks: int = field(default=5, validator=v.ge(0))
        kernel: int = field(default=7, validator=v.gt(0))
        tuner_blocks: int = field(default=0, validator=v.ge(0))
        circles: int = field(default=4, validator=v.ge(0))
        phase: Phase = "peaks"
        rounds: int = field(default=2, validator=v.ge(0))
        vocoder: str = ""
        continuous: int = field(default=0, validator=v.ge(0))
        stay: float = field(default=0.15, validator=v.ge(0.0))
        seed: int = field(default=0, validator=v.ge(0))

        @bands.validator
        @latent.validator
        @width.validator
        @hidden.validator
        @continuous.validator
        def _in_fours(self, attribute: attrs.Attribute, value: int) -> None:
            if value % 4:
                raise ValueError(f"{attribute.name} {value}; expected a multiple of 4")
            if attribute.name == "continuous" and value > self.latent_dim:
                raise ValueError(f"continuous {value}; expected at most {self.latent_dim}, the size of a latent")

        @property
        def latent_dim(self) -> int:
            """E: the size of what is quantized."""
            return self.latent + (SIZE if self.circles else 0)

    def __init__(self, config: Config):
        """Raises CheckpointError, saying what to do, when weights are missing, of other sizes, or of two codecs."""
        config = self._as_the_file(config)
        sizes = self.architecture(config)
        network = load_network(lambda: self.network_of(config), config.weights, "magnitude", sizes, config.seed)
        self._take(config, network)

    @classmethod
    def _as_the_file(cls, config: Config) -> Config:
        """The Config with the tuner that its weights have. Raises CheckpointError where there are none."""
        if config.weights == "random":
            return config
        return attrs.evolve(config, tuner_blocks=cls._optional_sizes(config.weights)["tuner_blocks"])

    @staticmethod
    def _optional_sizes(weights: str) -> dict[str, Any]:
        """What a file says of `_OPTIONAL`. Raises CheckpointError where there is no file."""
        stated = own_sizes(locate(weights, "magnitude"), "magnitude")
        return {key: stated.get(key, off) for key, off in _OPTIONAL.items()}

    def _take(self, config: Config, network: Any) -> None:
        self._config = config
        sizes = {key: value for key, value in self.architecture(config).items() if key not in _DECODER}
        chosen = {"continuous": config.continuous, "grid": "float16"} if config.continuous else {"stay": config.stay}
        super().__init__("magnitude", self.space_of(config), network, sizes | chosen, network.quantizer)
        vocoder = load_vocoder(config.vocoder, network) if config.vocoder else None
        self.decoder_fingerprint = fingerprint_of(
            [self.decoder_fingerprint, config.phase, config.rounds], vocoder.state_dict() if vocoder else {}
        )
        self.use_vocoder(vocoder)

    def identity_of(self, network: Any) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = network.encoder_tensors(continuous=self._config.continuous > 0)
        return tensors

    def use_vocoder(self, vocoder: Vocoder | None) -> None:
        """From now on streams that are opened sound by this vocoder, which is taken over and frozen; None: by none."""
        self._vocoder = vocoder and vocoder.eval().requires_grad_(False).to(self.device)
        self._live.clear()
        self._ready()

    def _ready(self) -> None:
        """Make what works on the present device."""
        rule, rounds = self._config.phase, self._config.rounds
        self._phases = phase_rule(rule, self.device, window=WINDOW, hop=STEP, rounds=rounds)
        self._cpu: tuple[LivePath, LivePath] | None = None
        if self.device.type == "cpu":
            try:
                from accomp.plugins.tokenizers.codec.streams.cpu.network import (
                    CpuDecoder,
                    CpuEncoder,
                    CpuUnwhitener,
                    CpuWhitener,
                )
                from accomp.plugins.tokenizers.codec.streams.cpu.vocoder import CpuVocoder
            except ImportError as error:
                raise PluginError(
                    f"tokenizer 'magnitude' works on a CPU by numba, which could not be imported ({error}); "
                    "run: pip install 'accomp[codec]'"
                ) from error
            encoder = CpuEncoder(self.network, self._config.stay)
            vocoder = CpuVocoder(self._vocoder, self._phases) if self._vocoder else None
            decoder = CpuDecoder(self.network, self._phases, vocoder, circles=self._places)
            self._cpu = encoder, decoder
            if n := self._config.continuous:
                self._cpu = (
                    CpuWhitener(encoder, self.network, n),
                    CpuUnwhitener(decoder, self.network, n),
                )

    def to(self, device: torch.device | str) -> Magnitude:
        super().to(device)
        self.use_vocoder(self._vocoder)
        return self

    @property
    def prepares_quickly(self) -> bool:
        return self._cpu is not None

    def prepare(self, batch: int = 1, frames: int = 1) -> None:
        """On a CPU all is compiled already."""
        if self._cpu is None:
            super().prepare(batch, frames)

    def _encoder(self, batch: int, live: LivePath | None) -> Stream:
        return super()._encoder(batch, self._cpu[0] if self._cpu else live)

    def _decoder(self, batch: int, live: LivePath | None) -> Stream:
        return super()._decoder(batch, self._cpu[1] if self._cpu else live)

    def encode_on(self, audio: Tensor, history: History) -> Tensor:
        z = self.network.encode(audio, history)
        if n := self._config.continuous:
            white: Tensor = self._whitening(z, n)
            return white.transpose(1, 2).half().float()
        codes: Tensor = self.network.quantizer.codes(z, self._config.stay, history)
        return codes

    def decode_on(self, codes: Tensor, history: History) -> Tensor:
        z = self.embed(codes)
        z = self._whitening.back(z) if self._config.continuous else z
        magnitudes, tuning = self.magnitudes(z, history)
        if self._vocoder is None:
            return self._phases(magnitudes, self._state(history, len(z)), tuning)
        corrected = self._vocoder(self.settled(magnitudes, history, tuning), z, history)
        return self._phases.sound(corrected, self._sum(history, len(z)))

    def magnitudes(self, z: Tensor, history: History) -> tuple[Tensor, Tensor | None]:
        """Latents [B, T, E] -> magnitudes [B, T * 4, 641], and the corrections of frequencies [B, T * 4, 96]."""
        logs, tuning = self.network.decode_in_tune(z, history)
        magnitudes = magnitudes_of(logs).flatten(1, 2)
        return magnitudes, self.network.placed(z, magnitudes, tuning) if self._places else tuning

    def settled(self, magnitudes: Tensor, history: History, tuning: Tensor | None = None) -> Tensor:
        """Magnitudes [B, n, 641] -> what the phase rule makes of them, [B, n, 2, 641]; see PhaseRule.spectra."""
        return self._phases.spectra(magnitudes, self._state(history, len(magnitudes)), tuning)

    @property
    def _places(self) -> bool:
        """Whether circles move frequencies: some of all components have lost the angles."""
        n: int = self._config.continuous
        return self._config.circles > 0 and (not n or n == self._config.latent_dim)

    @property
    def _whitening(self) -> Any:
        return self.network.whitening

    def embed(self, codes: Tensor) -> Tensor:
        return self.check(codes).transpose(1, 2) if self._config.continuous else super().embed(codes)

    def tail_on(self, history: History, batch: int) -> Tensor:
        held = self._sum(history, batch) if self._vocoder else self._state(history, batch)[:, -WINDOW:]
        return self._phases.tail(held).to(self.device)

    def _state(self, history: History, batch: int) -> Tensor:
        return history.of(self._phases, lambda: self._phases.begin(batch, self.device))

    def _sum(self, history: History, batch: int) -> Tensor:
        return history.of(self._vocoder, lambda: self._phases.begin_sum(batch, self.device))

    @classmethod
    def space_of(cls, config: Config) -> TokenSpace:
        """What the codes of a codec so configured mean; no weights are loaded."""
        codes = config.codebooks, config.codebook_size, config.latent_dim
        levels = (0, 0, config.continuous) if config.continuous else codes
        return TokenSpace(SAMPLE_RATE, HOP, *levels, lookahead=0, delay=DELAY)

    @classmethod
    def architecture(cls, config: Config) -> dict[str, Any]:
        """The sizes that weights must fit; files without a tuner, or without circles, say nothing of it."""
        sizes = attrs.asdict(config, filter=lambda a, _: a.name not in _NOT_SIZES)
        return {key: size for key, size in sizes.items() if key not in _OPTIONAL or size != _OPTIONAL[key]}

    @classmethod
    def beginning(cls, config: Config, weights: str, seed: int) -> MagnitudeNetwork:
        """What training from such weights begins with.

        Where they have no tuner, it is untrained; where they have no circles, the levels that quantize these are yet to
        be fitted. Raises CheckpointError as the constructor, and for weights of other sizes.
        """
        lacking: dict[str, Any] = {}
        if weights != "random":
            lacking = {key: size for key, size in cls._optional_sizes(weights).items() if size == _OPTIONAL[key]}
        wanted = attrs.evolve(config, **lacking)
        network: Any = load_network(
            lambda: cls.network_of(wanted), weights, "magnitude", cls.architecture(wanted), seed
        )
        if wanted == config:
            begun: MagnitudeNetwork = network
            return begun
        begun = untrained(lambda: cls.network_of(config), seed)
        begun.take(network)
        return begun

    @classmethod
    def network_of(cls, config: Config) -> MagnitudeNetwork:
        """An untrained network, from the global random state: what `accomp codec train` trains."""
        return MagnitudeNetwork(**cls.architecture(config))

    @classmethod
    def training(cls) -> tuple[type[Any], Any]:
        """The class of [train], and what makes the trainer."""
        from accomp.plugins.tokenizers.codec.training.magnitude.trainer import MagnitudeTrainSpec
        from accomp.plugins.tokenizers.codec.training.magnitude.trainers import trainer_of

        return MagnitudeTrainSpec, trainer_of

    @classmethod
    def parts(cls) -> dict[str, Any]:
        """What else `accomp codec train` trains for this codec, by the name that [codec] part gives it."""
        from accomp.plugins.tokenizers.codec.training.vocoder_part import VocoderPart

        return {"vocoder": VocoderPart(cls)}

    @classmethod
    def trained(cls, config: Config, network: Any) -> Magnitude:
        """The codec of a network that `accomp codec train` made; the network is taken over."""
        codec = cls.__new__(cls)
        codec._take(config, network)
        return codec
