"""The output units: the CTC blank and the 39 phones of CMUdict without stress."""

_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_STOPS_AND_AFFRICATES = ("B", "CH", "D", "G", "JH", "K", "P", "T")
_FRICATIVES = ("DH", "F", "HH", "S", "SH", "TH", "V", "Z", "ZH")
_SONORANTS = ("L", "M", "N", "NG", "R", "W", "Y")

BLANK = "<blank>"
PHONES = tuple(sorted(_VOWELS + _STOPS_AND_AFFRICATES + _FRICATIVES + _SONORANTS))
UNITS = (BLANK, *PHONES)
INDEX = {unit: index for index, unit in enumerate(UNITS)}
