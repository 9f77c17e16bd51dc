"""Training by losses on audio, common to all codecs with a waveform or a vocoder."""
