"""Models in and out: files, formats, manifests and the use cases over them."""
