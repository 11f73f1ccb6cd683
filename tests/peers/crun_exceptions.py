"""Cases of crun's suite that crun passes and Boxwright does not mean to: `file/case` to the reason."""

EXCEPTIONS: dict[str, str] = {}
