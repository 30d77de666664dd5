"""The one way out: every request that this site sends to another machine.

`hosts` says which machines may be asked, `urls` reads addresses, `addresses` looks names up and
refuses what is inside, `client` sends. Knows no feature: no image, no registry, no settings.
"""
