"""What manifests of single families hold besides the common fields."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Token = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """Refuses what it does not know: a field that is misspelt must not be dropped without a word."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MoonshineSettings(Strict):
    """Family `moonshine`: how text is generated.

    Attributes:
        encoder: file of the encoder.
        decoder: file of the decoder, with and without a cache in one network.
        tokenizer: file of the vocabulary, `tokenizer.json` of Hugging Face tokenizers.
        start: token that starts every text.
        end: token that ends it.
        tokens_per_second: most tokens by second of audio.
        longest_seconds: longest piece that the network is given at once; longer recordings are cut at pauses.
    """

    encoder: FileName = "encoder_model.onnx"
    decoder: FileName = "decoder_model_merged.onnx"
    tokenizer: FileName = "tokenizer.json"
    start: Token = 1
    end: Token = 2
    tokens_per_second: Annotated[float, Field(gt=0, le=50)] = 8.0
    longest_seconds: Annotated[float, Field(ge=2, le=60)] = 24.0


class Waveform(Strict):
    """Front end of a network that takes samples.

    Attributes:
        kind: "waveform".
        scale: factor of samples between -1 and 1; 32768 for networks trained on 16-bit numbers.
        normalise: "utterance" for a mean of 0 and a variance of 1 over each piece, as wav2vec 2.0 wants it.
    """

    kind: Literal["waveform"] = "waveform"
    scale: Positive = 1.0
    normalise: Literal["none", "utterance"] = "none"


class LogMel(Strict):
    """Front end of a network that takes the logs of mel energies; the options are those of kaldi-native-fbank.

    Attributes:
        kind: "log-mel".
        bins: mel filters.
        window: shape of the window; "hanning" is Kaldi's name, "hann" the periodic one of torch.
        frame_length_ms: length of the window.
        frame_shift_ms: step of the window.
        preemphasis: coefficient; 0 for none.
        remove_dc_offset: take each window's mean off.
        round_to_power_of_two: length of the Fourier transform.
        snip_edges: only windows that lie within the recording; otherwise its edges are mirrored.
        low_freq: lower edge of the lowest filter, in Hz.
        high_freq: upper edge of the highest, in Hz; 0 and less counts from half the sample rate.
        mel: "htk" for Kaldi's triangles of height 1, "slaney" for librosa's of area 1.
        power: squared magnitudes rather than magnitudes.
        scale: factor of samples between -1 and 1.
        normalise: "mean" and "mean-variance" work on each bin over the piece; "global" takes `mean` and
            `inverse_deviation`.
        mean: of each bin over the training data.
        inverse_deviation: one by the standard deviation of each bin over the training data.
        layout: axes of the network's input after the batch.
    """

    kind: Literal["log-mel"] = "log-mel"
    bins: Annotated[int, Field(ge=1, le=256)] = 80
    window: Literal["povey", "hanning", "hann", "hamming", "blackman", "rectangular", "sine"] = "povey"
    frame_length_ms: Annotated[float, Field(gt=0, le=200)] = 25.0
    frame_shift_ms: Annotated[float, Field(gt=0, le=100)] = 10.0
    preemphasis: Annotated[float, Field(ge=0, le=1)] = 0.97
    remove_dc_offset: bool = True
    round_to_power_of_two: bool = True
    snip_edges: bool = True
    low_freq: Annotated[float, Field(ge=0)] = 20.0
    high_freq: float = 0.0
    mel: Literal["htk", "slaney"] = "htk"
    power: bool = True
    scale: Positive = 32_768.0
    normalise: Literal["none", "mean", "mean-variance", "global"] = "none"
    mean: tuple[float, ...] = ()
    inverse_deviation: tuple[float, ...] = ()
    layout: Literal["frames-bins", "bins-frames"] = "frames-bins"

    @model_validator(mode="after")
    def _statistics_fit(self) -> LogMel:
        wanted = self.bins if self.normalise == "global" else 0
        if len(self.mean) != wanted or len(self.inverse_deviation) != wanted:
            raise ValueError(f"normalise {self.normalise!r} takes {wanted} values of mean and of inverse_deviation")
        return self


class CtcSettings(Strict):
    """Family `ctc`: a network that somebody exported, and how its answer is read.

    The manifest's `subsampling` counts frames of the front end (samples, for a waveform) by output frame; a waveform's
    may be left at 1: it is then worked out from each answer.

    Attributes:
        front_end: what the network takes.
        tokens: file of the vocabulary: a line for each token, with or without its number behind it, or JSON: a list,
            or numbers by token.
        blank: the blank of CTC, as a token or as its number.
        word_start: a token that begins with this starts a word.
        separator: a token that stands between words, or None.
        joiner: what is put between the tokens of a word; nothing for letters and word pieces.
        silent: tokens that leave no text.
        audio_input: name of the input for the features; None: the network's only input of floats.
        lengths_input: name of the input for their number; None: the network's only input of integers, if it has one.
        output: name of the output, [batch, frames, tokens]; None: the first one of that kind.
        longest_seconds: longest piece that the network is given at once; longer recordings are cut at pauses.
    """

    front_end: Annotated[Waveform | LogMel, Field(discriminator="kind")]
    tokens: FileName = "tokens.txt"
    blank: int | str = 0
    word_start: str = "▁"
    separator: str | None = None
    joiner: str = ""
    silent: tuple[str, ...] = ("<unk>", "<s>", "</s>", "<pad>", "<sos/eos>")
    audio_input: str | None = None
    lengths_input: str | None = None
    output: str | None = None
    longest_seconds: Annotated[float, Field(ge=2, le=600)] = 30.0
