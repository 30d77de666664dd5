"""The images of `Dockerfile`, built and started as `docker-compose.yml` says, by a real Docker."""
