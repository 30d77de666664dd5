"""Other registries: models that are fetched from them, or brought to them.

`reference` says where a name leads and whether this site goes there, `credentials` and `tokens`
how it proves who it is, `client` sends requests and repeats what may be repeated, `download` and
`upload` move files. All of it is async; knows no row, no HTTP of this site's own and no job.
"""
