"""New templates are read before a model with them is stored, by the check that Django wired in."""

import pytest

from registry.errors import InvalidTemplate
from registry.template_check import check_template


@pytest.mark.parametrize("template", ["", "{{ .Prompt }}", "{{ range .Messages }}x{{ end }}"])
def test_readable_template_is_accepted(template: str) -> None:
    check_template(template)


@pytest.mark.parametrize(
    "template", ["{{ .System", "{{ if }}x{{ end }}", "{{ nope .Prompt }}", "x{{ end }}"]
)
def test_broken_template_is_refused(template: str) -> None:
    with pytest.raises(InvalidTemplate, match=r"^template error: ."):
        check_template(template)
