"""Models that others published: where they are, which bytes they must be, and how they become packages here."""

from models.catalogue.entries import ENTRIES, Entry, entry
from models.catalogue.install import add, pull, remove

__all__ = ["ENTRIES", "Entry", "add", "entry", "pull", "remove"]
