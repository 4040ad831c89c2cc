"""What docs/variants.md says of every arch, against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lit_gan.config import names

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "variants.md").read_text()
SECTIONS = {heading: text for text in PAGE.split("\n## ")[1:] for heading in text.splitlines()[0].split(", ")}
COUNT = re.compile(r"\d{1,3}(?:,\d{3})+(?! classes)|\d+\.\d\d(?= M)")


def test_every_parameter_count_of_the_page_stands_in_the_test_that_it_names():
    rows = [row for row in SECTIONS["Parameters"].splitlines() if row.startswith("|")][2:]

    for row in rows:
        _, setting, generator, discriminator, _, tests = (cell.strip() for cell in row.split("|")[1:-1])
        counts = COUNT.findall(f"{setting} {generator} {discriminator}")
        files = [ROOT / "tests" / f"{name}.py" for name in re.findall("`(.*?)`", tests)]
        assert counts, row
        assert files, row
        for file in files:
            text = file.read_text()
            assert [count for count in counts if count.replace(",", "_") not in text] == [], row


@pytest.mark.parametrize("arch", names("arch"))
def test_every_arch_has_a_section_that_says_when_to_choose_it_and_what_is_left_out(arch):
    section = SECTIONS[arch]

    assert re.search(r"[Cc]hoose|default choice", section)
    assert "Left out" in section or "Differs" in section
