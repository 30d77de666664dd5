"""What can go wrong with a chat template, whatever its language.

Knows nothing of Django, HTTP or llama.cpp: the runner turns these into a `FailureCode`.
"""


class TemplateError(Exception):
    """A template could not be used; the text says why, in words for the model's owner."""


class TemplateParseError(TemplateError):
    """The source is not a template of its language."""


class TemplateRunError(TemplateError):
    """The template is well formed but failed on these messages."""


class TemplateLimitError(TemplateError):
    """The template asked for more time, memory or nesting than a template may have."""


class TemplateDepthError(TemplateLimitError):
    """The template went too deep, as one does that does not understand what it was given."""
