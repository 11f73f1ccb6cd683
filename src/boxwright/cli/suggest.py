"""Near misses: what somebody may have meant. Loaded only once something went wrong."""

from difflib import get_close_matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def did_you_mean(word: str, known: "Sequence[str]") -> str | None:
    """A hint that names the closest of the known words, or None where none is close."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None
