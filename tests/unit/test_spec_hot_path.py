"""What decoding and validating load: nothing beyond what a hot verb may, and no section that is absent."""

from loaded import loaded_by, unwanted
from spec_documents import SOUND

_CHECK = """
from boxwright.spec.decode import decode
from boxwright.spec.jsontext import encode_json, parse_json
from boxwright.spec.validate import refuse, validate
"""
_SOUND = f"refuse(validate(decode(encode_json({SOUND!r}).encode())))"


def _after(statement: str) -> frozenset[str]:
    return loaded_by("; ".join([*_CHECK.split("\n")[1:-1], statement]))


def test_a_sound_document_loads_nothing_unwanted():
    loaded = _after(_SOUND)
    assert unwanted(loaded) == frozenset()
    cold = {"hints", "tojson", "unknown", "features", "texts", "types_vm", "types_other", "validate_other"}
    assert not {f"boxwright.spec.{name}" for name in cold} & loaded


def test_a_section_that_is_there_loads_its_own():
    loaded = _after("""decode(b'{"ociVersion":"1.0.0","vm":{"kernel":{"path":"/k"}}}')""")
    assert "boxwright.spec.types_vm" in loaded
    assert "boxwright.spec.types_other" not in loaded
    assert unwanted(loaded) == frozenset()


def test_the_constants_load_nothing_unwanted():
    loaded = _after("import boxwright.spec.constants, boxwright.spec.seccomp_constants, boxwright.spec.sysctl")
    assert unwanted(loaded) == frozenset()


def test_a_syntax_error_is_told_in_a_bare_interpreter_too():
    # Python up to 3.12 has no exception ready there: the scanner expects json.decoder to be loaded
    statement = """
import boxwright.errors as e
try: decode(b'{"a" 1}')
except e.ConfigError as error: assert 'column 6' in error.message, error.message
else: raise SystemExit('taken')
"""
    script = f"exec({statement!r})"
    assert "json.decoder" in _after(script)
