"""The suite's own rules hold: a test without exactly one kind is refused."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

_CONFTEST = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("marks", ["", "@pytest.mark.unit\n@pytest.mark.golden\n"])
def test_a_test_without_exactly_one_kind_is_refused(pytester: pytest.Pytester, marks: str) -> None:
    pytester.makeconftest(_CONFTEST)
    pytester.makeini("[pytest]\nmarkers =\n  unit\n  golden\n")
    pytester.makepyfile(f"import pytest\n{marks}def test_something(): pass\n")
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*needs exactly one marker*"])


def test_a_test_with_one_kind_runs(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(_CONFTEST)
    pytester.makeini("[pytest]\nmarkers =\n  unit\n")
    pytester.makepyfile("import pytest\n@pytest.mark.unit\ndef test_something(): pass\n")
    pytester.runpytest().assert_outcomes(passed=1)
